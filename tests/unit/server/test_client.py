"""A client and its generator process: replies, errors, death, silence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from fakes.waiting import wait_for
from firsttoken.engine.base import EngineSpec
from firsttoken.plan import Plan, Unsupported
from firsttoken.results import Facts, MemoryReport, SetupTimes
from firsttoken.server import protocol
from firsttoken.server.client import GeneratorClient, GeneratorCrashed, GeneratorDied, GeneratorError
from firsttoken.server.server import SWITCH_INTERVAL_S
from firsttoken.transient import Transient
from unit.server.scripted_generator import FAILING_THREADS

PLAN = Plan(prompt_lengths=(4,), new_tokens=4, max_context=64, dtype="float32", device="cpu")
COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("scripted_generator.py")))
SCRIPTS = Path(__file__).parents[3] / "scripts"


def spec(behaviour: str) -> EngineSpec:
    return EngineSpec(model_dir=f"/nowhere/{behaviour}", plan=PLAN, forward="graph", dynamic_operations="native")


def launch(behaviour: str, silence_s: float = 60.0) -> GeneratorClient:
    return GeneratorClient.launch(spec(behaviour), COMMAND, silence_s)


def test_a_request_gives_its_tokens_and_the_split_of_their_latency() -> None:
    with launch("counting") as client:
        setup = client.wait_until_ready()
        assert setup.load_s == 2.0 and setup.imports_s > 1.0  # the engine's own second, and the interpreter's start
        tokens: list[int] = []
        client.generate((40, 41), 600, tokens.append)
        assert tokens == list(range(40, 640))
        rows = client.timings()  # in two messages
        assert [row.launch_ns for row in rows] == list(range(600))
        assert all(row.ipc_ns is not None and row.ipc_ns > 0 and row.pool_hit for row in rows)
        assert rows[0].queue_ns is not None and rows[0].queue_ns > 0
        assert {row.queue_ns for row in rows[1:]} == {0}


def test_everything_else_goes_through_the_same_socket(tmp_path: Path) -> None:
    with launch("counting") as client:
        client.wait_until_ready()
        assert client.save_logits([1, 2], [3], tmp_path / "logits")
        assert (tmp_path / "logits").read_text() == "[1, 2] [3]"
        assert client.memory() == MemoryReport(graph_bytes=7)
        assert client.facts() == Facts(attention="sdpa", spin_us=0)
        before = client.counters()
        client.generate([1], 500, lambda token: None)
        after = client.counters()
        assert all(after[cpu] > before[cpu] > 0 for cpu in ("client_cpu_s", "generator_cpu_s"))


@pytest.mark.parametrize(("spin_us", "polls"), [(0, 0), (60_000_000, 5)])
def test_a_client_polls_before_it_blocks_where_the_generator_says_so(spin_us: int, polls: int) -> None:
    """Seen failing: a client that goes to sleep at once, or after a heartbeat. Here it would poll for a minute."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    done = protocol.encode(protocol.Done(1, received_ns=0, started_ns=0))
    sent = {2: protocol.encode(protocol.Heartbeat()), polls: done}  # before which look
    with theirs, GeneratorClient(ours, silence_s=1) as client:
        theirs.send(protocol.encode(protocol.Ready(SetupTimes(), spin_us)))
        client.wait_until_ready()
        real, looks = client._arrivals, []

        class CountedPoll:
            close = real.close

            def poll(self, timeout: float) -> list[tuple[int, int]]:
                looks.append(timeout)
                if len(looks) in sent:
                    theirs.send(sent[len(looks)])
                return real.poll(timeout)

        client._arrivals = CountedPoll()  # type: ignore[assignment]
        if not polls:
            theirs.send(done)
        client.generate([1], 1, lambda token: None)
        assert looks == [0] * polls


def test_the_generators_interpreter_disturbs_no_request() -> None:
    """Seen failing: Python's own switch interval, at which a busy thread delays the engine by 5 ms; objects of the
    engine left to the collector; a collector that runs within requests, while a process that computes by itself has
    it off."""
    with launch("counting") as client:
        client.wait_until_ready()
        counters = client.counters()
        assert counters["switch_interval_s"] == pytest.approx(SWITCH_INTERVAL_S)
        assert counters["frozen"] > 1000
        assert not counters["collecting"]


def test_a_failed_request_is_one_line_and_the_next_one_is_served(capfd: pytest.CaptureFixture[str]) -> None:
    with launch("counting") as client:
        client.wait_until_ready()
        with pytest.raises(GeneratorError, match=r"^ZeroDivisionError: first line \| second line$"):
            client.generate([13], 2, lambda token: None)
        with pytest.raises(ValueError, match=r"^prompt 14 is too long$"):
            client.generate([14], 2, lambda token: None)
        with pytest.raises(GeneratorError, match="the engine gave 1 of 2 tokens"):
            client.generate([15], 2, lambda token: None)
        with pytest.raises(ValueError, match="too long for the socket"):
            client.generate([70_000] * 60_000, 2, lambda token: None)
        client.generate([16], 2, lambda token: None)
    printed = capfd.readouterr()
    assert "Traceback" in printed.err  # the generator's own log reaches ours
    assert "a library's word on stdout" in printed.err
    assert printed.out == ""


def test_a_model_that_cannot_be_served_is_told_from_a_failure() -> None:
    with launch("unsupported") as client, pytest.raises(Unsupported, match=r"^no static cache for this model$"):
        client.wait_until_ready()
    with launch("broken") as client, pytest.raises(GeneratorError, match=r"^RuntimeError: weights are missing$"):
        client.wait_until_ready()
    with launch("full") as client, pytest.raises(Transient, match="No space left on device"):
        client.wait_until_ready()


@pytest.mark.parametrize(("prompt", "thread"), FAILING_THREADS.items(), ids=FAILING_THREADS.values())
def test_all_clients_hear_which_thread_failed_and_the_process_ends(prompt: int, thread: str) -> None:
    """Seen failing for each: a generator that goes on without the thread, or ends without a word to its clients."""
    reason = "TypeError.*NoneType" if thread == "ft-engine" else f"thread {thread} failed: TypeError.*NoneType"
    with launch("paced") as client:
        client.wait_until_ready()
        with GeneratorClient.attach(client.address) as second:
            second.wait_until_ready()
            with pytest.raises(GeneratorDied, match=rf"^{reason}"):
                while True:  # the engine's thread fails after the request
                    client.generate([prompt], 100, lambda token: None)
            with pytest.raises(GeneratorDied, match=rf"^{reason}"):
                second.generate([1], 1, lambda token: None)
        assert client.pid is not None
        wait_for(lambda: psutil.Process(client.pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("prompt", "new_tokens", "reason"),
    [([-1], 2, "Expected `int` >= 0"), ([2**31], 2, "Expected `int` <= 2147483647"), ([], 2, "length >= 1"),
     ([1], 0, "Expected `int` >= 1"), ([1], 2**31, "Expected `int` <= 2147483647"), ([1.5], 2, "got `float`")],
)  # fmt: skip
def test_a_request_out_of_range_is_one_line_and_the_next_one_is_served(
    prompt: list[int], new_tokens: int, reason: str
) -> None:
    """Seen failing: the connection closed without a word, so that the owner waits ten seconds for the process's end."""
    with launch("counting") as client:
        client.wait_until_ready()
        with pytest.raises(ValueError, match=reason):
            client.generate(prompt, new_tokens, lambda token: None)
        tokens: list[int] = []
        client.generate([40], 2, tokens.append)
        assert tokens == [40, 41]


def test_death_while_loading_gives_exit_code_and_last_words() -> None:
    with launch("crashing") as client, pytest.raises(GeneratorDied, match=r"exit code 3.*loading crashing"):
        client.wait_until_ready()
    with launch("faulty") as client, pytest.raises(GeneratorCrashed, match="SIGABRT"):
        client.wait_until_ready()


def test_kill_in_the_middle_of_a_request_is_one_clear_error_and_stays_one() -> None:
    with launch("paced") as client:
        client.wait_until_ready()
        pid = client.pid
        assert pid is not None

        def kill_at_three(token: int) -> None:
            if token == 3:
                os.kill(pid, signal.SIGKILL)

        with pytest.raises(GeneratorDied, match=rf"generator process {pid} was killed by SIGKILL.*loading paced"):
            client.generate([1], 5000, kill_at_three)
        with pytest.raises(GeneratorDied, match="SIGKILL"):
            client.generate([1], 1, lambda token: None)
        with pytest.raises(GeneratorDied, match="SIGKILL"):
            client.wait_until_ready()


def test_sigterm_ends_the_generator_in_order_and_says_so() -> None:
    with launch("paced") as client:
        client.wait_until_ready()
        assert client.pid is not None
        pid = client.pid
        with pytest.raises(GeneratorDied, match=r"exit code 0.*received SIGTERM.*engine closed"):
            client.generate([1], 5000, lambda token: os.kill(pid, signal.SIGTERM) if token == 3 else None)


def test_a_stopped_generator_is_an_error_and_not_a_hang() -> None:
    with launch("paced", silence_s=1.5) as client:
        client.wait_until_ready()
        assert client.pid is not None
        os.kill(client.pid, signal.SIGSTOP)
        with pytest.raises(GeneratorDied, match=r"silent for 1\.5 s in state T"):
            client.generate([1], 5, lambda token: None)


def test_a_long_step_is_not_silence() -> None:
    with launch("paced", silence_s=1.5) as client:
        client.wait_until_ready()
        with GeneratorClient.attach(client.address, silence_s=1.5) as second:
            second.wait_until_ready()
            first = threading.Thread(target=client.generate, args=([1], 500, lambda token: None))
            first.start()  # 2.5 s at least
            second.generate([7], 1, lambda token: None)  # waits behind it, on heartbeats alone
            first.join()


def test_an_exception_of_the_sink_leaves_the_client_usable() -> None:
    """Seen failing: a request that goes on, here for 500 s, while the next one waits behind it."""
    with launch("paced") as client:
        client.wait_until_ready()
        got: list[int] = []

        def fail(token: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            client.generate([1], 100_000, fail)
        client.generate([50], 2, got.append)
        assert got == [50, 51]  # nothing left over from the broken request


def test_a_killed_client_hurts_neither_the_generator_nor_other_clients() -> None:
    code = (
        "import sys, os; from pathlib import Path\n"
        "from firsttoken.server.client import GeneratorClient\n"
        "client = GeneratorClient.attach(Path(sys.argv[1])); client.wait_until_ready()\n"
        "client.generate([1], 100000, lambda token: os.kill(os.getpid(), 9) if token == 3 else None)\n"
    )
    with launch("paced") as client:
        client.wait_until_ready()
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
        ended = subprocess.run([sys.executable, "-c", code, str(client.address)], env=environment, check=False)
        assert ended.returncode == -signal.SIGKILL
        client.generate([1], 3, lambda token: None)  # the 100000 were cancelled, or this would take 500 s


def test_the_client_process_never_imports_torch() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from firsttoken.approaches.base import approach_class\n"
        "from firsttoken.plan import Plan\n"
        "plan = Plan(prompt_lengths=(4,), new_tokens=2, max_context=64, dtype='float32', device='cpu')\n"
        "[approach_class(name) for name in ('cuda_graph', 'jit_cuda')]\n"
        "with approach_class('null_2p')() as approach:\n"
        "    approach.load(Path('.'), plan); print(approach.counters()['tokens'])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["0.0", "[]"]


def test_closing_twice_is_fine_and_a_closed_client_says_so() -> None:
    client = launch("counting")
    client.close()
    client.close()
    with pytest.raises(GeneratorDied, match="the client is closed"):
        client.generate([1], 1, lambda token: None)

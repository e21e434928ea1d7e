"""Client processes that send their requests at the same time, each a fresh process of this module.

Protocol, a line each: a `ClientTask` to the client's stdin, a `ClientReply` back when it is warm; then, as often as it
is asked, a number of requests to its stdin and a `ClientReply` back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import msgspec

from firsttoken.approaches.base import Approach, approach_class
from firsttoken.collector import garbage_collector_off
from firsttoken.measure.clocks import StampingSink, run_request
from firsttoken.plan import Plan, Record
from firsttoken.process import end_with, package_environment, tell


class ClientTask(Record, frozen=True, kw_only=True):
    """What one client process is to do; `address` "" means: load the approach yourself."""

    approach: str
    address: str = ""  # of the generator
    model_dir: str = ""
    plan: Plan
    prompt_ids: tuple[int, ...]
    warm_up: int  # requests; the first ones fault in pages and fill caches


class ClientReply(Record, frozen=True, kw_only=True):
    """What one client process saw, nanoseconds of CLOCK_MONOTONIC: one first token a request, the gaps of all."""

    reason: str = ""  # why it ends, one line
    started_ns: int = 0  # the first request
    ended_ns: int = 0  # the last one
    first_token: tuple[int, ...] = ()
    token_gap: tuple[int, ...] = ()


class ClientsEnded(RuntimeError):
    """Not enough clients run; the message is one line that says why."""


class ClientProcesses(AbstractContextManager["ClientProcesses"]):
    """A context manager; no client outlives it, or this process."""

    def __init__(self, tasks: Sequence[ClientTask]) -> None:
        """Start a process a task, all at once, and wait until each is warm or has failed."""
        command = [sys.executable, "-P", "-m", "firsttoken.measure.client_processes"]
        self._processes = [Popen(command, stdin=PIPE, stdout=PIPE, env=package_environment()) for _ in tasks]
        self._running = list(self._processes)
        self._ended = ""  # why the first one did
        try:
            for process, task in zip(self._processes, tasks, strict=True):
                tell(process, msgspec.json.encode(task))
            self._hear(self._processes)
        except BaseException:
            self.__exit__()
            raise

    def run(self, count: int, requests: int) -> list[ClientReply]:
        """Let `count` clients send `requests` each, at once. Raises ClientsEnded where fewer run, or one fails."""
        if len(self._running) < count:
            raise ClientsEnded(f"{len(self._running)} of {count} clients run: {self._ended}")
        chosen = self._running[:count]
        for process in chosen:
            tell(process, str(requests).encode())
        replies = self._hear(chosen)
        if len(replies) < count:
            raise ClientsEnded(f"{count - len(replies)} of {count} clients failed: {self._ended}")
        return replies

    def _hear(self, processes: Sequence[Popen[bytes]]) -> list[ClientReply]:
        """The next reply of each that goes on; who does not is out from now on."""
        replies = []
        for process in processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if line:
                reply = msgspec.json.decode(line, type=ClientReply)
            else:
                reply = ClientReply(reason=f"a client process ended with exit code {process.wait()}")
            if reply.reason:
                self._running.remove(process)
                self._ended = self._ended or reply.reason
            else:
                replies.append(reply)
        return replies

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # they hold nothing that outlives them, and their interpreters take seconds to end
        for process in self._processes:
            process.communicate()  # reaped, its pipes closed


# ---------------------------------------------------------------- the client process


def serve_task() -> None:
    """Serve one `ClientTask`."""
    end_with(os.getppid())
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no reply
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=ClientTask)
    try:
        kind: Any = approach_class(task.approach)
        with kind.attach(Path(task.address)) if task.address else kind() as approach:
            if not task.address:
                approach.load(Path(task.model_dir), task.plan)
            _measure(approach, task, task.warm_up)
            replies.write(msgspec.json.encode(ClientReply()) + b"\n")
            with garbage_collector_off():
                while line := sys.stdin.buffer.readline():
                    replies.write(msgspec.json.encode(_measure(approach, task, int(line))) + b"\n")
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        replies.write(msgspec.json.encode(ClientReply(reason=reason)) + b"\n")
        raise


def _measure(approach: Approach, task: ClientTask, requests: int) -> ClientReply:
    new_tokens = task.plan.new_tokens
    sink = StampingSink(new_tokens)
    starts_ns, first_token, token_gap = [], [], []
    for _ in range(requests):
        started_ns = run_request(approach, task.prompt_ids, new_tokens, sink)
        first_ns, *gaps_ns = sink.latencies_ns(started_ns).tolist()
        starts_ns.append(started_ns)
        first_token.append(first_ns)
        token_gap.extend(gaps_ns)
    return ClientReply(
        started_ns=starts_ns[0],
        ended_ns=int(sink.times_ns[-1]),
        first_token=tuple(first_token),
        token_gap=tuple(token_gap),
    )


if __name__ == "__main__":
    serve_task()

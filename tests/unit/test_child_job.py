"""A job's process does the work with what its interpreter has, says how it ended, and never outlives the script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from fakes.waiting import wait_for
from firsttoken.child_job import LOGGER, Crashed, log_to, module_command, run_module
from firsttoken.plan import Record
from firsttoken.progress import STATUS_WIDTH, TERMINAL_FD
from firsttoken.transient import Transient


class Job(Record, frozen=True, kw_only=True):
    """What the modules below read."""

    log: str
    note: str


MODULE = """
import json, os, signal, sys, time
from pathlib import Path
from firsttoken.child_job import child_job

job = json.loads(Path(sys.argv[1]).read_text())
note = Path(job["note"])
print("for the terminal")
with child_job(job["log"]):
    {work}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on this interpreter's path."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write_module(site: Path, work: str) -> Job:
    (site / "worker.py").write_text(MODULE.format(work=textwrap.indent(work, "    ").strip()))
    return Job(log=str(site / "job.log"), note=str(site / "note"))


def test_it_works_in_a_process_of_its_own_and_logs_to_the_jobs_file(
    site: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = write_module(
        site, "import logging; logging.getLogger('firsttoken').info('hello'); note.write_text(str(os.getpid()))"
    )
    run_module("", "worker", job)
    assert Path(job.note).read_text() != str(os.getpid())
    assert Path(job.log).read_text().endswith("INFO hello\n")
    out, err = capfd.readouterr()
    assert out == "", "Snakemake reads the job's stdout"
    assert "for the terminal" in err


def test_this_scripts_paths_are_handed_on_in_order_and_to_no_other_interpreter(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/user")
    own = module_command("", "worker")[1]["PYTHONPATH"].split(os.pathsep)
    assert own[0].endswith("/scripts") and own == list(dict.fromkeys(filter(None, [own[0], *sys.path])))
    command, environment = module_command("/opt/python", "worker", "a")
    assert command == ["/opt/python", "-P", "-m", "worker", "a"]
    assert environment["PYTHONPATH"].split(os.pathsep) == [own[0], "/user"]


def test_what_compilers_keep_is_the_processes_own(site: Path) -> None:
    """Set-up times are compared: no approach may start from another's precompiled header. Torch keeps these where
    temporary files go, and everything else in the folder that it is told."""
    work = f"""
    from firsttoken.engine.compilation import use_compile_cache
    use_compile_cache({str(site / "cache")!r})
    from torch._inductor import codecache
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    note.write_text("\\n".join([codecache._HEADER_DIR, cache_dir(), os.environ["TRITON_CACHE_DIR"]]))
    """
    job = write_module(site, textwrap.dedent(work))
    run_module("", "worker", job)
    headers, inductor, triton = map(Path, Path(job.note).read_text().splitlines())
    assert {inductor.parent, triton.parent} == {site / "cache"}
    private = next(folder for folder in headers.parents if folder.name.startswith("firsttoken-job-"))
    assert not private.exists()


def test_an_error_is_one_line_and_its_status(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = write_module(site, "raise RuntimeError('no such engine')")
    with pytest.raises(SystemExit) as ended:
        run_module("", "worker", job)
    assert ended.value.code == 1
    err = capfd.readouterr().err
    assert "firsttoken: no such engine" in err and "Traceback" not in err
    assert "Traceback" in Path(job.log).read_text()


def test_a_crash_is_told_apart_from_being_asked_to_end(site: Path) -> None:
    with pytest.raises(Crashed, match="SIGSEGV"):
        run_module("", "worker", write_module(site, "os.kill(os.getpid(), signal.SIGSEGV)"))
    with pytest.raises(Transient, match="SIGKILL, by somebody or for want of memory; run again"):
        run_module("", "worker", write_module(site, "os.kill(os.getpid(), signal.SIGKILL)"))
    with pytest.raises(SystemExit):
        run_module("", "worker", write_module(site, "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"))


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {site!r})
from firsttoken.child_job import log_to, run_module
from unit.test_child_job import Job
with log_to(Path({log!r}), "w"):
    run_module("", "worker", Job(log={log!r}, note={note!r}))
"""


def start_script(site: Path, job: Job) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A script in a session of its own, and the process that it started, once that has noted its pid."""
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "scripts")]
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(site=str(site), log=job.log, note=job.note)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )
    note = Path(job.note)
    wait_for(lambda: note.exists() and note.read_text() != "")
    return script, psutil.Process(int(note.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, "Ctrl-C"])
def test_it_never_outlives_the_script(site: Path, number: signal.Signals | str) -> None:
    """Ctrl-C goes to both; the script's SIGTERM then comes while the process closes what it holds."""
    closing = "time.sleep(0.5); (note.parent / 'closed').touch()"
    work = f"try:\n    note.write_text(str(os.getpid()))\n    time.sleep(60)\nfinally:\n    {closing}"
    job = write_module(site, work)
    script, worker = start_script(site, job)
    if isinstance(number, str):
        os.killpg(script.pid, signal.SIGINT)
    else:
        script.send_signal(number)
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert script.wait(30) != 0
    assert (site / "closed").exists(), "it closed what it held"


def test_it_does_not_outlive_a_script_that_is_killed_while_it_starts(site: Path) -> None:
    job = write_module(site, "pass")
    started = (
        f"from pathlib import Path\nimport os, time\nPath({job.note!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )
    (site / "worker.py").write_text(started + (site / "worker.py").read_text())
    script, worker = start_script(site, job)
    script.kill()
    script.wait()
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_under_our_logger_the_terminal_gets_warnings_alone(
    site: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The logger reads the error from the log."""
    monkeypatch.setenv(STATUS_WIDTH, "0")
    work = "from firsttoken.child_job import LOGGER; LOGGER.info('hashing'); LOGGER.warning('busy'); 1 / 0"
    job = write_module(site, work)
    with pytest.raises(SystemExit):
        run_module("", "worker", job)
    assert capfd.readouterr().err == "for the terminal\nbusy\n"
    assert f"ERROR firsttoken: ZeroDivisionError: division by zero (log: {job.log})" in Path(job.log).read_text()


def test_under_our_logger_what_libraries_print_goes_into_the_log(
    site: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also of the processes that it starts. Seen failing: a GPU study showed two lines of torch's for each process."""
    monkeypatch.setenv(STATUS_WIDTH, "0")
    os.environ.pop(TERMINAL_FD, None)
    monkeypatch.setenv(TERMINAL_FD, "")  # so that it is removed afterwards
    monkeypatch.delenv(TERMINAL_FD)
    job = write_module(site, "print('Warning: from C++', file=sys.stderr); os.system('echo of a compiler >&2')")
    log = Path(job.log)
    before = os.dup(2)
    try:
        with log_to(log, "w"):
            run_module("", "worker", job)
            LOGGER.info("afterwards")
    finally:
        os.dup2(before, 2)
    assert capfd.readouterr().err == ""
    lines = log.read_text().splitlines()
    assert lines[:3] == ["for the terminal", "Warning: from C++", "of a compiler"] and lines[3].endswith("afterwards")

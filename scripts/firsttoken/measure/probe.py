"""What an interpreter has: its version, packages, and which approaches can run in it.

`python -m firsttoken.measure.probe DEVICE DTYPE APPROACH...` prints it as JSON; so another interpreter is asked.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import import_module

import msgspec

from firsttoken.approaches.base import approach_class
from firsttoken.child_job import module_command
from firsttoken.measure.environment import MEASURED_PACKAGES, package_versions
from firsttoken.plan import Device, Record
from firsttoken.process import signal_on_parent_death
from firsttoken.results import Availability

LIMIT_S = 60  # a file system that is slow to answer


class Probe(Record, frozen=True, kw_only=True):
    """What was found. `packages`: of those that any measurement or one of the approaches names."""

    python: str
    packages: dict[str, str]
    approaches: dict[str, Availability]


@cache
def probe(python: str, device: Device, dtype: str, names: tuple[str, ...]) -> Probe:
    """Ask the interpreter `python`, "" for this one, about approaches of one environment.

    One that cannot run our code gives them all as `unavailable`, with its last words.
    """
    if not python:
        return look(device, dtype, names)
    command, environment = module_command(python, "firsttoken.measure.probe", device, dtype, *names)
    try:
        return msgspec.json.decode(_output(command, environment).splitlines()[-1], type=Probe)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError, IndexError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
        environment_name = approach_class(names[0]).environment
        reason = f"{python} cannot run it: {said[-1] if said else error}; make it anew: make env-{environment_name}"
        unavailable = Availability(status="unavailable", reason=reason)
        return Probe(python="", packages={}, approaches=dict.fromkeys(names, unavailable))


def _output(command: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """What a command that succeeds within LIMIT_S writes; one that does not ends with all that it has started. It ends
    with this process, too."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
        preexec_fn=partial(signal_on_parent_death, signal.SIGKILL),
    ) as process:
        try:
            answer, errors = process.communicate(timeout=LIMIT_S)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # it may be a wrapper, whose child would stay
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    return answer


def look(device: Device, dtype: str, names: Sequence[str]) -> Probe:
    """The same of the interpreter that runs this."""
    classes = {name: approach_class(name) for name in names}
    wanted = dict.fromkeys([*MEASURED_PACKAGES, *(package for found in classes.values() for package in found.packages)])
    return Probe(
        python=platform.python_version(),
        packages=package_versions(list(wanted)),
        approaches={name: found.availability(device, dtype) for name, found in classes.items()},
    )


def main(device: str, dtype: str, names: Sequence[str]) -> None:
    """Print the JSON as the last line. Raises ImportError where a run would."""
    import_module("firsttoken.measure.run")
    print(msgspec.json.encode(look(msgspec.convert(device, Device), dtype, names)).decode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

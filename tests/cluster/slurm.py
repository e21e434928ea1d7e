"""A Slurm of one node on this machine's loopback: munged, slurmctld and slurmd, in a folder of its own.

Its configuration is mounted over /etc/slurm, which only its daemons and the commands of `Slurm.command` see: the
executor plugin drops the variable SLURM_CONF on the way to the node, so that a file elsewhere would not be found there.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from firsttoken.process import signal_on_parent_death

PROGRAMS = ("munged", "slurmctld", "slurmd", "squeue", "scancel", "sinfo", "unshare")
START_S = 30.0
# Cores and memory are not this machine's, so that the profile's requests fit (config_overrides). The GPU is a device
# file that is always there: Slurm counts it and gives it to one job at a time.
CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
ReturnToService=2
KillWait=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=512000 Gres=gpu:1
PartitionName=main Nodes=node1 Default=YES State=UP
"""


def missing() -> str:
    """Why no Slurm can be started here; "" where it can."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install slurm-wlm munge"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "needs the right to mount (unshare --mount)"
    return ""


@dataclass(frozen=True)
class Slurm:
    """A running one."""

    folder: Path

    def command(self, *words: str) -> list[str]:
        """The command that runs `words` as a user of this Slurm."""
        mount = f'mount --bind "{self.folder}" /etc/slurm && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, "slurm", *words]

    def ask(self, *words: str) -> str:
        """What a command of Slurm prints."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Start one in the empty `folder`; all its daemons end with the block."""
    Path("/etc/slurm").mkdir(exist_ok=True)  # where its configuration is mounted
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    controller_port, node_port = free_ports(2)
    values = {"folder": folder, "host": host, "controller_port": controller_port, "node_port": node_port}
    (folder / "slurm.conf").write_text(CONFIG.format(**values), encoding="utf-8")
    (folder / "gres.conf").write_text("NodeName=node1 Name=gpu File=/dev/zero\n", encoding="utf-8")
    slurm = Slurm(folder)
    munge = {"socket": "munge.socket", "key-file": key.name, "pid-file": "munged.pid"}
    munge |= {"log-file": "munged.log", "seed-file": "munged.seed"}
    options = [f"--{option}={folder / name}" for option, name in munge.items()]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for words in (
            ["munged", "--foreground", "--force", *options],
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", "node1"],
        ):
            with (folder / f"{words[0]}.out").open("wb") as out:
                command = slurm.command(*words)
                daemons.append(start_with_us(command, stdout=out, stderr=out, start_new_session=True))
            time.sleep(1.0)  # each needs the one before
        _wait_for_node(slurm, daemons)
        yield slurm
    finally:
        with suppress(subprocess.SubprocessError):
            slurm.ask("scancel", "--user=root", "--full")
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()


def _wait_for_node(slurm: Slurm, daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and all(daemon.poll() is None for daemon in daemons):
        with suppress(subprocess.CalledProcessError):
            if slurm.ask("sinfo", "--noheader", "--format=%t") == "idle":
                return
        time.sleep(0.5)
    said = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(slurm.folder.glob("*.log")))
    raise RuntimeError(f"Slurm did not start:\n{said}")


def start_with_us(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that gets SIGTERM when this one ends, however it ends."""
    return subprocess.Popen(command, preexec_fn=partial(signal_on_parent_death, signal.SIGTERM), **options)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

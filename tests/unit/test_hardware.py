"""Which GPU a process will compute on, told from CUDA_VISIBLE_DEVICES and a fake driver with two GPUs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firsttoken.hardware import device_memory, driver_versions, require_gpu, visible_gpu, visible_gpus
from firsttoken.results import Gpu

FAKES = Path(__file__).parents[1] / "fakes" / "nvml"
FIRST, SECOND = "GPU-11111111-aaaa", "GPU-22222222-bbbb"
MIG_FIRST, MIG_SECOND = "MIG-33333333-aaaa", "MIG-33333333-bbbb"


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield
    sys.modules.pop("pynvml", None)


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [
        (None, FIRST),
        ("0", FIRST),
        ("1", SECOND),
        (" 1 ,0", SECOND),
        (SECOND, SECOND),
        (f"{SECOND},{FIRST}", SECOND),
        ("GPU-2222", SECOND),
        ("", None),
        ("-1", None),
    ],
)
def test_the_gpu_is_the_first_that_cuda_will_see(
    visible: str | None, uuid: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing: NVML asked for a shortened UUID, which it does not know."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpu = visible_gpu()
    assert (gpu.uuid if gpu else None) == uuid
    if uuid:
        assert require_gpu() == gpu
    else:
        with pytest.raises(RuntimeError, match=f"no CUDA device is visible here with CUDA_VISIBLE_DEVICES='{visible}'"):
            require_gpu()


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, [FIRST, SECOND]),
        ("1,0", [SECOND, FIRST]),
        (f"GPU-2,{FIRST}", [SECOND, FIRST]),
        ("0", [FIRST]),
        ("1,-1,0", [SECOND]),
        ("0,7,1", [FIRST]),  # what follows an entry that names no device is hidden
        ("", []),
    ],
)
def test_all_that_cuda_will_see(visible: str | None, uuids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.uuid for gpu in visible_gpus()] == uuids


@pytest.mark.parametrize(
    ("visible", "names"),
    [("GPU-", "2"), ("7", "no"), ("GPU-3", "no"), ("MIG-33333333-aaaa", "no"), ("MIG-GPU-2222/1/0", "no")],
)
def test_what_names_no_device_or_several_is_said(visible: str, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: `device: auto` took the CPU of a machine with GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ValueError, match=f"CUDA_VISIBLE_DEVICES: found '{visible}', which names {names} of"):
        visible_gpu()


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [
        ("0", FIRST),
        ("1", MIG_FIRST),
        (SECOND, MIG_FIRST),
        ("GPU-2222", MIG_FIRST),
        (MIG_FIRST, MIG_FIRST),
        (MIG_SECOND, MIG_SECOND),
        ("MIG-33333333-b", MIG_SECOND),
    ],
)
def test_of_a_partitioned_gpu_it_is_a_mig_device(visible: str, uuid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NVML_MIG", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpu = require_gpu()
    assert gpu.uuid == uuid
    if uuid != FIRST:
        assert (gpu.compute_capability, gpu.memory_bytes >> 30) == ("9.0", 18)


def test_the_driver_tells_its_versions() -> None:
    assert driver_versions() == ("570.1", "13.0")


def test_a_gpu_that_a_cgroup_hides_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job of Slurm's with ConstrainDevices, where CUDA_VISIBLE_DEVICES counts the job's own GPUs from 0. Seen
    failing: NVMLError."""
    monkeypatch.setenv("FAKE_NVML_HIDDEN", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert require_gpu().uuid == SECOND


ASKED = re.findall(r"def (nvml(?:Device|System)\w+)", (FAKES / "pynvml.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("function", sorted(set(ASKED)))
def test_one_thing_that_a_driver_does_not_tell_is_empty(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU with MIG devices. Seen failing: NVMLError for a name, a UUID and the number of GPUs."""
    monkeypatch.setenv("FAKE_NVML_MIG", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("FAKE_NVML_REFUSED", function)
    gpu = visible_gpu()
    assert gpu is None or None not in (gpu.name, gpu.uuid, gpu.memory_bytes, gpu.compute_capability)
    assert len(driver_versions()) == 2
    with device_memory(FIRST, "used") as used_bytes:
        assert used_bytes() in (1 << 30, None)


def test_all_that_a_driver_does_not_tell_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """E.g. of a GPU without memory of its own. Seen failing: NVMLError."""
    found = {"nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"}
    monkeypatch.setenv("FAKE_NVML_REFUSED", " ".join(set(ASKED) - found))
    assert require_gpu() == Gpu(name="", uuid="", memory_bytes=0, compute_capability="")
    assert driver_versions() == ("", "")
    with device_memory(FIRST, "used") as used_bytes:
        assert used_bytes() is None

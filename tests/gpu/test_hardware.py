"""The GPU that NVML names is the one that CUDA computes on, also where its UUID is shortened."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from firsttoken.hardware import require_gpu

pytestmark = pytest.mark.gpu
UUID_OF_CUDA = "import torch; print(torch.cuda.get_device_properties(0).uuid)"


@pytest.mark.parametrize("length", [12, 40])
def test_a_shortened_uuid_names_the_same_gpu_to_nvml_and_to_cuda(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = require_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", whole.uuid[:length])
    assert require_gpu() == whole
    command = [sys.executable, "-c", UUID_OF_CUDA]
    found = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True).stdout.strip()
    assert whole.uuid.removeprefix("GPU-").removeprefix("MIG-") == found

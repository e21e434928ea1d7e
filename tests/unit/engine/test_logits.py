"""Logits are whole in their file, or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import firsttoken

torch = pytest.importorskip("torch")

WRITER = """
import resource, signal, sys
from pathlib import Path
import torch
from firsttoken.engine.logits import save_logits_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_logits_file(torch.zeros(100, 100), Path(sys.argv[1]))
except OSError as error:
    print(error.errno)
"""


def test_logits_are_float32_under_their_key(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from firsttoken.engine.logits import save_logits_file

    save_logits_file(torch.tensor([[1.5, -2.0]], dtype=torch.float16), tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["logits"].tolist() == [[1.5, -2.0]]


def test_no_room_is_an_error_of_the_system_which_another_try_may_pass(tmp_path: Path) -> None:
    """Seen failing: a SafetensorError, with which a run is recorded as failed for good."""
    environment = os.environ | {"PYTHONPATH": str(Path(firsttoken.__file__).parents[1])}
    target = tmp_path / "x.safetensors"
    ended = subprocess.run(
        [sys.executable, "-c", WRITER, str(target)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "27", ended.stderr[-1000:]  # EFBIG
    assert list(tmp_path.iterdir()) == []

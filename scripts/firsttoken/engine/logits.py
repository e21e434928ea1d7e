"""Logits as a file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from firsttoken.files import atomic_path


def save_logits_file(logits: torch.Tensor, path: Path) -> None:
    """Write `logits` as float32 under the key `logits` as safetensors, atomically."""
    with atomic_path(path) as temporary:
        save_file({"logits": logits.float().contiguous().cpu()}, temporary)

"""Logits as a file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from firsttoken.files import atomic_path


def save_logits_file(logits: torch.Tensor, path: Path) -> None:
    """Write `logits` as float32 under the key `logits` as safetensors, atomically."""
    with atomic_path(path) as temporary:
        # Not by save_file, whose error on a full disk is no OSError.
        temporary.write_bytes(save({"logits": logits.float().contiguous().cpu()}))

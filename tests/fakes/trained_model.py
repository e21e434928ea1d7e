"""Where the trained model of `make trained-model` lies, for tests that need real weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def trained_model_dir() -> Path:
    """The model's folder: FIRSTTOKEN_TRAINED_MODEL, else models/smollm2-135m. Skips the test where it is absent."""
    folder = Path(os.environ.get("FIRSTTOKEN_TRAINED_MODEL") or ROOT / "models" / "smollm2-135m")
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"no trained model: make trained-model ({folder} has no model.safetensors)")
    return folder

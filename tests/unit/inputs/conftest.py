"""One synthetic model and one corpus for all tests of the inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firsttoken.inputs.fetch import fetch_model

CORPUS = Path(__file__).parents[3] / "config" / "corpus.txt"


def synthetic(**changes: Any) -> dict[str, Any]:
    """The config's model section for a synthetic model, all defaults filled."""
    section = {
        "name": "tiny",
        "source": "synthetic",
        "dtype": "float32",
        "architecture": "llama",
        "seed": 1,
        "shape": {},
    }
    return section | changes


@pytest.fixture
def corpus() -> Path:
    return CORPUS


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded default's model; tests copy it before they change anything."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    fetch_model(synthetic(), folder, CORPUS)
    return folder

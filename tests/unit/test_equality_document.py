"""docs/equality.md and the bounds are what the shipped calibration gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("equality_benchmark", ROOT / "benchmarks" / "equality.py")
    assert spec is not None and spec.loader is not None
    before = list(sys.path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_the_document_has_the_tables_of_the_shipped_results(benchmark: ModuleType) -> None:
    text = (ROOT / "docs/equality.md").read_text(encoding="utf-8")
    assert benchmark.documented(text) == text, "python benchmarks/equality.py document"


def test_the_bounds_are_those_of_the_calibration(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "BOUNDS", tmp_path / "bounds.csv")
    benchmark.write_bounds(sorted(benchmark.SHIPPED.glob("calibration_*.csv")))
    made = pd.read_csv(tmp_path / "bounds.csv")
    pd.testing.assert_frame_equal(made, pd.read_csv(ROOT / "config/equality_bounds.csv"))

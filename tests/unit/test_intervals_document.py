"""docs/intervals.md is what benchmarks/intervals.py gives with today's code, and promises what it may."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "intervals.md"
ASSUMED = ("benign", "process sd 15 %", "process sd 15 %, request sd 5 %", "AR(0.9) within processes")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("intervals_benchmark", ROOT / "benchmarks" / "intervals.py")
    assert spec is not None and spec.loader is not None
    before = list(sys.path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks there for its types
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def documented(table: str, regime: str) -> dict[str, list[float]]:
    """The row of a regime: for each column the numbers with 5, 10 and 20 processes."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"<!-- {table} -->\n")[2].partition("<!-- end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    row = next(row for row in rows if row[0] == regime)
    return {
        what: [float(number) for number in cell.split("/")] for what, cell in zip(rows[0][1:], row[1:], strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["stalls, 1 % x 5"])
def test_the_tables_are_what_the_code_gives(benchmark: ModuleType, regime: str) -> None:
    for simulate in (benchmark.coverage, benchmark.signs):
        found = simulate(regime, 5)
        first = {what: numbers[0] for what, numbers in documented(simulate.__name__, regime).items()}
        assert {what: round(100 * share, 1) for what, share in found.items()} == first, "make intervals"


def test_every_regime_is_documented(benchmark: ModuleType) -> None:
    for regime in benchmark.REGIMES:
        assert list(documented("coverage", regime)) == list(benchmark.COVERED)
        assert list(documented("signs", regime)) == list(benchmark.SIGNS)


def test_intervals_hold_where_the_document_says_so() -> None:
    for regime in ASSUMED:
        found = documented("coverage", regime)
        assert min(number for numbers in found.values() for number in numbers) >= 90, (regime, found)


def test_false_alarms_are_rare() -> None:
    for regime in ASSUMED[:3]:
        assert max(documented("signs", regime)["any"]) <= 1, regime


@pytest.mark.parametrize("regime", ["benign", "10 % of processes x 1.5", "stalls, 1 % x 5"])
def test_the_truth_of_a_regime_is_that_of_many_draws(benchmark: ModuleType, regime: str) -> None:
    known = benchmark.REGIMES[regime]
    values = known.draw(20_000, np.random.default_rng(1))[:, 0] / 10
    assert values.mean() == pytest.approx(known.mean(), rel=0.01)
    for probability in (0.5, 0.99):
        assert np.mean(values <= known.quantile(probability)) == pytest.approx(probability, abs=0.004)

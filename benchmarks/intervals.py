"""How often the intervals hold the truth, and how often doubts are noticed, on data whose truth is known.

    python benchmarks/intervals.py       writes the tables of docs/intervals.md (make intervals)

Every entry of the tables is STUDIES simulated studies (CELLS for doubts), seeded, through the code that analyses real
ones. A study has an approach of the regime and a second one that is benign, for ratios. A request is log-normal in
every regime, alone or mixed, so that the value of the whole population is known exactly.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, signal, stats

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts")]

from firsttoken.analysis.doubts import cell_doubts  # noqa: E402
from firsttoken.analysis.processes import ProcessTable  # noqa: E402
from firsttoken.analysis.requests import Requests, process_statistics  # noqa: E402
from firsttoken.analysis.statistics import Estimate, Floats  # noqa: E402

DOCUMENT = ROOT / "docs" / "intervals.md"
STUDIES, CELLS = 1000, 5000
PROCESSES = (5, 10, 20)
REQUESTS = 75  # of each length in a process, as in the GPU study that ships
TYPICAL_MS = {10: 10.0, 500: 20.0}  # by prompt length
LENGTH_SD = 0.01  # of the log, of a length within a process


@dataclass(frozen=True)
class Regime:
    """What is true of an approach; standard deviations are of the logarithm."""

    process_sd: float = 0.02
    request_sd: float = 0.25
    slow: tuple[float, float] = (0.0, 1.0)  # share of processes, and how many times as long they take
    stalls: tuple[float, float] = (0.0, 1.0)  # share of requests, likewise
    request_correlation: float = 0.0  # of successive requests
    process_correlation: float = 0.0  # of successive processes: drift

    def draw(self, processes: int, rng: np.random.Generator) -> Floats:
        """Latencies in ms, [processes, lengths, REQUESTS]."""
        shape = (processes, len(TYPICAL_MS), REQUESTS)
        level = self.process_sd * _correlated(rng, (processes,), self.process_correlation)
        level = level + np.log(self.slow[1]) * (rng.random(processes) < self.slow[0])
        lengths = np.log(list(TYPICAL_MS.values())) + LENGTH_SD * rng.standard_normal(shape[:2])
        requests = self.request_sd * _correlated(rng, shape, self.request_correlation)
        requests += np.log(self.stalls[1]) * (rng.random(shape) < self.stalls[0])
        latencies: Floats = np.exp(level[:, None, None] + lengths[..., None] + requests)
        return latencies

    def mean(self) -> float:
        """Of all requests of all processes, over the typical latency."""
        factors = [1 + share * (times - 1) for share, times in (self.slow, self.stalls)]
        return float(np.exp(self._sd**2 / 2) * np.prod(factors))

    def quantile(self, probability: float) -> float:
        """Of all requests of all processes, over the typical latency."""
        parts = [[(1 - share, 0.0), (share, np.log(times))] for share, times in (self.slow, self.stalls)]

        def excess(log: float) -> float:
            held = sum(p * q * stats.norm.cdf((log - a - b) / self._sd) for (p, a), (q, b) in product(*parts))
            return float(held - probability)

        return float(np.exp(optimize.brentq(excess, -5, 10)))

    @property
    def _sd(self) -> float:
        return float(np.sqrt(self.process_sd**2 + LENGTH_SD**2 + self.request_sd**2))


def _correlated(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> Floats:
    """Standard normal, with this correlation of neighbours along the last axis."""
    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - correlation**2)
    return np.asarray(signal.lfilter([1], [1, -correlation], noise), np.float64)


BENIGN = Regime()
REGIMES = {
    "benign": BENIGN,
    "process sd 15 %": Regime(process_sd=0.15),
    "process sd 15 %, request sd 5 %": Regime(process_sd=0.15, request_sd=0.05),
    "AR(0.9) within processes": Regime(request_correlation=0.9),
    "10 % of processes x 1.5": Regime(slow=(0.1, 1.5)),
    "10 % of processes x 2": Regime(slow=(0.1, 2.0)),
    "stalls, 0.2 % x 30": Regime(stalls=(0.002, 30.0)),
    "stalls, 1 % x 5": Regime(stalls=(0.01, 5.0)),
    "drift, AR(0.7) over rounds, sd 10 %": Regime(process_sd=0.1, process_correlation=0.7),
}
FIRST, BOTH = [10], [10, 500]
COVERED: dict[str, tuple[Callable[[ProcessTable, str, str], Estimate], Callable[[Regime], float]]] = {
    "mean": (lambda t, a, b: t.estimate(a, "ttft", "mean", FIRST), lambda r: 10 * r.mean()),
    "mean over two lengths": (lambda t, a, b: t.estimate(a, "ttft", "mean", BOTH), lambda r: 15 * r.mean()),
    "median": (lambda t, a, b: t.estimate(a, "ttft", "median", FIRST), lambda r: 10 * r.quantile(0.5)),
    "P99": (lambda t, a, b: t.estimate(a, "ttft", "p99", FIRST), lambda r: 10 * r.quantile(0.99)),
    "ratio of means": (lambda t, a, b: t.ratio(a, b, "ttft", "mean", FIRST), lambda r: r.mean() / BENIGN.mean()),
    "ratio of means over two lengths": (
        lambda t, a, b: t.ratio(a, b, "ttft", "mean", BOTH),
        lambda r: r.mean() / BENIGN.mean(),
    ),
    "ratio of P99s": (
        lambda t, a, b: t.ratio(a, b, "ttft", "p99", FIRST),
        lambda r: r.quantile(0.99) / BENIGN.quantile(0.99),
    ),
}
SIGNS = {"process apart": "is apart", "drift": "drift", "stalls": "took over", "correlation": "correlate", "any": ""}


def coverage(name: str, processes: int) -> dict[str, float]:
    """Share of studies of a regime in which each interval holds the truth."""
    regime, rng = REGIMES[name], np.random.default_rng([1, list(REGIMES).index(name), processes])
    truths = {what: truth(regime) for what, (_, truth) in COVERED.items()}
    values = np.stack([[r.draw(processes, rng) for r in (regime, BENIGN)] for _ in range(STUDIES)])
    table = ProcessTable(process_statistics(_requests(values)))
    counts: Counter[str] = Counter()
    for study in range(STUDIES):
        for what, (estimate, _) in COVERED.items():
            found = estimate(table, f"regime {study}", f"benign {study}")
            counts[what] += bool(found.low <= truths[what] <= found.high)
    return {what: counts[what] / STUDIES for what in COVERED}


def signs(name: str, processes: int) -> dict[str, float]:
    """Share of cells of a regime in which each sign is seen."""
    regime, rng = REGIMES[name], np.random.default_rng([2, list(REGIMES).index(name), processes])
    counts: Counter[str] = Counter()
    for _ in range(CELLS):
        found = cell_doubts(list(regime.draw(processes, rng)[:, 0]), range(1, processes + 1))
        counts.update(sign for sign, words in SIGNS.items() if found and words in found)
    return {sign: counts[sign] / CELLS for sign in SIGNS}


def _requests(values: Floats) -> Requests:
    """As if read from the samples of one study with two approaches a simulated one; [studies, 2, processes, ...]."""
    names = [f"{role} {study}" for study in range(len(values)) for role in ("regime", "benign")]
    levels = [names, range(1, values.shape[2] + 1), TYPICAL_MS]
    cells = pd.MultiIndex.from_product(levels, names=["approach", "repeat", "prompt_length"]).to_frame(index=False)
    none, nowhere = np.empty(0), np.empty(0, np.int64)
    empty = ("itl_token_gap", "itl_request_mean")
    return Requests(
        cells,
        {"ttft": values.ravel()} | dict.fromkeys(empty, none),
        {"ttft": np.repeat(np.arange(len(cells)), values.shape[-1])} | dict.fromkeys(empty, nowhere),
    )


def main() -> None:
    """Simulate everything and write the tables."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for simulate, columns in ((coverage, COVERED), (signs, SIGNS)):
        rows = [f"| regime | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for name in REGIMES:
            found = [simulate(name, processes) for processes in PROCESSES]
            rows.append(row(name, found))
            print(rows[-1], flush=True)
        mark = f"<!-- {simulate.__name__} -->\n"
        before, _, rest = text.partition(mark)
        text = before + mark + "\n".join(rows) + f"\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    DOCUMENT.write_text(text, encoding="utf-8")


def row(name: str, found: Sequence[Mapping[str, float]]) -> str:
    """A row of a table in per cent; `found` for each number of processes."""
    cells = [" / ".join(f"{100 * each[what]:.1f}" for each in found) for what in found[0]]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

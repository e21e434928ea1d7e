"""Coverage of the ways to an interval of the pooled P99 that were tried: python benchmarks/p99_methods.py

Prints a row a regime and number of processes: per cent of STUDIES simulated studies whose interval holds the P99 of the
population, and of those whose order statistics have an upper bound. The regimes are those of intervals.py.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import special, stats

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from benchmarks.intervals import REGIMES  # noqa: E402

from firsttoken.analysis.quantiles import between_margins, pseudo_values, widened  # noqa: E402
from firsttoken.analysis.statistics import QUANTILES, Floats, t_interval  # noqa: E402

STUDIES, RESAMPLES, P = 200, 400, 0.99
TRIED = ("benign", "process sd 15 %", "AR(0.9) within processes")
Bounds = tuple[float, float]


def p99(values: Floats) -> Floats:
    """Along the last axis."""
    return np.asarray(np.quantile(values, P, axis=-1, method="median_unbiased"))


def bootstraps(values: Floats, rng: np.random.Generator) -> dict[str, Bounds]:
    """Processes drawn with replacement (Davison and Hinkley 1997); values [processes, n]."""
    n = len(values)
    drawn = p99(values[rng.integers(0, n, (RESAMPLES, n))].reshape(RESAMPLES, -1))
    left = p99(np.array([np.delete(values, process, axis=0).ravel() for process in range(n)]))
    change = left.mean() - left
    acceleration = np.sum(change**3) / (6 * np.sum(change**2) ** 1.5) if change.any() else 0.0
    bias = special.ndtri(np.clip(np.mean(drawn < p99(values.ravel())), 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    z = bias + special.ndtri([0.025, 0.975])
    corrected = np.quantile(drawn, special.ndtr(bias + z / (1 - acceleration * z)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"bootstrap, percentile": (low, high), "bootstrap, BCa": (corrected[0], corrected[1])}


def order_statistics(values: Floats) -> Bounds:
    """Clopper and Pearson on an effective sample size (Korn and Graubard 1998); no upper bound beyond the sample."""
    processes, n = values.shape
    above = (values > p99(values.ravel())).mean(axis=1)
    share = above.mean()
    inflation = max(np.var(above, ddof=1) / processes / (share * (1 - share) / (processes * n)), 1.0)
    size = processes * n / inflation * (stats.t.ppf(0.975, processes * n - 1) / stats.t.ppf(0.975, processes - 1)) ** 2
    low, high = (
        special.betaincinv(size * P, size * (1 - P) + 1, 0.025),
        special.betaincinv(size * P + 1, max(size * (1 - P), 1e-9), 0.975),
    )
    finite = high <= (processes * n - 0.5) / (processes * n)
    return float(np.quantile(values, low)), float(np.quantile(values, high)) if finite else np.inf


def intervals(values: Floats, rng: np.random.Generator) -> dict[str, Bounds]:
    """By method; values [processes, n]."""
    n, pooled = len(values), float(p99(values.ravel()))
    own = np.log(p99(values))
    left = np.log([float(p99(np.delete(values, process, axis=0).ravel())) for process in range(n)])
    smooth = np.log(pseudo_values(list(values))[:, list(QUANTILES).index("p99")])
    margins = between_margins(np.log(pooled), np.log(values.mean(axis=1)), P)
    return {
        "t, P99s of processes": t_interval(own)[1:3],
        **bootstraps(values, rng),
        "order statistics": order_statistics(values),
        "jackknife": t_interval(np.log(pooled) + (n - 1) * (left.mean() - left))[1:3],
        "jackknife, Harrell-Davis": t_interval(smooth)[1:3],
        "the same with margins": widened(t_interval(smooth), *margins)[1:3],
    }


def main() -> None:
    for name in TRIED:
        for processes in (5, 10):
            rng, held = np.random.default_rng(processes), Counter[str]()
            truth = 10 * REGIMES[name].quantile(P)
            for _ in range(STUDIES):
                found = intervals(REGIMES[name].draw(processes, rng)[:, 0], rng)
                held.update(what for what, (low, high) in found.items() if low <= truth <= high)
                held["bounded order statistics"] += bool(np.isfinite(found["order statistics"][1]))
            shares = {what: round(100 * held[what] / STUDIES) for what in (*found, "bounded order statistics")}
            print(f"{name}, {processes} processes: {shares}", flush=True)


if __name__ == "__main__":
    main()

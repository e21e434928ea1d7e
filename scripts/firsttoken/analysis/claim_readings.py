"""One reading of a claim against what was measured: reproduced, refuted, inconclusive, or not testable here.

A reading is reproduced when the whole interval lies where the claim says, refuted when the whole interval lies outside,
and inconclusive between. That two approaches are no different is shown by two one-sided tests (Schuirmann 1987) with
the margin of the claim's file. Orderings need every pair (an intersection-union test, Berger 1982); their refutation by
any one pair, and the largest value over prompt lengths, are corrected for the number of looks (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from firsttoken.analysis.claim_files import Figure, LongestContext, Ordering, Reading, compared
from firsttoken.analysis.doubts import doubts
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.statistics import CONFIDENCE, NOTHING, Estimate
from firsttoken.plan import ModelManifest

METRICS = {  # of a reading -> metric and statistic of the study's tables
    "ttft_mean": ("ttft", "mean"),
    "ttft_p99": ("ttft", "p99"),
    "itl_request_mean": ("itl_request_mean", "mean"),
    "memory": ("memory", "device_over_idle"),
}
NOT_TESTABLE = "not testable here"
ONE_RUN = "one run"


@dataclass(frozen=True)
class Finding:
    """A verdict on measured data, the figure behind it, and why, without a full stop."""

    verdict: str
    why: str
    estimate: Estimate = NOTHING


@dataclass(frozen=True)
class Measured:
    """What a reading is put to: per-process values, statuses, exact figures, experiments."""

    processes: ProcessTable
    summary: pd.DataFrame  # by approach
    by_length: pd.DataFrame  # the table latency_by_length
    manifest: ModelManifest
    experiments: Mapping[str, pd.DataFrame]

    def missing(self, names: Sequence[str]) -> list[str]:
        """Why operands cannot be used. What did not run has neither latency nor complexity."""
        reasons = []
        for name in names:
            if name not in self.summary.index:
                reasons.append(f"{name} is not in this study")
            elif self.summary.loc[name, "status"] != "measured":
                status, reason = self.summary.loc[name, ["status", "reason"]]
                reasons.append(f"{name} is {status}" + (f" ({reason})" if reason else ""))
        return reasons

    def doubts(self, reading: Reading) -> str:
        """Signs that the intervals of the latencies behind a reading may not hold."""
        lengths = self.lengths(reading) if isinstance(reading, Figure) else self.processes.lengths
        metric, statistic = METRICS.get(getattr(reading, "metric", ""), ("memory", ""))
        if metric == "memory":
            return ""
        found = (doubts(self.by_length, name, metric, lengths, statistic) for name in compared(reading))
        return "; ".join(chain.from_iterable(found))

    def lengths(self, reading: Figure) -> list[int]:
        """The prompt lengths that the reading names, or all of the study."""
        return self.processes.lengths if reading.lengths in ([], "largest") else [*map(int, reading.lengths)]

    def estimate(
        self, metric: str, names: Sequence[str], lengths: Sequence[int], level: float = CONFIDENCE
    ) -> Estimate:
        """The metric of an approach, or its ratio of two."""
        if metric not in METRICS:  # counted, and in the summary
            values = self.summary.loc[list(names), metric].astype(float)
            return exact(values.iloc[0] / (values.iloc[1] if len(names) == 2 else 1), "")
        if len(names) == 2:
            return self.processes.ratio(names[0], names[1], *METRICS[metric], lengths, level)
        return self.processes.estimate(names[0], *METRICS[metric], lengths, level)


def exact(value: float, note: str = ONE_RUN) -> Estimate:
    """A figure without spread: counted, or of one run."""
    return Estimate(float(value), float(value), float(value), 1, note)


def judge_figure(reading: Figure, measured: Measured) -> Finding:
    """An approach's metric or a ratio of two, over the lengths that the reading names."""
    lengths, wanted = measured.processes.lengths, measured.lengths(reading)
    missing = measured.missing(reading.operands)
    missing += [f"prompts of {length} tokens were not measured" for length in wanted if length not in lengths]
    if missing:
        return Finding(NOT_TESTABLE, "; ".join(missing))
    what = f"{' / '.join(reading.operands)} is"
    if reading.lengths == "largest":
        level = 1 - (1 - CONFIDENCE) / len(lengths)
        each = [measured.estimate(reading.metric, reading.operands, [length], level) for length in lengths]
        largest = max(range(len(lengths)), key=lambda place: np.nan_to_num(each[place].value, nan=-np.inf))
        low, high = (float(np.max([getattr(one, end) for one in each])) for end in ("low", "high"))
        estimate = each[largest]._replace(low=low, high=high)
        return against(reading, estimate, f"{what} largest at {lengths[largest]} prompt tokens,")
    if reading.margin:
        inner = measured.estimate(reading.metric, reading.operands, wanted, 2 * CONFIDENCE - 1)
        if 1 / (1 + reading.margin) < inner.low and inner.high < 1 + reading.margin:
            equal = f"no different by two one-sided tests with a margin of {reading.margin:.0%}"
            estimate = measured.estimate(reading.metric, reading.operands, wanted)
            return Finding("refuted", f"{what} {show(estimate)}, {equal}", estimate)
    return against(reading, measured.estimate(reading.metric, reading.operands, wanted), what)


def judge_ordering(reading: Ordering, measured: Measured) -> Finding:
    """Every member of a group below every member of the later ones."""
    missing = measured.missing(compared(reading))
    usable = {name for name in compared(reading) if not measured.missing([name])}
    pairs = [pair for pair in reading.pairs if usable.issuperset(pair)]
    if not pairs:
        return Finding(NOT_TESTABLE, "; ".join(missing))

    def ratios(level: float) -> dict[tuple[str, str], Estimate]:
        lengths = measured.processes.lengths
        return {(low, high): measured.estimate(reading.metric, [high, low], lengths, level) for low, high in pairs}

    plain, strict = ratios(CONFIDENCE), ratios(1 - (1 - CONFIDENCE) / len(pairs))
    wrong = [pair for pair in pairs if strict[pair].high < 1 or plain[pair].low == plain[pair].high <= 1]
    if wrong:
        shown = ", ".join(f"{high} is not above {low} ({plain[low, high].value:.3g}x)" for low, high in wrong)
        return Finding("refuted", shown, plain[wrong[0]])
    if missing:
        return Finding(NOT_TESTABLE, "; ".join(missing))
    if unknown := sorted({ratio.note for ratio in plain.values() if np.isnan(ratio.value)}):
        return Finding(NOT_TESTABLE, "; ".join(unknown))
    worst = min(pairs, key=lambda pair: plain[pair].value)
    text = f"the closest pair is {worst[1]} / {worst[0]} at {show(plain[worst])}"
    if all(ratio.low > 1 for ratio in plain.values()):
        return Finding("reproduced", text, plain[worst])
    notes = sorted({ratio.note for ratio in plain.values()} - {""})
    return Finding("inconclusive", "; ".join([text, *notes]), plain[worst])


def judge_longest_context(reading: LongestContext, measured: Measured) -> Finding:
    """The counterexample that is built into every approach of ours."""
    what = "the KV cache has a fixed size and a longer sequence is refused: the positions that this model can have are"
    return against(reading, exact(measured.manifest.max_context, ""), what)


def against(reading: Reading, estimate: Estimate, what: str) -> Finding:
    """Reproduced inside the reading's limits, refuted beyond them, by the whole interval."""
    low, high = reading.limits
    below = low if reading.refuted_below is None else reading.refuted_below
    above = high if reading.refuted_above is None else reading.refuted_above
    text = f"{what} {show(estimate)}, claimed {_limits_text(low, high)}"
    text += f" ({estimate.note})" if estimate.note else ""
    if np.isnan(estimate.value):  # e.g. too few requests for a P99: no reading of this study
        return Finding(NOT_TESTABLE, text, estimate)
    if np.isnan(estimate.low):
        return Finding("inconclusive", text, estimate)
    if low <= estimate.low and estimate.high <= high:
        return Finding("reproduced", text, estimate)
    return Finding("refuted" if estimate.high < below or estimate.low > above else "inconclusive", text, estimate)


def show(estimate: Estimate) -> str:
    """A value with its interval in three digits."""
    if np.isnan(estimate.value):
        return "unknown"
    if np.isnan(estimate.low) or estimate.low == estimate.high:
        return f"{estimate.value:.4g}" if estimate.value >= 1000 else f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} (95 % interval {estimate.low:.3g} to {estimate.high:.3g})"


def _limits_text(low: float, high: float) -> str:
    if low == -np.inf:
        return f"at most {high:.3g}"
    if high == np.inf:
        return "no limit" if low == np.inf else f"at least {low:.3g}"
    return f"{low:.3g} to {high:.3g}"

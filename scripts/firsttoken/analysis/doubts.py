"""Signs in the data of a cell (an approach, prompt length and metric) that its intervals may not hold.

Intervals assume that processes differ by chance alone, and that a study's requests show all that requests do.
`docs/intervals.md` has the coverage where that is not so, and how often each sign is seen. Together the signs are false
in under 1 % of cells. With five processes most disturbances show no sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special, stats

from firsttoken.analysis.quantiles import CLOCK_MS
from firsttoken.analysis.statistics import MIN_PROCESSES, Floats

ALARM = 0.002  # false alarms of each test over processes
STALL = 4.0  # times the median of its process
STALLED = 0.01  # share of the time of all requests that stalls add; less moves no number that is shown
RARE = 0.05  # share of requests; more of them are how this approach behaves, and enough to know how often they come
STRONG = 0.5  # correlation of successive requests, at which a third of them would say as much
CORRELATED = "successive ones correlate"
SIGNS = {  # in the text of a cell -> in a summary
    "is apart": "a process apart",
    "drift over the repeats": "drift over the repeats",
    "times the median": "rare stalls",
    CORRELATED: "correlated requests",
}
NAMES = {"ttft": "TTFT", "itl_token_gap": "token gap", "itl_request_mean": "ITL"}
MEANS, P99S = ("ttft", "itl_request_mean"), ("ttft", "itl_token_gap")  # what a summary has of each


def doubts(
    latency_by_length: pd.DataFrame, approach: str, metric: str, lengths: Sequence[int], statistic: str = "mean"
) -> list[str]:
    """What was found in the cells behind a number, e.g. "TTFT of baseline at 10, 500 tokens: a process apart".

    Correlation within processes is no doubt about a mean, whose interval holds all the same.
    """
    cells = latency_by_length[latency_by_length["approach"] == approach].set_index("prompt_length")[f"{metric}_doubts"]
    found = []
    for sign, words in SIGNS.items():
        where = [str(length) for length in lengths if sign in (cells.get(length) or "")]
        if where and not (sign == CORRELATED and statistic == "mean"):
            found.append(f"{NAMES[metric]} of {approach} at {', '.join(where)} tokens: {words}")
    return found


def summary_doubts(latency_by_length: pd.DataFrame, approach: str) -> dict[str, str]:
    """The signs in all cells of an approach with their metrics: `doubts` about the means of a summary, and further
    `p99_doubts` about its P99s, where there are any. latency_by_length.csv has the figures."""
    rows = latency_by_length[latency_by_length["approach"] == approach]
    of_means = [(sign, metric) for metric in MEANS for sign in _signs(rows, metric) if sign != CORRELATED]
    of_p99s = [(sign, metric) for metric in P99S for sign in _signs(rows[rows[f"{metric}_p99_ms"].notna()], metric)]
    return {"doubts": _told(of_means), "p99_doubts": _told([found for found in of_p99s if found not in of_means])}


def _signs(rows: pd.DataFrame, metric: str) -> list[str]:
    return [sign for sign in SIGNS if rows[f"{metric}_doubts"].str.contains(sign).any()]


def _told(found: Sequence[tuple[str, str]]) -> str:
    """Pairs of a sign and a metric in words, e.g. "rare stalls (TTFT); correlated requests (TTFT, token gap)"."""
    by_sign = {sign: [NAMES[metric] for other, metric in found if other == sign] for sign in SIGNS}
    return "; ".join(f"{SIGNS[sign]} ({', '.join(names)})" for sign, names in by_sign.items() if names)


def cell_doubts(processes: Sequence[Floats], repeats: Sequence[int]) -> str:
    """The signs in one cell, "" for none. `processes` are the values in ms in order of time, [n] for each repeat."""
    present = [(repeat, values) for repeat, values in zip(repeats, processes, strict=True) if len(values)]
    if not present:
        return ""
    means_ms = np.array([values.mean() for _, values in present])
    values = [values for _, values in present]
    signs = [*process_signs(means_ms, [repeat for repeat, _ in present]), _stalls(values), _correlation(values)]
    return ", ".join(sign for sign in signs if sign)


def process_signs(values: Floats, repeats: Sequence[int]) -> list[str]:
    """A process apart from the others, and drift over the repeats; `values` [processes] are positive."""
    if len(values) < MIN_PROCESSES or not (values > 0).all() or np.ptp(values) == 0:
        return []
    logs = np.log(values)
    signs = []
    if stats.shapiro(logs).pvalue < ALARM:
        apart = int(np.argmax(np.abs(logs - np.median(logs))))
        more = values[apart] / np.median(np.delete(values, apart)) - 1
        signs.append(f"process {repeats[apart]} is apart ({100 * more:+.2g} %)")
    if drift_p_value(logs) < ALARM:
        signs.append("drift over the repeats")
    return signs


def drift_p_value(values: Floats) -> float:
    """How likely independent values differ as little from one to the next: the ratio of von Neumann (1941).

    Under independence 1 - ratio / 2 lies between -cos(pi / n) and cos(pi / n), with mean 0 and variance
    (n - 2) / (n^2 - 1); a symmetric beta distribution with these is close to it (at n = 5, 0.2 % is really 0.5 %).
    """
    n = len(values)
    deviations = values - values.mean()
    smoothness = 1 - np.sum(np.diff(values) ** 2) / np.sum(deviations**2) / 2
    most = np.cos(np.pi / n)
    shape = (most**2 * (n**2 - 1) / (n - 2) - 1) / 2
    return float(special.betainc(shape, shape, (1 - smoothness / most) / 2))


def _stalls(processes: Sequence[Floats]) -> str:
    """Rare requests that take several times as long: too few of them ran to know how often they come."""
    medians = [max(float(np.median(values)), CLOCK_MS) for values in processes]
    times = np.concatenate([values / median for values, median in zip(processes, medians, strict=True)])
    stalls = times[times > STALL]
    added = float(np.sum(stalls - 1) / len(times))
    if added < STALLED or len(stalls) > RARE * len(times):
        return ""
    return f"{len(stalls)} of {len(times)} took over {STALL:g} times the median and add {100 * added:.2g} % to the mean"


def _correlation(processes: Sequence[Floats]) -> str:
    """Requests that resemble the one before: the tail of fewer independent ones is known worse."""
    products = squares = 0.0
    for values in processes:
        logs = np.log(np.maximum(values, CLOCK_MS))
        deviations = logs - logs.mean()
        products += float(deviations[1:] @ deviations[:-1])
        squares += float(deviations @ deviations)
    lag1 = products / squares if squares else 0.0
    if lag1 < STRONG:
        return ""
    n = sum(map(len, processes))
    effective = n * (1 - lag1) / (1 + lag1)
    return f"{CORRELATED} at {lag1:.2g}, so that {n} count as {effective:.0f}"

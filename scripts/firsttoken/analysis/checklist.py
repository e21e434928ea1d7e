"""Hoefler and Belli's twelve rules (Scientific Benchmarking of Parallel Computing Systems, SC'15) and this study.

The rules are in our words; whether each is met, and the evidence, is computed from the study's own files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from firsttoken.analysis.busy import not_interleaved
from firsttoken.analysis.schemas import write_table
from firsttoken.analysis.statistics import MIN_PROCESSES
from firsttoken.analysis.study_tables import StudyTables
from firsttoken.pooled_runs import RAN

RuleCheck = tuple[str, str]  # yes, partly or no; what shows it
Rule = tuple[str, Callable[[StudyTables], RuleCheck]]  # what it asks for, and how that is seen
UNSEEN = 0.001  # tables and pages show three digits
_INSTRUMENT_SHARE = 0.1  # of the smallest latency: beyond, the study measures its instrument
_DISTRIBUTION_FIGURES = ("latency_ecdf", "run_order")


def write_checklist(study: StudyTables, figures: Sequence[str], out_csv: Path | str) -> None:
    """Write checklist.csv. `figures` are the names of the figures that the report shows, e.g. latency_ecdf."""
    plots: Rule = ("Plot enough to see the distribution.", partial(_plots, figures=figures))
    rows = []
    for number, (asks, check) in enumerate([*RULES, plots], start=1):
        met, evidence = check(study)
        rows.append({"rule": number, "asks": asks, "met": met, "evidence": evidence})
    write_table(pd.DataFrame(rows), "checklist", out_csv)


def _process_means(study: StudyTables) -> pd.DataFrame:
    """The means of processes; one of zero has no logarithm."""
    return study.statistics[(study.statistics["statistic"] == "mean") & (study.statistics["value"] > 0)]


def _all_or_some(found: int, total: int) -> str:
    """Whether all, some or none of `total` have what a rule asks for."""
    return "no" if not found else "yes" if found == total else "partly"


def _base_case(study: StudyTables) -> RuleCheck:
    base = study.shown[(study.shown["approach"] == "baseline") & study.shown["ttft_mean_ms"].notna()]
    if base.empty:
        return "no", "the baseline has no latencies, so that no speedup is shown"
    ms = base["ttft_mean_ms"].iloc[0]
    return "yes", f"the base of every speedup is the baseline, one eager process, with a TTFT of {ms:.4g} ms"


def _left_out(study: StudyTables) -> RuleCheck:
    without = int(study.summary["ttft_mean_ms"].isna().sum())
    absent = study.summary[study.summary["status"].isin(["unavailable", "failed"])]
    silent = list(absent.loc[absent["reason"] == "", "approach"])
    tainted, kept = int(study.summary["n_tainted"].sum()), int(study.summary["n_requests"].sum())
    text = f"approaches without latencies: {without}; tainted requests left out: {tainted} of {tainted + kept}"
    return ("no", f"no reason given for {', '.join(silent)}; {text}") if silent else ("yes", text)


def _means(study: StudyTables) -> RuleCheck:
    means = _process_means(study)
    if means.empty:
        return "no", "no means"
    groups = means.groupby(["approach", "prompt_length", "metric"])["value"]
    excess = float((groups.mean() / groups.apply(lambda part: np.exp(np.log(part).mean()))).max() - 1)
    text = (
        "latencies are costs, averaged arithmetically within processes and over lengths; over processes the mean "
        f"of logarithms, since the interval is about it; here it is at most {excess:.2%} below the arithmetic mean"
    )
    return ("yes" if excess < UNSEEN else "partly"), text


def _ratios(study: StudyTables) -> RuleCheck:
    shown = study.shown.dropna(subset=["speedup_ttft", "ttft_mean_ms"])
    base = shown.loc[shown["approach"] == "baseline", "ttft_mean_ms"]
    if shown.empty or base.empty:
        return "no", "no speedups are shown"
    off = float((shown["speedup_ttft"] / (base.iloc[0] / shown["ttft_mean_ms"]) - 1).abs().max())
    text = f"the largest relative deviation of a speedup from the ratio of the two mean latencies is {off:.1g}"
    return ("yes" if off < 1e-6 else "no"), text


def _intervals(study: StudyTables) -> RuleCheck:
    values = study.shown[study.shown["ttft_mean_ms"].notna()]
    with_interval = int(values["ttft_mean_low_ms"].notna().sum())
    fewest = int(values["n_processes"].min()) if len(values) else 0
    text = f"{with_interval} of {len(values)} mean TTFTs have a 95 % interval; the fewest processes are {fewest}"
    met = _all_or_some(with_interval, len(values))
    return met, f"{text}, {MIN_PROCESSES} are needed" if met == "no" else text


def _normality(study: StudyTables) -> RuleCheck:
    means = _process_means(study)
    values = means[means["metric"] != "itl_token_gap"]  # its means are those of itl_request_mean
    groups = [np.log(part["value"]) for _, part in values.groupby(["approach", "prompt_length", "metric"])]
    groups = [part for part in groups if len(part) >= MIN_PROCESSES and part.std() > 0]
    if not groups:
        return "no", "too few processes to look at the distribution of their means"
    smallest = min(float(stats.shapiro(part).pvalue) for part in groups)
    text = (
        f"intervals assume normal logarithms of process means: of {len(groups)} Shapiro-Wilk p-values, one a cell, the "
        f"smallest is {smallest:.2g}"
    )
    # One look a cell (Bonferroni). With few processes the test sees little, so that "yes" would say too much.
    enough = min(len(part) for part in groups) >= 10
    return ("yes" if enough and smallest >= 0.05 / len(groups) else "partly"), text


def _comparison(study: StudyTables) -> RuleCheck:
    compared = study.shown[(study.shown["approach"] != "baseline") & study.shown["speedup_ttft"].notna()]
    tested = int(compared["speedup_ttft_low"].notna().sum())
    text = f"{tested} of {len(compared)} speedups have an interval (paired t on log ratios of processes)"
    met = _all_or_some(tested, len(compared))
    if not_interleaved(study.records):
        return ("partly" if met == "yes" else met), f"{text}; but the approaches did not take turns"
    return met, text


def _purpose(study: StudyTables) -> RuleCheck:
    with_p99 = int(study.cells["ttft_p99_ms"].notna().sum())
    p99 = pd.concat([study.cells, study.shown])[["ttft_p99_ms", "ttft_p99_low_ms", "ttft_p99_high_ms"]]
    bare = int(p99.dropna(subset="ttft_p99_ms").isna().any(axis=1).sum())
    text = f"mean, median, P90, P95 and P99; {with_p99} of {len(study.cells)} cells have a P99 of TTFT"
    if bare:
        return "no", f"{text}; P99s without an interval, here and in the summary: {bare}"
    return _all_or_some(with_p99, len(study.cells)), text


def _setup(study: StudyTables) -> RuleCheck:
    environment = study.environment
    device = environment.gpu.name if environment.gpu else environment.cpu
    lengths = sorted(int(length) for length in study.by_length["prompt_length"].unique())
    text = (
        f"{device or 'unknown device'}, driver {environment.driver or 'none'}, "
        f"Python {environment.python or 'unknown'}, {len(environment.packages)} packages, "
        f"commit {environment.git_commit[:12]}{', changed' if environment.git_dirty else ''}; "
        f"prompt lengths {lengths}"
    )
    ahead = not_interleaved(study.records)
    text += f"; not interleaved: {ahead}" if ahead else "; repeats interleave the approaches"
    needed = ["packages", "git_commit", "python", "cpu", *(["gpu", "driver"] if environment.device == "cuda" else [])]
    if absent := [name for name in needed if getattr(environment, name) in ("", "unknown", {}, None)]:
        return "no", f"{text}; not recorded: {', '.join(absent)}"
    return ("partly" if environment.git_dirty or ahead else "yes"), text


def _timing(study: StudyTables) -> RuleCheck:
    text = "host clock when a token is an int on the client, no synchronisation but the approach's own"
    null = study.instrument[study.instrument["approach"] == "null"]
    if null.empty:
        return "partly", f"{text}; the instrument's own price was not measured"
    prices_us = null[["first_token_us", "token_gap_us"]].iloc[0].to_numpy(float)
    smallest_us = 1e3 * study.cells[["ttft_mean_ms", "itl_token_gap_mean_ms"]].min().to_numpy(float)
    timed = ~np.isnan(smallest_us)  # a study of first tokens has no gaps
    shares = prices_us[timed] / smallest_us[timed]
    compared = ", ".join(f"{share:.2%}" for share in shares) or "no share"
    text = (
        f"{text}; the instrument takes {prices_us[0]:.3g} us for a first token, {prices_us[1]:.3g} us for a later one, "
        f"{compared} of the smallest mean of a cell"
    )
    # A price of zero was not measured; one that is not a number is under no bound.
    possible = len(shares) and np.all((shares > 0) & (shares <= _INSTRUMENT_SHARE))
    return ("yes" if possible else "no"), text


def _bounds(study: StudyTables) -> RuleCheck:
    shown = study.cells[study.cells["status"].isin(RAN)]
    with_floor = int(shown["ttft_share_of_floor"].notna().sum())
    text = f"{with_floor} of {len(shown)} cells show the share of the floor from measured ceilings"
    highest = shown[["ttft_share_of_floor", "itl_share_of_floor"]].max().max()
    if highest > 1:
        return "no", f"{text}; one is {highest:.1%}, so that its floor is no bound"
    if with_floor and study.ceilings.weights_fit_in_cache:
        return "partly", f"{text}; the weights fit in the cache, so that only operations bound it"
    return _all_or_some(with_floor, len(shown)), text


def _plots(study: StudyTables, figures: Sequence[str]) -> RuleCheck:
    present = [name for name in _DISTRIBUTION_FIGURES if name in figures]
    requests = int(study.cells["n_requests"].sum())
    text = f"figures of the distribution: {', '.join(present) or 'none'}; requests with latencies: {requests}"
    return _all_or_some(len(present) if requests else 0, len(_DISTRIBUTION_FIGURES)), text


RULES: tuple[Rule, ...] = (
    ("Give the base case's absolute time beside any speedup.", _base_case),
    ("Say what was left out, and why.", _left_out),
    ("Average costs arithmetically and rates harmonically.", _means),
    ("Do not average ratios.", _ratios),
    ("Say whether a value is deterministic; if not, give its interval.", _intervals),
    ("Do not assume normality without looking.", _normality),
    ("Compare with a proper test.", _comparison),
    ("Choose the statistic for the purpose; waiting needs percentiles.", _purpose),
    ("Document all factors and the whole setup.", _setup),
    ("Say how time was taken, synchronised and summarised.", _timing),
    ("Show the bounds of the machine.", _bounds),
)

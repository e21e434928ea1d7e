"""The answer in three sentences: which approach gave the first token soonest, how surely, and what that means.

A fourth says that the machine was busy.

Only approaches that were measured can win: no emulated, approximate, failed or unavailable one, and no
control.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from firsttoken import files
from firsttoken.analysis.busy import busy, not_interleaved
from firsttoken.analysis.doubts import doubts
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.ranking import CONTROL, LOWEST, ranked
from firsttoken.analysis.statistics import CONFIDENCE, Estimate
from firsttoken.analysis.study_tables import StudyTables
from firsttoken.plan import ModelManifest
from firsttoken.results import Environment

MARKS = {LOWEST: " *", CONTROL: " (control)", "": ""}
NO_FIGURE = "has no process with untainted requests at every prompt length"
NO_GPU = "Nothing here was measured on a GPU, so that this says nothing about one"


class Setting(NamedTuple):
    """What the study was about."""

    model: str
    machine: str
    gpu: bool


def write_answer(study: StudyTables, out_txt: Path | str) -> None:
    """Write answer.txt, as `make run` prints it: the summary table, then three sentences, and a fourth where the
    machine was busy."""
    about = setting(study.environment, study.manifest)
    said = sentences(study.summary, study.by_length, study.processes, about)
    shown = [str(name) for name in study.shown["approach"]]
    if disturbed := busy(study.processes, shown, study.records, study.environment):
        said.append(disturbed)
    if ahead := not_interleaved(study.records):
        said.append(
            f"The approaches did not take turns: {ahead}. What changed on the machine in between falls on some of them "
            "alone; for a fair comparison, delete the study's folder raw and run again."
        )
    files.write_text(out_txt, summary_table_text(study.summary) + "\n" + "\n".join(said) + "\n")


def sentences(table: pd.DataFrame, lengths: pd.DataFrame, processes: ProcessTable, about: Setting) -> list[str]:
    """Three sentences: who won, how surely, and what that means."""
    contenders = ranked(table[(table["status"] == "measured") & ~table["control"] & table["ttft_mean_ms"].notna()])
    if contenders.empty:
        return _nothing(table, about)
    names = [str(name) for name in contenders["approach"]]
    # The winner was picked after looking, from all pairs: its intervals hold together (Bonferroni over the pairs).
    pairs = max(len(names) * (len(names) - 1) // 2, 1)
    confidence = 1 - (1 - CONFIDENCE) / pairs
    best = names[0]

    def ratio(name: str, base: str, metric: str) -> Estimate:
        return processes.ratio(name, base, metric, "mean", processes.lengths, confidence)

    ratios = {name: ratio(name, best, "ttft") for name in names[1:]}
    itl_ms = contenders.set_index("approach")["itl_request_mean_ms"].dropna().sort_values()
    itl = {str(name): ratio(str(name), str(itl_ms.index[0]), "itl_request_mean") for name in itl_ms.index[1:]}
    lower = _lower(table, "ttft_mean_ms", best)
    return [
        _who(contenders.iloc[0], ratios, about, lower) + _in_doubt(lengths, (best, "ttft")),
        _how_surely(names, ratios, pairs, lengths, _among(lower))
        + _in_doubt(lengths, *((n, "ttft") for n in names[1:2])),
        _meaning(table, contenders, ratios, _next_tokens(table, itl_ms, itl), about)
        + _in_doubt(lengths, *_others_in_meaning(names, itl_ms)),
    ]


def _in_doubt(lengths: pd.DataFrame, *numbers: tuple[str, str]) -> str:
    """`In doubt: ...` for the numbers (approach, metric) that a sentence uses, or nothing."""
    every = sorted(int(length) for length in lengths["prompt_length"].unique())
    found = [sign for approach, metric in numbers for sign in doubts(lengths, approach, metric, every)]
    return f" In doubt: {'; '.join(found)}." if found else ""


def _others_in_meaning(names: list[str], itl_ms: pd.Series) -> list[tuple[str, str]]:
    """Numbers (approach, metric) of the third sentence that the first two do not use: the baseline, the lowest ITL."""
    base = [("baseline", "ttft")] if "baseline" in names[2:] else []
    return base + [(str(name), "itl_request_mean") for name in itl_ms.index[:1]]


def setting(environment: Environment, manifest: ModelManifest) -> Setting:
    """What a study was about, from its records."""
    machine = (
        environment.gpu.name
        if environment.gpu
        else f"{environment.cpu} ({environment.threads} thread{'' if environment.threads == 1 else 's'})"
    )
    weights = " with random weights" if manifest.weights == "random" else ""
    return Setting(f"{manifest.name}{weights}", machine, environment.device == "cuda")


def _nothing(table: pd.DataFrame, about: Setting) -> list[str]:
    """No contender: say what became of each instead."""
    first = "" if about.gpu else f"{NO_GPU}: "
    return [
        f"{first}{'n' if first else 'N'}o approach can be ranked for {about.model} on {about.machine}, "
        "so that none has won.",
        f"What became of them: {', '.join(_statuses(table)) or 'the study has none'}.",
        "There is no figure here to rank; the summary table has the reasons, and the figures of what is not ranked.",
    ]


def _statuses(table: pd.DataFrame) -> list[str]:
    """What became of each approach that is no control."""
    rows = table[~table["control"]].to_dict("records")
    return [f"{row['approach']} " + (NO_FIGURE if _lost(row) else f"is {row['status']}") for row in rows]


def _lost(row: Mapping[Any, Any]) -> bool:
    """Whether an approach was measured and has no mean TTFT all the same."""
    return bool(row["status"] in ("measured", "approximate") and np.isnan(row["ttft_mean_ms"]))


def _lower(table: pd.DataFrame, column: str, best: str) -> str:
    """What is not ranked (a control, or approximate) and has a lower figure than the best that is; "" for none."""
    rows = table[table["status"].isin(["measured", "approximate"])].set_index("approach")[[column, "status", "control"]]
    rows = rows[rows[column] < rows.loc[best, column]].sort_values(column)
    rows = rows[rows["control"] | (rows["status"] == "approximate")]
    kinds = np.where(rows["control"], "control", "approximate")
    found = zip(rows.index, kinds, rows[column], strict=True)
    return ", ".join(f"{name} ({kind}, {ms:.3g} ms)" for name, kind, ms in found)


def _who(best: pd.Series, ratios: dict[str, Estimate], about: Setting, lower: str) -> str:
    name = best["approach"]
    first = "" if about.gpu else f"{NO_GPU}: "
    where = f"for {about.model} on {about.machine}"
    ttft = f"{best['ttft_mean_ms']:.3g} ms on average over the prompt lengths"
    beside = f" Lower, but not ranked: {lower}." if lower else ""
    if not ratios:
        return f"{first}{name} is the only approach that is ranked {where}: TTFT {ttft}.{beside}"
    unsure = [other for other, ratio in ratios.items() if not ratio.low > 1]
    doubt = f" Its difference from {' and '.join(unsure)} is not certain." if unsure else ""
    return f"{first}{name} had the lowest mean TTFT{_among(lower)} {where}: {ttft}.{doubt}{beside}"


def _among(lower: str) -> str:
    return " of the ranked approaches" if lower else ""


def _how_surely(names: list[str], ratios: dict[str, Estimate], pairs: int, lengths: pd.DataFrame, among: str) -> str:
    if len(names) == 1:
        return "There was no second approach to compare it with."
    second = names[1]
    ratio = ratios[second]
    if np.isnan(ratio.value):
        return f"{names[0]} and {second}, the next, have no repeat in common, so that there is no ratio."
    times = f"The TTFT of {second}, the next, was {ratio.value:.3g} times as long"
    won = _lengths_won(names, lengths, among)
    if np.isnan(ratio.low):
        return f"{times}; there are too few processes ({ratio.n}) for an interval, so this may be chance{won}."
    looks = f", corrected for {pairs} comparisons" if pairs > 1 else ""
    interval = f"{times} (95 % interval {ratio.low:.3g} to {ratio.high:.3g} over {ratio.n} processes{looks})"
    unsure = [name for name, other in ratios.items() if not other.low > 1]
    if unsure:
        others = "" if unsure == [second] else f" from {' and '.join(unsure)}"
        return f"{interval}; no difference is shown{others}{won}."
    others = "; every other ranked approach had a longer TTFT" if len(names) > 2 else ""
    return f"{interval}{others}{won}."


def _lengths_won(names: list[str], lengths: pd.DataFrame, among: str) -> str:
    """At how many prompt lengths the winner's mean is below those of all others, where there are several."""
    rows = lengths[lengths["approach"].isin(names)]
    wide = rows.pivot(index="prompt_length", columns="approach", values="ttft_mean_ms").dropna()
    if len(wide) < 2 or names[0] not in wide:
        return ""
    won = int(wide.drop(columns=names[0]).gt(wide[names[0]], axis=0).all(axis=1).sum())
    return f"; {names[0]} had the lowest TTFT{among} at {won} of {len(wide)} prompt lengths"


def _next_tokens(table: pd.DataFrame, itl_ms: pd.Series, ratios: dict[str, Estimate]) -> list[str]:
    """Which approach had the shortest next tokens; `itl_ms` is sorted, `ratios` are to its first."""
    if itl_ms.empty:
        return []
    said = f"the next tokens were fastest with {itl_ms.index[0]} ({itl_ms.iloc[0]:.3g} ms each)"
    if unsure := [name for name, ratio in ratios.items() if not ratio.low > 1]:
        said += f", with no difference shown from {' and '.join(unsure)}"
    if lower := _lower(table, "itl_request_mean_ms", str(itl_ms.index[0])):
        said += f"; faster, but not ranked: {lower}"
    return [said]


def _meaning(
    table: pd.DataFrame, contenders: pd.DataFrame, ratios: dict[str, Estimate], next_tokens: list[str], about: Setting
) -> str:
    best = contenders.iloc[0]
    base_ms = best["ttft_mean_ms"] * best["speedup_ttft"]
    unsure = [name for name, ratio in ratios.items() if not ratio.low > 1]
    if best["approach"] == "baseline" and unsure:
        parts = [f"no difference between plain eager execution and {' and '.join(unsure)} is shown"]
    elif best["approach"] == "baseline":
        parts = [
            "no other ranked approach is sooner than plain eager execution" if ratios else "nothing else is ranked"
        ]
    elif "baseline" not in ratios:
        parts = ["there are no latencies of the baseline to compare with"]
    elif ratios["baseline"].low > 1:
        parts = [f"the first token comes after {best['ttft_mean_ms']:.3g} ms instead of {base_ms:.3g} ms"]
    else:
        parts = [f"this study does not show that {best['approach']} gives the first token sooner than the baseline"]
    parts += next_tokens
    if out := _statuses(table[(table["status"] != "measured") | table["ttft_mean_ms"].isna()]):
        parts.append(f"not ranked: {', '.join(out)}")
    if not about.gpu:
        parts.append("only a study on a GPU can say which approach to use there")
    return f"This means: {'; '.join(parts)}."


def summary_table_text(summary: pd.DataFrame) -> str:
    """The summary for a terminal, under 120 columns; emulated figures have the word in their row."""
    table = ranked(summary)
    figures = ["speedup (95 %)", "TTFT ms (95 %)", "token ms", "floor %", "P99 ms", "GiB", "ready s"]
    rows = [["approach", "status", *figures]]
    for row in table.to_dict("records"):
        device, host = row["device_over_idle_gib"], row["host_peak_gib"]
        memory = f"{device:.2f}" if not np.isnan(device) else f"{host:.2f} host" if not np.isnan(host) else "-"
        rows.append(
            [
                f"{row['approach']}{MARKS[row['role']]}{' ?' if row['doubts'] else ''}",
                str(row["status"]),
                _cell(row["speedup_ttft"], row["speedup_ttft_low"], row["speedup_ttft_high"]),
                _cell(row["ttft_mean_ms"], row["ttft_mean_low_ms"], row["ttft_mean_high_ms"]),
                _cell(row["itl_request_mean_ms"]),
                _shares(row["ttft_share_of_floor"], row["itl_share_of_floor"]),
                f"{_cell(row['ttft_p99_ms'])}{' ?' if p99_signs(row['p99_doubts']) else ''}",
                memory,
                _cell(row["ready_s"]),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    reasons = ["*: lowest TTFT; floor %: the floor (of one run) in percent of the median, of TTFT and of a next token"]
    reasons += [f"{row['approach']}: {row['reason']}" for row in table.to_dict("records") if row["reason"]]
    reasons += [f"{row['approach']}: {NO_FIGURE}" for row in table.to_dict("records") if _lost(row)]
    doubted = [f"{row['approach']}: {row['remarks']}" for row in table.to_dict("records") if row["remarks"]]
    doubted += [f"? {row['approach']} in doubt: {row['doubts']}" for row in table.to_dict("records") if row["doubts"]]
    signs: dict[str, list[str]] = {}
    for row in table.to_dict("records"):
        for sign in p99_signs(row["p99_doubts"]):
            signs.setdefault(sign, []).append(str(row["approach"]))
    doubted += [f"? P99 in doubt: {sign} ({', '.join(names)})" for sign, names in signs.items()]
    for line in doubted:
        reasons += textwrap.wrap(line, 120, subsequent_indent="  ")
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:], *reasons]) + "\n"


def p99_signs(p99_doubts: str) -> list[str]:
    """The signs about the P99 of TTFT, without the names of metrics."""
    return [sign.partition(" (")[0] for sign in p99_doubts.split("; ") if "TTFT" in sign]


def _shares(ttft: float, itl: float) -> str:
    """`12%, 14%`: floor / median of TTFT and of request mean ITL; nothing is faster than 100 %."""
    if np.isnan(ttft) and np.isnan(itl):
        return "-"
    return ", ".join("-" if np.isnan(share) else f"{100 * share:.2g}%" for share in (ttft, itl))


def _cell(value: float, low: float = np.nan, high: float = np.nan) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.3g}" if np.isnan(low) or low == high else f"{value:.3g} ({low:.3g} to {high:.3g})"

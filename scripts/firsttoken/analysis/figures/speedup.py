"""Speedup of TTFT against the baseline: a forest plot, a row a prompt length, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw
from firsttoken.analysis.schemas import read_untyped

TITLE = "Speedup of TTFT against baseline"
BASE = "baseline"
MOST_LENGTHS = 4
COLUMNS = ["approach", "status", "prompt_length", "speedup", "low", "high"]


def draw(inputs: FigureInputs) -> Drawing:
    """Draw `speedup_ttft` of both tables; above 1 is faster; the diamond is the summary."""
    names = [name for name in inputs.shown if name != BASE]
    data = _collect(read_untyped(inputs.files[0]), read_untyped(inputs.summary), names)
    if data.empty:
        message = "No speedup: the baseline or every other approach is missing from this study."
        return nothing_to_draw(message, data, TITLE)
    drawn = inputs.drawn(data)
    lengths = _some_lengths(data)
    visible = data[data["prompt_length"].isna() | data["prompt_length"].isin(lengths)]
    figure = style.new_figure(8.2, 0.23 * (len(visible) + len(drawn)) + 1.2)
    axes = figure.subplots()
    _draw_rows(axes, visible, drawn)
    axes.axvline(1.0, color=style.INK, linewidth=1.0)
    axes.set(xscale="log", xlabel="Speedup over baseline (log scale; right of 1 is faster)", title=TITLE)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.9), max(high, 1.1))
    style.plain_log_ticks(axes.xaxis)
    low, high = axes.get_xlim()
    axes.set_xticks(sorted({1.0, *(tick for tick in axes.get_xticks() if low <= tick <= high)}))
    intervals = "" if data["low"].notna().any() else "No intervals: too few processes."
    n_lengths = data["prompt_length"].nunique()
    some = f"{len(lengths)} of {n_lengths} prompt lengths; all are in the CSV." if len(lengths) < n_lengths else ""
    doubt = palette.doubt_note([entry for entry in inputs.entries if entry.shown])
    others = [entry for entry in inputs.entries if entry.name != BASE]
    whole = data[data["prompt_length"].isna()].set_index("approach")["speedup"]
    values = style.list_values(whole, names, "x") or "not given"
    return Drawing(
        figure,
        data,
        f"Forest plot of speedups against the baseline. Over all prompt lengths: {values}.",
        palette.note(others, drawn, intervals, some, doubt),
    )


def _collect(lengths: pd.DataFrame, summary: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Rows a prompt length, then the summary's (prompt_length is missing there), an approach after the other."""
    wanted = {"speedup_ttft": "speedup", "speedup_ttft_low": "low", "speedup_ttft_high": "high"}
    numbers = dict.fromkeys(["prompt_length", "speedup", "low", "high"], float)
    summary = summary.assign(prompt_length=np.nan)
    both = pd.concat([frame.rename(columns=wanted)[COLUMNS].astype(numbers) for frame in (lengths, summary)])
    both = both[both["approach"].isin(names) & both["speedup"].notna()]
    place = both["approach"].map({name: index for index, name in enumerate(names)})
    return both.assign(_place=place).sort_values(["_place", "prompt_length"])[COLUMNS].reset_index(drop=True)


def _some_lengths(data: pd.DataFrame) -> list[float]:
    """At most MOST_LENGTHS prompt lengths, from the shortest to the longest, so that the figure fits a screen."""
    lengths = sorted(data["prompt_length"].dropna().unique())
    places = np.unique(np.linspace(0, len(lengths) - 1, min(MOST_LENGTHS, len(lengths))).round().astype(int))
    return [float(lengths[place]) for place in places]


def _draw_rows(axes: Axes, data: pd.DataFrame, drawn: Sequence[palette.Entry]) -> None:
    place, ticks, labels = 0, [], []
    for entry in drawn:
        look = entry.look
        ticks.append(place)
        labels.append(entry.label)
        place += 1
        for row in data[data["approach"] == entry.name].to_dict("records"):
            is_summary = np.isnan(row["prompt_length"])
            if np.isfinite(row["low"]) and np.isfinite(row["high"]):
                axes.plot(
                    [row["low"], row["high"]], [place, place], color=look.colour, linewidth=2.4 if is_summary else 1.5
                )
            axes.plot(
                [row["speedup"]], [place], marker="D" if is_summary else look.marker, color=look.colour,
                markerfacecolor="white" if entry.emulated else look.colour, markersize=8 if is_summary else 5.5,
            )  # fmt: skip
            axes.annotate(
                f"{row['speedup']:.2f}x", (1.01, place), xycoords=("axes fraction", "data"), fontsize=8, va="center",
                weight="bold" if is_summary else "normal", annotation_clip=False,
            )  # fmt: skip
            ticks.append(place)
            labels.append("all lengths" if is_summary else f"{int(row['prompt_length'])} tokens")
            place += 1
    axes.set_yticks(ticks, labels, fontsize=8)
    headings = {entry.label for entry in drawn}
    for label in axes.get_yticklabels():
        if label.get_text() in headings:
            label.set(fontweight="bold", fontsize=9)
    axes.set_ylim(place - 0.3, -0.8)
    axes.grid(axis="y", visible=False)

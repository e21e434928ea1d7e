"""Seconds from the start of a process until it is ready, by part, and its cold first token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw
from firsttoken.pooled_runs import read_records
from firsttoken.results import RunRecord

TITLE = "Time until ready"
PARTS = {
    "imports_s": "imports, start of CUDA",
    "load_s": "load weights",
    "compile_s": "compile",
    "capture_s": "capture",
    "warm_up_s": "warm up",
    "other_s": "other",
}
LEAST_LABELLED_SHARE = 0.07  # of the axis: narrower parts have no room for their number


def draw(inputs: FigureInputs) -> Drawing:
    """Draw the set-up times in the run records: medians over processes, stacked, with the cold TTFT as a diamond."""
    data = _medians(read_records(inputs.files[0]), inputs.shown)
    if data.empty:
        return nothing_to_draw("No run has recorded its set-up times.", data, TITLE)
    drawn = inputs.drawn(data)
    figure = style.new_figure(8.2, 0.46 * len(drawn) + 1.7)
    axes = figure.subplots()
    rows = data.set_index("approach")
    _draw(axes, rows, drawn)
    axes.plot(
        rows["cold_ttft_s"], range(len(drawn)), "D", color=style.INK, markerfacecolor="white", markersize=6,
        label="cold first token", linestyle="none",
    )  # fmt: skip
    axes.set_xlabel("Seconds from process start")
    axes.set_title(TITLE, pad=38)  # above the legend
    axes.title.set_position((0, 1))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, fontsize=8.5, handlelength=1.3, columnspacing=1.1,
        borderaxespad=0.3,
    )  # fmt: skip
    cached = data.loc[data["cached_runs"] > 0, "approach"].tolist()
    found = f"Compiled code came from the study's cache in some runs of: {', '.join(cached)}." if cached else ""
    medians = "Medians over processes of each part, so they need not add up to the median of the whole."
    values = style.list_values(rows["ready_s"], inputs.shown, " s")
    note = palette.note(inputs.entries, drawn, medians, found)
    return Drawing(figure, data, f"Stacked bars. Ready after: {values}.", note)


def _draw(axes: Axes, rows: pd.DataFrame, drawn: Sequence[palette.Entry]) -> None:
    """A bar an approach. Wide parts carry their number, on a light ground, so that it reads on every shade."""
    longest = float(np.nanmax(rows[["ready_s", "cold_ttft_s"]].to_numpy(float))) or 1.0
    for place, entry in enumerate(drawn):
        left, hatch = 0.0, palette.EMULATED_HATCH if entry.emulated else None
        widths = rows.loc[entry.name, list(PARTS)].to_numpy(float)
        for width, name, shade in zip(widths, PARTS.values(), palette.shades(len(PARTS)), strict=True):
            axes.barh(
                place, width, left=left, height=0.62, color=shade, edgecolor="white", hatch=hatch,
                label=None if place else name,  # in the legend once
            )  # fmt: skip
            if width > LEAST_LABELLED_SHARE * longest:
                axes.text(
                    left + width / 2, place, f"{width:.2g}", ha="center", va="center", fontsize=8, color=style.INK,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.2},
                )  # fmt: skip
            left += width
    style.approach_rows(axes, drawn)
    axes.set_xlim(0, longest * 1.06)


def _medians(records: Sequence[RunRecord], names: Sequence[str]) -> pd.DataFrame:
    """A row an approach: the parts, ready_s, cold_ttft_s, processes and how many used cached compiled code."""
    columns = ["approach", *PARTS, "ready_s", "cold_ttft_s", "processes", "cached_runs"]
    rows = []
    for name in names:
        runs = [run for run in records if run.approach == name and run.ready_s is not None]
        if not runs:
            continue
        parts = pd.DataFrame([{part: getattr(run.setup, part, 0.0) for part in PARTS} for run in runs])
        ready = pd.Series([run.ready_s for run in runs], dtype=float)
        parts["other_s"] = (ready - parts.sum(axis=1)).clip(lower=0)
        cold = pd.Series([run.cold_ttft_ms for run in runs], dtype=float) / 1e3
        cached = sum(run.compile_cache == "cached" for run in runs)
        rows.append([name, *parts.median(), ready.median(), cold.median(), len(runs), cached])
    return pd.DataFrame(rows, columns=columns)

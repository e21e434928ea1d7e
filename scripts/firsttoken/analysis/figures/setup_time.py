"""Seconds from the start of a process until it is ready, by part, and its cold first token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import FigureInputs
from firsttoken.pooled_runs import read_records
from firsttoken.results import RunRecord

TITLE = "Time until ready"
PARTS = {
    "imports_s": "imports",
    "load_s": "load weights",
    "compile_s": "compile",
    "capture_s": "capture",
    "warm_up_s": "warm up",
    "other_s": "other",
}
LEAST_LABELLED_SHARE = 0.07  # of the axis: narrower parts have no room for their number


def plot(inputs: FigureInputs, out_svg: Path, out_csv: Path) -> None:
    """Draw the set-up times in the run records: medians over processes, stacked, with the cold TTFT as a diamond."""
    entries = palette.read_entries(inputs.summary, inputs.order)
    data = _medians(read_records(inputs.files[0]), entries)
    if data.empty:
        style.save_message("No run has recorded its set-up times.", data, out_svg, out_csv, title=TITLE)
        return
    drawn = [entry for entry in entries if entry.name in set(data["approach"])]
    with style.theme():
        figure = style.new_figure(8.2, 0.46 * len(drawn) + 1.5)
        axes = figure.subplots()
        _draw(axes, data.set_index("approach"), drawn)
        style.legend_above(axes, columns=7)
        cached = data.loc[data["cached_runs"] > 0, "approach"].tolist()
        found = f"Compiled code came from the study's cache in some runs of: {', '.join(cached)}." if cached else ""
        medians = "Medians over processes of each part, so they need not add up to the median of the whole."
        style.add_note(figure, palette.note(entries, [entry.name for entry in drawn], medians, found))
        values = style.list_values(data.set_index("approach")["ready_s"], list(data["approach"]), " s")
        style.save(
            figure,
            palette.with_status(data, entries),
            out_svg,
            out_csv,
            title=TITLE,
            description=f"Stacked bars. Ready after: {values}.",
        )


def _medians(records: Sequence[RunRecord], entries: Sequence[palette.Entry]) -> pd.DataFrame:
    """A row an approach: the parts, ready_s, cold_ttft_s, processes and how many used cached compiled code."""
    columns = ["approach", *PARTS, "ready_s", "cold_ttft_s", "processes", "cached_runs"]
    rows = []
    for entry in entries:
        runs = [run for run in records if run.approach == entry.name and entry.shown and run.ready_s is not None]
        if not runs:
            continue
        parts = pd.DataFrame([{part: getattr(run.setup, part, 0.0) for part in PARTS} for run in runs])
        ready = pd.Series([run.ready_s for run in runs], dtype=float)
        parts["other_s"] = (ready - parts.sum(axis=1)).clip(lower=0)
        cold = pd.Series([run.cold_ttft_ms for run in runs], dtype=float) / 1e3
        cached = sum(run.compile_cache == "cached" for run in runs)
        rows.append([entry.name, *parts.median(), ready.median(), cold.median(), len(runs), cached])
    return pd.DataFrame(rows, columns=columns)


def _draw(axes: Axes, data: pd.DataFrame, drawn: Sequence[palette.Entry]) -> None:
    shades = palette.shades(len(PARTS))
    longest = float(np.nanmax(data[["ready_s", "cold_ttft_s"]].to_numpy(float))) or 1.0
    for place, entry in enumerate(drawn):
        row, left = data.loc[entry.name].to_dict(), 0.0
        for (part, name), shade in zip(PARTS.items(), shades, strict=True):
            width = float(row[part])
            hatch = palette.EMULATED_HATCH if entry.emulated else None
            axes.barh(
                place, width, left=left, height=0.62, color=shade, edgecolor="white", hatch=hatch,
                label=name if place == 0 else None,
            )  # fmt: skip
            if width / longest > LEAST_LABELLED_SHARE:
                style.bar_number(axes, left, width, place, f"{width:.2g}")
            left += width
        if pd.notna(row["cold_ttft_s"]):
            axes.plot(
                [row["cold_ttft_s"]], [place], "D", color=style.INK, markerfacecolor="white", markersize=6,
                label="cold first token" if place == 0 else None, linestyle="none",
            )  # fmt: skip
    axes.set_yticks(range(len(drawn)), [entry.label for entry in drawn])
    axes.set(ylim=(len(drawn) - 0.4, -0.6), xlim=(0, longest * 1.06), title=TITLE, xlabel="Seconds from process start")
    axes.grid(axis="y", visible=False)

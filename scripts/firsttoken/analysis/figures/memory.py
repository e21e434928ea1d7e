"""Peak memory of each approach: a panel a quantity, a bar an approach, a dot a fresh process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import FigureInputs
from firsttoken.pooled_runs import read_records
from firsttoken.results import RunRecord

TITLE = "Peak memory"
GIB = 2**30
QUANTITIES = {  # field of MemoryRecord -> panel title
    "device_allocated_bytes": "Device allocated",
    "device_reserved_bytes": "Device reserved",
    "device_process_tree_bytes": "Device, whole process tree",
    "device_over_idle_bytes": "Device over idle",
    "graph_bytes": "Held by graphs",
    "host_peak_bytes": "Host, whole process tree",
}


def plot(inputs: FigureInputs, out_svg: Path, out_csv: Path) -> None:
    """Draw the peaks in the run records; a quantity that no run has gets no panel."""
    entries = palette.read_entries(inputs.summary, inputs.order)
    data = _peaks(read_records(inputs.files[0]), entries)
    if data.empty:
        style.save_message("No run has recorded its memory.", data, out_svg, out_csv, title=TITLE)
        return
    drawn = [entry for entry in entries if entry.name in set(data["approach"])]
    panels = [title for title in QUANTITIES.values() if title in set(data["quantity"])]
    looks = palette.looks(inputs.order)
    with style.theme():
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        figure = style.new_figure(max(3.1 * columns + 1.2, 6.5), rows * (0.36 * len(drawn) + 1.0))
        grid = np.atleast_2d(figure.subplots(rows, columns, sharey=True, squeeze=False))
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, data[data["quantity"] == panel], drawn, looks)
            axes.set_title(panel, fontsize=9.5)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.suptitle(
            f"{TITLE}, GiB",
            fontsize=11,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
        read = "Bar and number: median of processes. Dot: one process."
        style.add_note(figure, palette.note(entries, [entry.name for entry in drawn], read, _missing_note(panels)))
        style.save(
            figure,
            palette.with_status(data, entries),
            out_svg,
            out_csv,
            title=TITLE,
            description=_describe(data, panels),
        )


def _peaks(records: Sequence[RunRecord], entries: Sequence[palette.Entry]) -> pd.DataFrame:
    """A row a run and quantity: columns approach, repeat, quantity, gib."""
    shown = {entry.name for entry in entries if entry.shown}
    rows = [
        (record.approach, record.repeat, title, getattr(record.memory, field) / GIB)
        for record in records
        if record.approach in shown and record.status in palette.SHOWN
        for field, title in QUANTITIES.items()
        if getattr(record.memory, field) is not None
    ]
    return pd.DataFrame(rows, columns=["approach", "repeat", "quantity", "gib"])


def _draw(axes: Axes, rows: pd.DataFrame, drawn: Sequence[palette.Entry], looks: dict[str, palette.Look]) -> None:
    widest = max(float(rows["gib"].max()), 1e-9)
    for place, entry in enumerate(drawn):
        values = rows.loc[rows["approach"] == entry.name, "gib"].to_numpy()
        if not len(values):
            axes.annotate(
                "no value", (0, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
                color=style.MUTED,
            )  # fmt: skip
            continue
        median = float(np.median(values))
        axes.barh(place, median, height=0.62, **palette.bar_style(looks[entry.name], entry.emulated))
        axes.plot(values, [place] * len(values), ".", color=style.INK, markersize=4, zorder=4)
        axes.annotate(
            style.three_digits(median), (1.0, place), xycoords=("axes fraction", "data"), fontsize=8, ha="right",
            va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(drawn)), [entry.label for entry in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlim(0, widest * 1.3)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y", visible=False)


def _missing_note(panels: Sequence[str]) -> str:
    missing = [title for title in QUANTITIES.values() if title not in panels]
    if panels == [QUANTITIES["host_peak_bytes"]]:
        return "No device memory was recorded: there is no CUDA device."
    return f"Not recorded on this machine: {'; '.join(missing).lower()}." if missing else ""


def _describe(data: pd.DataFrame, panels: Sequence[str]) -> str:
    medians = data[data["quantity"] == panels[-1]].groupby("approach")["gib"].median()
    values = ", ".join(f"{name} {value:.3g} GiB" for name, value in medians.items())
    return f"Bar charts of peak memory in {len(panels)} panels. {panels[-1]}: {values}."

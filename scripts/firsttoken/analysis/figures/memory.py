"""Peak memory of each approach: a panel a quantity, a bar an approach, a dot a fresh process."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw
from firsttoken.pooled_runs import RAN, read_records
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


def draw(inputs: FigureInputs) -> Drawing:
    """Draw the peaks in the run records; a quantity that no run has gets no panel."""
    data = _peaks(read_records(inputs.files[0]), inputs.shown)
    if data.empty:
        return nothing_to_draw("No run has recorded its memory.", data, TITLE)
    drawn = inputs.drawn(data)
    panels = [title for title in QUANTITIES.values() if title in set(data["quantity"])]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = style.new_figure(max(3.1 * columns + 1.2, 6.5), rows * (0.36 * len(drawn) + 1.0))
    grid = style.panel_grid(figure, f"{TITLE}, GiB", panels, columns, sharex=False)
    for axes, panel in zip(grid, panels, strict=True):
        _draw(axes, data[data["quantity"] == panel], drawn)
    read = "Bar and number: median of processes. Dot: one process."
    medians = data[data["quantity"] == panels[-1]].groupby("approach")["gib"].median()
    values = style.list_values(medians, medians.index, " GiB")
    return Drawing(
        figure,
        data,
        f"Bar charts of peak memory in {len(panels)} panels. {panels[-1]}: {values}.",
        palette.note(inputs.entries, drawn, read, _missing_note(panels)),
    )


def _peaks(records: Sequence[RunRecord], names: Sequence[str]) -> pd.DataFrame:
    """A row a run and quantity: columns approach, repeat, quantity, gib."""
    rows = [
        (record.approach, record.repeat, title, getattr(record.memory, field) / GIB)
        for record in records
        if record.approach in names and record.status in RAN
        for field, title in QUANTITIES.items()
        if getattr(record.memory, field) is not None
    ]
    return pd.DataFrame(rows, columns=["approach", "repeat", "quantity", "gib"])


def _draw(axes: Axes, rows: pd.DataFrame, drawn: Sequence[palette.Entry]) -> None:
    widest = max(float(rows["gib"].max()), 1e-9)
    for place, entry in enumerate(drawn):
        values = rows.loc[rows["approach"] == entry.name, "gib"]
        if values.empty:
            axes.annotate(
                "no value", (0, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
                color=style.MUTED,
            )  # fmt: skip
            continue
        axes.barh(place, values.median(), height=0.62, **palette.bar_style(entry.look, entry.emulated))
        axes.plot(values, [place] * len(values), ".", color=style.INK, markersize=4, zorder=4)
        axes.annotate(
            style.three_digits(values.median()), (1.0, place), xycoords=("axes fraction", "data"), fontsize=8,
            ha="right", va="center", annotation_clip=False,
        )  # fmt: skip
    style.approach_rows(axes, drawn)
    axes.set_xlim(0, widest * 1.3)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _missing_note(panels: Sequence[str]) -> str:
    missing = [title for title in QUANTITIES.values() if title not in panels]
    if panels == [QUANTITIES["host_peak_bytes"]]:
        return "No device memory was recorded: there is no CUDA device."
    return f"Not recorded on this machine: {'; '.join(missing).lower()}." if missing else ""

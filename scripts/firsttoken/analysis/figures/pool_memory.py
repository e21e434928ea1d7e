"""Memory over ever more prompt lengths: a pool of graphs that rolls against one that never evicts."""

from __future__ import annotations

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs
from firsttoken.analysis.schemas import read_untyped

TITLE = "Memory over prompt lengths: rolling against unbounded"
GIB = 2**30
GROWTH = "device_used_bytes"  # the whole device's, most of which is weights: drawn over the first length's
MEMORY = {  # the first of these that the experiment has is drawn
    GROWTH: "Device memory in use over the first length's, GiB",
    "device_reserved_bytes": "Device memory reserved, GiB",
    "graph_bytes": "Memory held by graphs, GiB",
    "host_bytes": "Host memory, GiB (emulated)",
}
MODES = {"rolling": palette.Look("#0072b2", "D", (0, ())), "unbounded": palette.Look("#d55e00", "o", (0, (6, 2)))}


def draw(inputs: FigureInputs) -> Drawing:
    """Draw the pool experiment: columns mode, step, prompt_length and the bytes held then."""
    data = read_untyped(inputs.files[0])
    column = next(name for name in MEMORY if data[name].notna().any())
    emulated = column == "host_bytes"
    first = data.sort_values("step").groupby("mode")[column].transform("first") if column == GROWTH else 0.0
    shown_gib = (data[column] - first) / GIB
    figure = style.new_figure(8.2, 3.9)
    axes = figure.subplots()
    ends = []
    for mode, rows in data.groupby("mode", sort=False):
        look = MODES[str(mode)]
        rows = rows.sort_values("step")
        drawn = shown_gib[rows.index]
        every = max(len(rows) // 12, 1)
        axes.plot(rows["step"], drawn, markevery=every, **palette.line_style(look, emulated))
        ends.append((float(drawn.iloc[-1]), str(mode), look.colour))
    axes.set(xlabel="Different prompt lengths served so far", ylabel=MEMORY[column], title=TITLE)
    axes.set_ylim(min(0.0, float(shown_gib.min())), 1.12 * max(float(shown_gib.max()), 1e-3))
    style.label_ends(axes, ends)
    told = "Emulated: no CUDA device, so no graph was captured; this is not evidence about graph memory."
    growth = data.sort_values("step").groupby("mode")[column].agg(lambda values: values.iloc[-1] - values.iloc[0])
    values = ", ".join(f"{mode} {grown / GIB:+.3g} GiB" for mode, grown in growth.items())
    description = f"Memory over the number of prompt lengths served. Growth from the first to the last: {values}."
    return Drawing(figure, data, description, told if emulated else "")

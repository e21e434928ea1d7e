"""TTFT in the order in which requests ran: a trend or a step here means that the machine drifted while measuring."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firsttoken.analysis.figures import palette, style
from firsttoken.analysis.figures.base import Drawing, FigureInputs, nothing_to_draw

TITLE = "Drift: TTFT over run order"
WINDOWS = 25  # points of each process's running median, at most
LEAST_IN_WINDOW = 8  # requests: fewer give a line that is only noise
DOTS = 250  # an approach: enough to see outliers, few enough for a small file


def draw(inputs: FigureInputs) -> Drawing:
    """Draw each TTFT over the approach's median at that prompt length, and a running median for each process."""
    columns = ["approach", "repeat", "order", "prompt_length", "token_index", "latency_ns", "tainted"]
    samples = pd.read_parquet(inputs.files[0], columns=columns)
    first = samples[(samples["token_index"] == 0) & samples["approach"].isin(inputs.shown)].copy()
    first["clean"] = first["latency_ns"].where(~first["tainted"])  # what is tainted is shown, but counts in no median
    typical = first.groupby(["approach", "prompt_length"])["clean"].transform("median")
    first["relative"], first["clean"] = first["latency_ns"] / typical, first["clean"] / typical
    first = first[first["relative"].notna()]
    if first.empty:
        return nothing_to_draw("No untainted samples to show.", first, TITLE)
    windows = _running_medians(first)
    drawn = inputs.drawn(first)
    n_columns = 2 if len(drawn) == 4 else min(len(drawn), 3)
    figure = style.new_figure(3.1 * n_columns + 0.8, 2.3 * -(-len(drawn) // n_columns) + 0.5)
    panels = style.panel_grid(figure, TITLE, [entry.label for entry in drawn], n_columns, sharex=True)
    for axes, entry in zip(panels, drawn, strict=True):
        part, medians = (frame[frame["approach"] == entry.name] for frame in (first, windows))
        _draw(axes, part, medians, entry.look)
    panels[0].set_ylim(*_limits(first["relative"].to_numpy()))
    for axes in panels[-n_columns:]:
        axes.set_xlabel("Request number in its process", fontsize=9)
        axes.tick_params(labelbottom=True)
    for axes in panels[::n_columns]:
        axes.set_ylabel("TTFT / median\nat its length", fontsize=9)
    read = "Lines: running median of each process. Dots: a sample of requests; tainted ones are crosses."
    n_above = int((first["relative"] > panels[0].get_ylim()[1]).sum())
    above = f"{n_above:,} of {len(first):,} requests lie above the axis."
    spans = windows.groupby("approach")["relative"].agg(lambda values: values.max() - values.min())
    values = ", ".join(f"{entry.name} {spans[entry.name]:.2f}" for entry in drawn)
    return Drawing(
        figure,
        windows,
        f"Relative TTFT over run order, a panel an approach. Span of the running medians: {values}.",
        palette.note(inputs.entries, drawn, read, above),
    )


def _running_medians(first: pd.DataFrame) -> pd.DataFrame:
    """Medians in windows of a process's requests: columns approach, repeat, order, relative, n, tainted."""
    ranks = first.groupby(["approach", "repeat"])["order"].rank(method="first")
    sizes = first.groupby(["approach", "repeat"])["order"].transform("size")
    windows = (sizes // LEAST_IN_WINDOW).clip(1, WINDOWS)
    windowed = first.assign(window=((ranks - 1) * windows // sizes).astype(int))
    return (
        windowed.groupby(["approach", "repeat", "window"])
        .agg(order=("order", "mean"), relative=("clean", "median"), n=("relative", "size"), tainted=("tainted", "sum"))
        .reset_index()
        .drop(columns="window")
    )


def _draw(axes: Axes, part: pd.DataFrame, windows: pd.DataFrame, look: palette.Look) -> None:
    dots = part.sample(min(DOTS, len(part)), random_state=1)
    for tainted, marker in ((False, "."), (True, "x")):
        chosen = dots[dots["tainted"] == tainted]
        axes.plot(chosen["order"], chosen["relative"], marker, color=style.MUTED, alpha=0.35, markersize=3)
    for _, line in windows.groupby("repeat"):
        axes.plot(line["order"], line["relative"], color=look.colour, linewidth=1.3)
    axes.axhline(1.0, color=style.INK, linewidth=0.7)


def _limits(relative: np.ndarray) -> tuple[float, float]:
    """Show the middle 98 % of the requests with room around 1; the note says how many lie above."""
    low, high = np.quantile(relative, [0.01, 0.99])
    return max(0.0, min(low, 0.9) - 0.05), max(high, 1.1) + 0.05

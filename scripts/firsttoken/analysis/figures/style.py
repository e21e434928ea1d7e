"""What all figures share: theme, axes, labels, footnotes, and how a figure is saved with its data."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from firsttoken.analysis.figures.palette import Entry
from firsttoken.files import atomic_path

INK = "#1b1f24"
MUTED = "#57606a"
FLOOR_COLOUR = "#6e7781"
THEME: dict[Any, Any] = {
    "font.size": 10.2,
    "axes.labelsize": 10.2,
    "xtick.labelsize": 9.35,
    "ytick.labelsize": 9.35,
    "legend.fontsize": 9.35,
    "axes.axisbelow": True,
    "axes.linewidth": 1.2,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "lines.solid_capstyle": "round",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica", "sans-serif"],
    "svg.fonttype": "none",  # text stays text: it can be selected and searched
    "svg.hashsalt": "firsttoken",  # same data, same bytes
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#d8dee4",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
}


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that lays itself out; made without pyplot, so nothing global is touched."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def add_note(figure: Figure, text: str) -> None:
    """Write `text` under the figure, wrapped to its width, and make room for it."""
    if not text:
        return
    width, height = figure.get_size_inches()
    wrapped = textwrap.wrap(text, int(width * 16.5))
    room_in = 0.17 * len(wrapped) + 0.12
    figure.set_size_inches(width, height + room_in)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, room_in / (height + room_in), 1, height / (height + room_in)))  # type: ignore[call-arg]
    figure.text(0.012, 0.012, "\n".join(wrapped), fontsize=7.8, color=MUTED, va="bottom", ha="left", linespacing=1.3)


def save(figure: Figure, data: pd.DataFrame, out_svg: Path, out_csv: Path, *, title: str, description: str) -> None:
    """Write the figure as SVG, with a title and a description for screen readers, and its data as CSV beside it."""
    with atomic_path(out_csv) as temporary:
        data.to_csv(temporary, index=False, float_format="%.6g")
    words = f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
    with atomic_path(out_svg) as temporary:
        figure.savefig(temporary, format="svg", dpi=200, metadata={"Date": None, "Creator": None, "Title": title})
        head, tag, rest = temporary.read_text(encoding="utf-8").partition("<svg ")
        attributes, end, rest = rest.partition(">")
        temporary.write_text(f'{head}{tag}role="img" {attributes}{end}{words}{rest}', encoding="utf-8")


def list_values(values: pd.Series, names: Iterable[str], unit: str) -> str:
    """`baseline 4.2 ms, jit_only 3.1 ms`: what `values`, indexed by approach, has for `names`."""
    return ", ".join(f"{name} {values[name]:.3g}{unit}" for name in names if name in values)


def plain_log_ticks(axis: Axis) -> None:
    """Plain numbers on a log axis (20, not 2 x 10^1), at round values also where it spans few decades."""
    low, high = axis.get_view_interval()
    if high / low < 8:
        axis.set_ticks([step for step in MaxNLocator(5).tick_values(low, high) if low <= step <= high and step > 0])
    elif high / low < 500:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def panel_grid(figure: Figure, heading: str, titles: Sequence[str], columns: int, *, sharex: bool) -> list[Axes]:
    """Axes with these titles in rows of `columns`, under one heading; the places left over stay empty."""
    rows = -(-len(titles) // columns)
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=True, squeeze=False)
    for axes, title in zip(grid.flat, titles, strict=False):
        axes.set_title(title, fontsize=9.5)
    for axes in grid.flat[len(titles) :]:
        axes.set_visible(False)
    figure.suptitle(heading, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return list(grid.flat[: len(titles)])


def approach_rows(axes: Axes, entries: Sequence[Entry]) -> None:
    """A row an approach, from the top."""
    axes.set_yticks(range(len(entries)), [entry.label for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write names at the right of the axes, each at its line's last value `y`, moved apart where they would touch.

    `ends` has y, name and colour of each line.
    """
    low, high = (axes.transData.transform((1, value))[1] for value in axes.get_ylim())
    placed = sorted(
        ((axes.transData.transform((1, y))[1] - low) / (high - low), y, text, colour) for y, text, colour in ends
    )
    arrow = {"arrowstyle": "-", "linewidth": 1.0, "shrinkA": 3, "shrinkB": 0, "relpos": (0, 0.5)}
    line_height_px = 0.16 * axes.figure.dpi
    heights = spread([share for share, *_ in placed], line_height_px / (high - low))
    for height, (share, _, text, colour) in zip(heights, placed, strict=True):
        axes.annotate(
            text,
            xy=(1.0, share),
            xytext=(1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            arrowprops=arrow | {"color": colour},
        )


def spread(wanted: Sequence[float], least: float) -> list[float]:
    """Rising heights, `least` apart, each as near to its wanted one as its neighbours allow, and none above the top.

    Labels that would touch form a block around the mean of what they want; blocks that meet become one.
    """
    blocks: list[list[float]] = []
    for height in wanted:
        blocks.append([height])
        while len(blocks) > 1 and _bottom(blocks[-1], least) < _bottom(blocks[-2], least) + least * len(blocks[-2]):
            last = blocks.pop()
            blocks[-1] += last
    return [_bottom(block, least) + least * place for block in blocks for place in range(len(block))]


def _bottom(block: Sequence[float], least: float) -> float:
    """Where the lowest label of a block goes."""
    spread = least * (len(block) - 1)
    return min(sum(block) / len(block) - spread / 2, 1.02 - spread)


def three_digits(value: float) -> str:
    """`13.0`, `0.0977`, `0`: three digits, trailing zeros kept, so that numbers below each other compare."""
    return "0" if value == 0 else f"{value:#.3g}".rstrip(".")

"""What all figures share: theme, axes, labels, footnotes, and how a figure is saved with its data."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from firsttoken.analysis.figures.palette import Look
from firsttoken.files import atomic_path

INK = "#1b1f24"
MUTED = "#57606a"
FLOOR_COLOUR = "#6e7781"


@contextmanager
def theme() -> Iterator[None]:
    """The matplotlib settings of all figures, for as long as one is drawn and saved."""
    settings: dict[Any, Any] = {
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
    with mpl.rc_context(settings):
        yield


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
    with atomic_path(out_svg) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
        svg = temporary.read_text(encoding="utf-8")
        temporary.write_text(_accessible(svg, title, description), encoding="utf-8")


def _accessible(svg: str, title: str, description: str) -> str:
    start = svg.index("<svg ")
    end = svg.index(">", start) + 1
    opening = svg[start:end].replace("<svg ", '<svg role="img" ', 1)
    words = f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
    return svg[:start] + opening + words + svg[end:]


def save_message(message: str, data: pd.DataFrame, out_svg: Path, out_csv: Path, *, title: str) -> None:
    """A figure that says in words why there is nothing to draw."""
    with theme():
        figure = new_figure(7.0, 1.8)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_title(title)
        axes.text(0.0, 0.55, textwrap.fill(message, 92), transform=axes.transAxes, va="center", color=MUTED)
        save(figure, data, out_svg, out_csv, title=title, description=message)


def as_rows(data: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain dicts."""
    return [{str(name): value for name, value in row.items()} for row in data.to_dict("records")]


def list_values(values: pd.Series, names: Sequence[str], unit: str) -> str:
    """`baseline 4.2 ms, jit_only 3.1 ms`: what `values`, indexed by approach, has for `names`."""
    found = {str(name): float(value) for name, value in values.items()}
    return ", ".join(f"{name} {found[name]:.3g}{unit}" for name in names if name in found)


def zero_based(axes: Axes, axis: str) -> None:
    """Start an axis at zero, so that lengths on it can be compared."""
    if axis == "x":
        axes.set_xlim(left=0)
    else:
        axes.set_ylim(bottom=0)


def plain_log_ticks(axes: Axes, axis: str) -> None:
    """Plain numbers on a log axis (20, not 2 x 10^1), at round values also where it spans few decades."""
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    target = axes.xaxis if axis == "x" else axes.yaxis
    if high / low < 8:
        target.set_ticks([step for step in MaxNLocator(5).tick_values(low, high) if low <= step <= high and step > 0])
    elif high / low < 500:
        target.set_major_locator(LogLocator(subs=(1, 2, 5)))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    target.set_minor_formatter(NullFormatter())


def legend_above(axes: Axes, columns: int) -> None:
    """A legend between the title and the axes, each name once; below them is the footnote's place."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(
        list(unique.values()),
        list(unique),
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        fontsize=8.5,
        handlelength=1.3,
        columnspacing=1.1,
        borderaxespad=0.3,
    )
    axes.title.set_position((0, 1))
    axes.set_title(axes.get_title(loc="left"), pad=8 + 15 * -(-len(unique) // columns))


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, Look]]) -> None:
    """Write names at the right of the axes, each at its line's last value `y`, moved apart where they would touch."""
    if not ends:
        return
    low, high = (axes.transData.transform((1, value))[1] for value in axes.get_ylim())
    placed = sorted(
        ((axes.transData.transform((1, y))[1] - low) / (high - low), y, text, look) for y, text, look in ends
    )
    line_height_px = 0.16 * axes.figure.dpi
    heights = spread([share for share, *_ in placed], line_height_px / (high - low))
    for height, (share, _, text, look) in zip(heights, placed, strict=True):
        axes.annotate(
            text,
            xy=(1.0, share),
            xytext=(1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour,
                "linewidth": 1.0,
                "shrinkA": 3,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
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


def bar_number(axes: Axes, left: float, width: float, place: float, text: str) -> None:
    """A number in the middle of a part of a bar, on a light ground, so that it reads on every shade."""
    axes.text(
        left + width / 2, place, text, ha="center", va="center", fontsize=8, color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.2},
    )  # fmt: skip


def three_digits(value: float) -> str:
    """`13.0`, `0.0977`, `0`: three digits, trailing zeros kept, so that numbers below each other compare."""
    return "0" if value == 0 else f"{value:#.3g}".rstrip(".")

"""One look for all figures: colours, markers, dashes, the word "emulated", footnotes, and how a figure is saved.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; every approach also has its own marker and dash,
so that a figure still reads in black and white. An approach that the palette does not know gets further colours by its
place in the study's order, so that it looks the same in every figure of a study.
"""

from __future__ import annotations

import html
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from firsttoken.files import atomic_path

INK = "#1b1f24"
MUTED = "#57606a"
FLOOR_COLOUR = "#6e7781"
EMULATED_HATCH = "////"
SHOWN = ("measured", "emulated")

Dash = tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """How one approach is drawn everywhere."""

    colour: str
    marker: str
    dash: Dash


@dataclass(frozen=True)
class Entry:
    """One approach of the study as the summary table has it."""

    name: str
    status: str
    reason: str

    @property
    def emulated(self) -> bool:
        return self.status == "emulated"

    @property
    def shown(self) -> bool:
        return self.status in SHOWN

    @property
    def label(self) -> str:
        return f"{self.name} (emulated)" if self.emulated else self.name


_KNOWN = {
    "baseline": Look("#4d4d4d", "o", (0, ())),
    "cuda_graph": Look("#e69f00", "s", (0, (6, 2))),
    "jit_only": Look("#56b4e9", "^", (0, (2, 1.5))),
    "jit_cuda": Look("#0072b2", "D", (0, ())),
    "tensorrt_llm": Look("#009e73", "v", (0, (6, 2, 1.5, 2))),
    "compiled_graph": Look("#d55e00", "P", (0, ())),
    "eager_loop": Look("#8c8c8c", "o", (0, (1, 1.5))),
    "cuda_graph_1p": Look("#b37700", "s", (0, (3, 1, 1, 1))),
    "jit_cuda_1p": Look("#003f6b", "D", (0, (3, 1, 1, 1))),
    "static_compile": Look("#cc79a7", "X", (0, (6, 2))),
    "tensorrt_llm_nograph": Look("#00634a", "v", (0, (1, 1.5))),
    "null": Look("#a8a29e", "*", (0, (1, 1.5))),
    "null_2p": Look("#78716c", "*", (0, (3, 1, 1, 1))),
}
_FURTHER_MARKERS = ("h", "p", "<", ">", "d", "8")
_FURTHER_DASHES: tuple[Dash, ...] = ((0, (5, 1)), (0, (1, 2)), (0, (5, 1, 1, 1, 1, 1)))


def looks(order: Sequence[str]) -> dict[str, Look]:
    """The look of every approach in `order`; unknown ones get further looks by their place among the unknown."""
    unknown = [name for name in order if name not in _KNOWN]
    colours = sns.husl_palette(max(len(unknown), 1), h=0.9, s=0.75, l=0.45).as_hex()
    further = zip(unknown, colours, itertools.cycle(_FURTHER_MARKERS), itertools.cycle(_FURTHER_DASHES), strict=False)
    return {name: _KNOWN[name] for name in order if name in _KNOWN} | {
        name: Look(str(colour), marker, dash) for name, colour, marker, dash in further
    }


def read_entries(summary_csv: Path, order: Sequence[str]) -> list[Entry]:
    """The approaches of `order` with their status; one that the summary lacks is `unavailable`: not in this study."""
    rows = pd.read_csv(summary_csv, dtype={"approach": str, "status": str, "reason": str}).set_index("approach")
    return [
        Entry(name, str(rows.loc[name, "status"]), _text(rows.loc[name, "reason"]))
        if name in rows.index
        else Entry(name, "unavailable", "not in the summary of this study")
        for name in order
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@contextmanager
def theme() -> Iterator[None]:
    """The matplotlib settings of all figures, for as long as one is drawn and saved."""
    settings: dict[Any, Any] = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("notebook", font_scale=0.85),
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


def note(entries: Sequence[Entry], drawn: Sequence[str], *more: str) -> str:
    """The footnote: what is emulated, which approaches are absent and why, and whatever else the figure has to say."""
    parts = [text for text in more if text]
    if any(entry.emulated and entry.name in drawn for entry in entries):
        parts.append(
            "Emulated: no CUDA device here, so each graph replay was replaced by the eager step; no CUDA-graph figure."
        )
    absent = [entry for entry in entries if entry.name not in drawn]
    if absent:
        named = "; ".join(f"{entry.name} ({_why_absent(entry)})" for entry in absent)
        parts.append(f"Not shown: {named}.")
    return " ".join(parts)


def _why_absent(entry: Entry) -> str:
    if entry.shown:
        return f"{entry.status}, but no data for this figure"
    reason = textwrap.shorten(entry.reason.rstrip("."), 90, placeholder=" …")
    return f"{entry.status}: {reason}" if reason else entry.status


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


def with_status(data: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """`data` with each approach's status behind its name, so that no emulated number stands alone in a CSV either."""
    statuses = {entry.name: entry.status for entry in entries}
    place = list(data.columns).index("approach") + 1
    data = data.copy()
    data.insert(place, "status", data["approach"].map(statuses))
    return data


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
    """Plain numbers on a log axis (20, not 2 x 10^1), at round values also where it spans under a factor of 8."""
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    target = axes.xaxis if axis == "x" else axes.yaxis
    if high / low < 8:
        target.set_ticks([step for step in MaxNLocator(5).tick_values(low, high) if low <= step <= high and step > 0])
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


def bar_style(look: Look, emulated: bool) -> dict[str, Any]:
    """Keywords of a bar: solid when measured, light and hatched when emulated."""
    if emulated:
        return {"facecolor": "white", "edgecolor": look.colour, "hatch": EMULATED_HATCH, "linewidth": 1.0}
    return {"facecolor": look.colour, "edgecolor": look.colour, "linewidth": 1.0}


def line_style(look: Look, emulated: bool) -> dict[str, Any]:
    """Keywords of a line with markers: filled markers when measured, hollow ones when emulated."""
    return {
        "color": look.colour,
        "linestyle": look.dash,
        "marker": look.marker,
        "markerfacecolor": "white" if emulated else look.colour,
        "markeredgecolor": look.colour,
        "linewidth": 1.7,
        "markersize": 6,
    }


def band_style(look: Look, emulated: bool) -> dict[str, Any]:
    """Keywords of an interval band: tinted when measured, hatched when emulated."""
    if emulated:
        return {"facecolor": "none", "edgecolor": look.colour, "hatch": EMULATED_HATCH, "linewidth": 0.0, "alpha": 0.35}
    return {"facecolor": look.colour, "edgecolor": "none", "alpha": 0.16}


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, Look]]) -> None:
    """Write names at the right of the axes, each at its line's last value `y`, moved apart where they would touch."""
    if not ends:
        return
    low, high = (axes.transData.transform((1, value))[1] for value in axes.get_ylim())
    placed = sorted(
        ((axes.transData.transform((1, y))[1] - low) / (high - low), y, text, look) for y, text, look in ends
    )
    line_height_px = 0.16 * axes.figure.dpi
    least = line_height_px / (high - low)
    heights = [share for share, *_ in placed]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + least)
    overflow = heights[-1] - 1.02
    if overflow > 0:  # push the whole stack down from the top
        for index in range(len(heights) - 1, -1, -1):
            ceiling = 1.02 - least * (len(heights) - 1 - index)
            heights[index] = min(heights[index], ceiling)
    for height, (share, _, text, look) in zip(heights, placed, strict=True):
        axes.annotate(
            text,
            xy=(1.0, share),
            xytext=(1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            arrowprops={"arrowstyle": "-", "color": look.colour, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0},
        )

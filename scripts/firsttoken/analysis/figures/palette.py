"""Which approaches a figure shows, and how each looks: colour, marker, dash, hatch, and its status in a word.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; every approach also has its own marker and dash,
so that a figure still reads in black and white. An approach that the palette does not know gets further colours by its
place in the study's order, so that it looks the same in every figure of a study.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from firsttoken.pooled_runs import RAN

EMULATED_HATCH = "////"

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
    look: Look
    status: str
    reason: str
    doubts: str  # signs in its data that its intervals may not hold

    @property
    def emulated(self) -> bool:
        return self.status == "emulated"

    @property
    def shown(self) -> bool:
        return self.status in RAN

    @property
    def label(self) -> str:
        return f"{self.name} ({self.status})" if self.status in ("emulated", "approximate") else self.name


_KNOWN = {
    "baseline": Look("#4d4d4d", "o", (0, ())),
    "cuda_graph": Look("#e69f00", "s", (0, (6, 2))),
    "jit_only": Look("#56b4e9", "^", (0, (2, 1.5))),
    "jit_cuda": Look("#0072b2", "D", (0, ())),
    "tensorrt_llm": Look("#009e73", "v", (0, (6, 2, 1.5, 2))),
    "compiled_graph": Look("#d55e00", "P", (0, ())),
    "compiled_graph_int8": Look("#a34a00", "P", (0, (1, 1.5))),
    "vllm": Look("#6a3d9a", "<", (0, (4, 1.5))),
    "llama_cpp": Look("#7a5c1e", "h", (0, (2, 1, 1, 1))),
    "vllm_2p": Look("#9e7bc4", "<", (0, (1, 1.5))),
    "eager_loop": Look("#8c8c8c", "o", (0, (1, 1.5))),
    "cuda_graph_1p": Look("#b37700", "s", (0, (3, 1, 1, 1))),
    "jit_cuda_1p": Look("#003f6b", "D", (0, (3, 1, 1, 1))),
    "static_compile": Look("#cc79a7", "X", (0, (6, 2))),
    "tensorrt_llm_nograph": Look("#00634a", "v", (0, (1, 1.5))),
    "tensorrt_llm_pytorch": Look("#5fc3a3", "v", (0, (3, 1, 1, 1))),
    "null": Look("#a8a29e", "*", (0, (1, 1.5))),
    "null_2p": Look("#78716c", "*", (0, (3, 1, 1, 1))),
}
_FURTHER_COLOURS = ("#7570b3", "#a6761d", "#e7298a", "#66a61e", "#1b9e77", "#666666")  # ColorBrewer's Dark2
_FURTHER_MARKERS = ("h", "p", "<", ">", "d", "8", "H")
_FURTHER_DASHES: tuple[Dash, ...] = ((0, (5, 1)), (0, (1, 2)), (0, (5, 1, 1, 1, 1, 1)))


def looks(order: Sequence[str]) -> dict[str, Look]:
    """The look of every approach in `order`; unknown ones get further looks by their place among the unknown."""
    further = map(Look, *map(itertools.cycle, (_FURTHER_COLOURS, _FURTHER_MARKERS, _FURTHER_DASHES)))
    return {name: _KNOWN[name] if name in _KNOWN else next(further) for name in order}


def read_entries(summary_csv: Path, order: Sequence[str]) -> list[Entry]:
    """The approaches of `order` with their status; one that the summary lacks is `unavailable`: not in this study."""
    columns = ["status", "reason", "doubts"]
    rows = pd.read_csv(summary_csv, usecols=["approach", *columns], dtype=str).fillna("")
    found = dict(zip(rows["approach"], rows[columns].itertuples(index=False), strict=True))
    absent = "unavailable", "not in the summary of this study", ""
    return [Entry(name, look, *found.get(name, absent)) for name, look in looks(order).items()]


def note(entries: Sequence[Entry], drawn: Sequence[Entry], *more: str) -> str:
    """The footnote: what is emulated, which approaches are absent and why, and whatever else the figure has to say."""
    parts = [text for text in more if text]
    if any(entry.emulated for entry in drawn):
        parts.append(
            "Emulated: no CUDA device here, so each graph replay was replaced by the eager step; no CUDA-graph figure."
        )
    if any(entry.status == "approximate" for entry in drawn):
        parts.append("Approximate: another function by design, whose error is in the summary table.")
    absent = [entry for entry in entries if entry not in drawn]
    if absent:
        named = "; ".join(f"{entry.name} ({_why_absent(entry)})" for entry in absent)
        parts.append(f"Not shown: {named}.")
    return " ".join(parts)


def doubt_note(drawn: Sequence[Entry]) -> str:
    """Which approaches have signs that their intervals may not hold; the signs are in the summary table."""
    names = [entry.label for entry in drawn if entry.doubts]
    return f"In doubt, with the reasons in the summary table: {', '.join(names)}." if names else ""


def _why_absent(entry: Entry) -> str:
    if entry.shown:
        return f"{entry.status}, but no data for this figure"
    reason = textwrap.shorten(entry.reason.rstrip("."), 90, placeholder=" …")
    return f"{entry.status}: {reason}" if reason else entry.status


def with_status(data: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """`data` with each approach's status behind its name, so that no emulated number stands alone in a CSV either."""
    if data.empty or "approach" not in data or "status" in data:
        return data
    data = data.copy()
    statuses = {entry.name: entry.status for entry in entries}
    data.insert(list(data.columns).index("approach") + 1, "status", data["approach"].map(statuses))
    return data


def shades(number: int) -> list[str]:
    """Colours of the parts of a bar, ordered by lightness, so that they read in black and white."""
    viridis = mpl.colormaps["viridis"]
    return [mpl.colors.to_hex(viridis((place + 1) / (number + 1))) for place in range(number)]


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

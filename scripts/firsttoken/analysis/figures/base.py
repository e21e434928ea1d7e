"""What every figure has in common: its inputs, what it hands back, and how that is saved.

The module of a figure has its `TITLE` and a function `draw` from `FigureInputs` to `Drawing`.
"""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from firsttoken.analysis.figures import palette, style


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
    """What a figure is drawn from."""

    files: Sequence[Path]  # the figure's own data: one table, or the pooled samples or records
    summary: Path  # summary.csv: statuses, reasons, floors
    order: Sequence[str]  # the study's approaches, in the order of the config
    new_tokens: int  # of each request

    @cached_property
    def entries(self) -> list[palette.Entry]:
        """The approaches of the study in their order, with status and look."""
        return palette.read_entries(self.summary, self.order)

    @property
    def shown(self) -> list[str]:
        """The names of the approaches whose numbers are shown."""
        return [entry.name for entry in self.entries if entry.shown]

    def drawn(self, data: pd.DataFrame) -> list[palette.Entry]:
        """The shown approaches that `data` has rows of."""
        return [entry for entry in self.entries if entry.shown and entry.name in set(data["approach"])]


class Drawing(NamedTuple):
    """A figure with the data that it shows, a description for screen readers, and the note under it."""

    figure: Figure
    data: pd.DataFrame
    description: str
    note: str = ""


def plot(name: str, inputs: FigureInputs, out_svg: Path, out_csv: Path) -> None:
    """Draw figure `name`, e.g. `speedup`, and write its SVG and its CSV."""
    module = importlib.import_module(f"{__package__}.{name}")
    with mpl.rc_context(style.THEME):
        drawing: Drawing = module.draw(inputs)
        style.add_note(drawing.figure, drawing.note)
        data = palette.with_status(drawing.data, inputs.entries)
        style.save(drawing.figure, data, out_svg, out_csv, title=module.TITLE, description=drawing.description)


def nothing_to_draw(message: str, data: pd.DataFrame, title: str) -> Drawing:
    """A figure that says in words why there is nothing to draw."""
    figure = style.new_figure(7.0, 1.8)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(title)
    axes.text(0.0, 0.55, textwrap.fill(message, 92), transform=axes.transAxes, va="center", color=style.MUTED)
    return Drawing(figure, data, message)

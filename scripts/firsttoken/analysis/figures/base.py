"""What every figure has in common: its inputs, and the function `plot` in the module of its name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
    """What a figure is drawn from."""

    files: Sequence[Path]  # the figure's own data: one table, or the pooled samples or records
    summary: Path  # summary.csv: statuses, reasons, floors
    order: Sequence[str]  # the study's approaches, in the order of the config
    new_tokens: int  # of each request


class Plot(Protocol):
    """`plot` of a figure's module."""

    def __call__(self, inputs: FigureInputs, out_svg: Path, out_csv: Path) -> None:
        """Draw the figure and write the data that it shows."""


def figure_plot(name: str) -> Plot:
    """The function that draws figure `name`, e.g. `speedup`."""
    return cast(Plot, importlib.import_module(f"{__package__}.{name}").plot)

"""Which of the drawn approaches have signs in their data that their intervals may not hold."""

from __future__ import annotations

from collections.abc import Sequence

from firsttoken.analysis.figures import palette
from firsttoken.analysis.figures.base import FigureInputs
from firsttoken.analysis.schemas import read_untyped


def note(inputs: FigureInputs, drawn: Sequence[palette.Entry]) -> str:
    """Their names; the reasons are in the summary table."""
    doubts = read_untyped(inputs.summary).set_index("approach")["doubts"].dropna()
    names = [entry.label for entry in drawn if entry.name in doubts.index]
    return f"In doubt, with the reasons in the summary table: {', '.join(names)}." if names else ""

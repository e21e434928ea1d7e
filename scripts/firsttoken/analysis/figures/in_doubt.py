"""Which of the drawn approaches have signs in their data that their intervals may not hold."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from firsttoken.analysis.figures import palette
from firsttoken.analysis.figures.base import FigureInputs


def note(inputs: FigureInputs, drawn: Sequence[palette.Entry]) -> str:
    """Their names; the reasons are in the summary table."""
    doubts = pd.read_csv(inputs.summary).set_index("approach")["doubts"].dropna()
    names = [entry.label for entry in drawn if entry.name in doubts.index]
    return f"In doubt, with the reasons in the summary table: {', '.join(names)}." if names else ""

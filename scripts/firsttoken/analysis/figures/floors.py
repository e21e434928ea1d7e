"""The floor of the device in words: the note that every figure of latencies ends with."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from firsttoken.analysis.figures import palette
from firsttoken.analysis.figures.base import FigureInputs

COLUMNS = ("floor_ttft_ms", "floor_itl_ms", "ttft_share_of_floor", "itl_share_of_floor")
NONE = "No floor: the ceilings of this device were not measured."


def note(inputs: FigureInputs, drawn: Sequence[palette.Entry]) -> str:
    """The floors of TTFT and request mean ITL, and floor / median of each approach, over all prompt lengths."""
    names = [entry.name for entry in drawn]
    table = pd.read_csv(inputs.summary).set_index("approach").reindex(columns=list(COLUMNS), index=names)
    floors = table[list(COLUMNS[:2])].dropna()
    if floors.empty:
        return NONE
    shares = [
        f"{entry.label} {_percent(ttft)} and {_percent(itl)}"
        for entry, ttft, itl in zip(drawn, table["ttft_share_of_floor"], table["itl_share_of_floor"], strict=True)
        if pd.notna(ttft)
    ]
    ttft_ms, itl_ms = floors.iloc[0]
    return (
        f"Floor of this device (one run), mean over prompt lengths: {ttft_ms:.3g} ms TTFT, {itl_ms:.3g} ms ITL; "
        f"floor / median: {', '.join(shares)}."
    )


def _percent(share: float) -> str:
    return "–" if pd.isna(share) else f"{100 * share:.2g} %"

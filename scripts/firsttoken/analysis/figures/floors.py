"""The floor of the device in words: the note that every figure of latencies ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from firsttoken.analysis.figures import palette

COLUMNS = ("floor_ttft_ms", "floor_itl_ms", "ttft_share_of_floor", "itl_share_of_floor")
NONE = "No floor: the ceilings of this device were not measured."


def note(summary_csv: Path, entries: Sequence[palette.Entry], drawn: Sequence[str]) -> str:
    """The floors of TTFT and token gap, and the share of them that each approach reaches, over all prompt lengths."""
    table = pd.read_csv(summary_csv).set_index("approach").reindex(columns=list(COLUMNS), index=list(drawn))
    floors = table[list(COLUMNS[:2])].dropna()
    if floors.empty:
        return NONE
    labels = {entry.name: entry.label for entry in entries}
    shares = [
        f"{labels[str(name)]} {_percent(row['ttft_share_of_floor'])} and {_percent(row['itl_share_of_floor'])}"
        for name, row in table.to_dict("index").items()
        if pd.notna(row["ttft_share_of_floor"])
    ]
    ttft_ms, itl_ms = floors.iloc[0]
    return (
        f"Floor of this device, mean over prompt lengths: {ttft_ms:.3g} ms TTFT, {itl_ms:.3g} ms a gap; "
        f"share reached: {', '.join(shares)}."
    )


def _percent(share: float) -> str:
    return "–" if pd.isna(share) else f"{100 * share:.2g} %"

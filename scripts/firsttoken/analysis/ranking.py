"""The order in which results are shown: by speed, with controls and what has no latencies below."""

from __future__ import annotations

import numpy as np
import pandas as pd

LOWEST, CONTROL = "lowest TTFT", "control"


def ranked(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of summary.csv by mean TTFT: measured, emulated or approximate, controls, what has no TTFT.

    Adds the column `role`: LOWEST for the first, CONTROL, or "". Only a measured approach that is no control is LOWEST.
    """
    control = summary["control"].astype(bool)
    group = np.select([summary["ttft_mean_ms"].isna(), control, summary["status"] != "measured"], [3, 2, 1], 0)
    rows = summary.assign(role=np.where(control, CONTROL, ""), _group=group)
    rows = rows.sort_values(["_group", "ttft_mean_ms"], kind="stable", ignore_index=True)
    if len(rows) and rows.loc[0, "_group"] == 0:
        rows.loc[0, "role"] = LOWEST
    return rows.drop(columns="_group")

"""The price of measuring: what the null approaches, which compute nothing, took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from firsttoken.analysis.schemas import TABLES
from firsttoken.pooled_runs import INSTRUMENT
from firsttoken.results import RunRecord


def instrument_table(statistics: pd.DataFrame, records: Sequence[RunRecord]) -> pd.DataFrame:
    """Rows of tables/instrument.csv, in microseconds: medians over processes of their medians over all prompt lengths.

    `null` is the harness alone; `null_2p` over `null` is the price of the second process.
    """
    rows = []
    for name in INSTRUMENT:
        ran = [record for record in records if record.approach == name]
        if not ran:
            continue
        mine = statistics[statistics["approach"] == name]
        rows.append(
            {
                "approach": name,
                "status": ran[0].status,
                "n_processes": int(mine["repeat"].nunique()),
                "n_tokens": int(
                    mine.loc[(mine["metric"] != "itl_request_mean") & (mine["statistic"] == "mean"), "n"].sum()
                ),
                "first_token_us": _median_us(mine, "ttft", "median"),
                "token_gap_us": _median_us(mine, "itl_token_gap", "median"),
                "token_gap_p99_us": _median_us(mine, "itl_token_gap", "p99"),
            }
        )
    frame = pd.DataFrame(rows, columns=list(TABLES["instrument"]))
    alone = frame[frame["approach"] == "null"]
    if len(alone):
        over = frame[["first_token_us", "token_gap_us"]] - alone[["first_token_us", "token_gap_us"]].iloc[0]
        over = over.where(frame["approach"] != "null")
        frame["over_one_process_first_token_us"] = over["first_token_us"]
        frame["over_one_process_gap_us"] = over["token_gap_us"]
    return frame


def _median_us(statistics: pd.DataFrame, metric: str, statistic: str) -> float:
    chosen = statistics[(statistics["metric"] == metric) & (statistics["statistic"] == statistic)]["value"].dropna()
    return float(np.median(chosen)) * 1e3 if len(chosen) else np.nan

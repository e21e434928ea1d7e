"""The price of measuring: what the null approaches, which compute nothing, took."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from firsttoken.analysis.approach_results import worst_status
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.schemas import TABLES, Row, with_interval
from firsttoken.plan import INSTRUMENT
from firsttoken.results import RunRecord

_FIGURES = (
    ("first_token_us", "ttft", "median"),
    ("token_gap_us", "itl_token_gap", "median"),
    ("token_gap_p99_us", "itl_token_gap", "p99"),
)


def instrument_table(statistics: pd.DataFrame, records: Sequence[RunRecord]) -> pd.DataFrame:
    """Rows of tables/instrument.csv, in microseconds: means over prompt lengths of the quantile of all requests.

    `null` is the harness alone; `null_2p` over `null` is the price of the second process.
    """
    processes = ProcessTable(statistics)
    rows: list[Row] = []
    for name in INSTRUMENT:
        ran = [record for record in records if record.approach == name]
        if not ran:
            continue
        mine = statistics[statistics["approach"] == name]
        tokens = mine.loc[(mine["metric"] != "itl_request_mean") & (mine["statistic"] == "mean"), "n"].sum()
        row: Row = {"approach": name, "status": worst_status(ran)}
        row |= {"n_processes": int(mine["repeat"].nunique()), "n_tokens": int(tokens)}
        for column, metric, statistic in _FIGURES:
            found = processes.estimate(name, metric, statistic, processes.lengths)
            in_us = found._replace(value=found.value * 1e3, low=found.low * 1e3, high=found.high * 1e3)
            row |= with_interval(column, in_us)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(TABLES["instrument"]))
    alone = frame[frame["approach"] == "null"]
    if len(alone):
        over = frame[["first_token_us", "token_gap_us"]] - alone[["first_token_us", "token_gap_us"]].iloc[0]
        over = over.where(frame["approach"] != "null")
        frame["over_one_process_first_token_us"] = over["first_token_us"]
        frame["over_one_process_gap_us"] = over["token_gap_us"]
    return frame

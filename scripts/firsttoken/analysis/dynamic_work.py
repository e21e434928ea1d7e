"""How long the dynamic operations of a token take, how much of its latency that is, and what compiling them saves.

`sampling_ns` in the samples is, on a GPU, the time on the device from the end of the forward pass to the end of the
dynamic operations, by CUDA events (`engine/clock.py`). It holds the time in which the device waits for the host to
launch them, or for a value that the host reads between them. Launches that the host makes while the forward pass still
runs delay nothing, and are not in it. On a CPU it is host time. Of the first token it also holds what comes before the
prefill: the prompt's transfer, padding, positions and masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from firsttoken.analysis.processes import ProcessTable, paired
from firsttoken.analysis.schemas import TABLES, Row, with_interval, write_table
from firsttoken.analysis.statistics import NOTHING, difference_interval, paired_ratio
from firsttoken.analysis.study_tables import StudyTables
from firsttoken.pooled_runs import by_approach, read_samples

# What differs from an approach in its dynamic operations alone, and has native ones.
NATIVE_TWIN = {
    "jit_only": "eager_loop",
    "jit_cuda_1p": "cuda_graph_1p",
    "jit_cuda": "cuda_graph",
    "cuda_graph_published_ops": "cuda_graph_1p",
}
CAPTURED = "part of the captured step, which tells no time apart"
NOT_TOLD = "does not tell how its latency splits"
KEYS = ["approach", "repeat", "prompt_length", "metric"]


def write_dynamic_work(study: StudyTables, out_csv: Path | str) -> None:
    """Write dynamic_work.csv: a row an approach with latencies, kind of token and prompt length (0: the mean over
    several)."""
    statuses = dict(zip(study.shown["approach"], study.shown["status"], strict=True))
    operations = {name: runs[0].dynamic_operations for name, runs in by_approach(study.records).items()}
    told = [name for name in statuses if operations[name] != "captured"]
    tokens = _tokens(study.samples, told)
    processes = ProcessTable(_process_values(tokens))
    rows: list[Row] = []
    for name, status in statuses.items():
        for metric in ("first", "next"):
            row: Row = {"approach": name, "status": status, "dynamic_operations": operations[name], "token": metric}
            own = tokens.loc[(tokens["approach"] == name) & (tokens["metric"] == metric), "prompt_length"]
            lengths = sorted(map(int, own.unique()))
            if not lengths:
                reason = CAPTURED if operations[name] == "captured" else NOT_TOLD
                rows.append(
                    row | {"prompt_length": 0, "n_processes": 0, "n_tokens": 0, "native_twin": "", "reason": reason}
                )
            for length in [0, *lengths] if len(lengths) > 1 else lengths:
                chosen = [length] if length else lengths
                values: Row = {"prompt_length": length, "n_tokens": int(own.isin(chosen).sum())}
                rows.append(row | values | _estimates(processes, name, metric, chosen))
    write_table(pd.DataFrame(rows, columns=list(TABLES["dynamic_work"])), "dynamic_work", out_csv)


def _tokens(samples: Path, approaches: Sequence[str]) -> pd.DataFrame:
    """Tokens that tell their dynamic work, of requests without a tainted token: dynamic_us and latency_us."""
    columns = ["approach", "repeat", "prompt_length", "request", "token_index", "latency_ns", "tainted", "sampling_ns"]
    frame = read_samples(samples, columns)
    frame = frame[frame["approach"].isin(approaches)]
    frame = frame[~frame.groupby(["approach", "repeat", "request"], observed=True)["tainted"].transform("any")]
    frame = frame[frame["sampling_ns"].notna()]
    return frame.assign(
        metric=np.where(frame["token_index"] == 0, "first", "next"),
        dynamic_us=frame["sampling_ns"].astype(float) / 1e3,
        latency_us=frame["latency_ns"] / 1e3,
    )


def _process_values(tokens: pd.DataFrame) -> pd.DataFrame:
    """What `ProcessTable` takes: of each process mean and median of the dynamic work, and the mean latency."""
    by_process = tokens.groupby(KEYS, observed=True)
    mean, latency = by_process["dynamic_us"].mean(), by_process["latency_us"].mean()
    statistics = {"mean": mean, "median": by_process["dynamic_us"].median(), "latency": latency}
    return pd.concat(
        [values.rename("value").reset_index().assign(statistic=name) for name, values in statistics.items()]
    )


def _estimates(processes: ProcessTable, name: str, metric: str, lengths: Sequence[int]) -> Row:
    mean, median, latency = (
        processes.estimate(name, metric, statistic, lengths) for statistic in ("mean", "median", "latency")
    )
    work, whole = (processes.logs(name, metric, statistic, lengths) for statistic in ("mean", "latency"))
    twin, saved = NATIVE_TWIN.get(name, ""), NOTHING
    own, native = paired([processes.values(which, metric, "mean", lengths) for which in (name, twin)])
    if len(own):
        saved = difference_interval(native.mean(axis=1) - own.mean(axis=1))
    return {
        "n_processes": mean.n,
        **with_interval("mean_us", mean),
        **with_interval("median_us", median),
        "latency_ms": latency.value / 1e3,
        **with_interval("share", paired_ratio(work, whole)),
        "native_twin": twin if len(own) else "",
        **with_interval("saved_us", saved),
        "reason": mean.note,
    }

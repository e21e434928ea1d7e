"""The gates: they read finished tables and raise one line with all offences. Nothing is written, so nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from firsttoken import files
from firsttoken.analysis.schemas import read_table
from firsttoken.pooled_runs import read_records
from firsttoken.results import Bound, Ceilings

FLOOR_SHARE = 0.9  # a median under this share of its floor was not measured but mistaken
FAR_BELOW_PEAK = 0.6  # of the datasheet; kernels of the libraries reach more than this on a healthy device


class GateFailed(ValueError):
    """A study must not pass; the message is one line with all offences and the table that shows them."""


def _fail(offences: list[str], table: Path | str) -> None:
    if offences:
        raise GateFailed(f"{'; '.join(offences)}; see {table}")


def gate_floors(latency_by_length: Path | str, ceilings: Path | str) -> None:
    """No median TTFT or request mean ITL may be under 0.9 of the least time that the device can take.

    The message says for each prompt length which is more likely wrong: the measured ceiling or the measured latency. A
    median without a floor does not pass either: nothing would have been checked.
    """
    table = read_table(latency_by_length, "latency_by_length")
    measured = files.read_json(ceilings, Ceilings)
    offences = []
    for metric, median, floor, name_of in (
        ("TTFT", "ttft_median_ms", "floor_ttft_ms", "ttft"),
        ("request mean ITL", "itl_request_mean_median_ms", "floor_itl_ms", "itl"),
    ):
        for length, rows in table[table[median].notna()].groupby("prompt_length"):
            where = f"at {length} tokens: median {metric}"
            offences += [f"{name} {where} has no floor" for name in rows.loc[rows[floor].isna(), "approach"]]
            under = rows[rows[median] < FLOOR_SHARE * rows[floor]]
            if under.empty:
                continue
            bounds = [_bound(measured, name_of, length, ms) for ms in under[floor]]
            for bound in dict.fromkeys(bounds):
                those = under[[found == bound for found in bounds]]
                medians = " and ".join(
                    f"{row.approach} {getattr(row, median):.4g} ms (floor {getattr(row, floor):.4g} ms)"
                    for row in those.itertuples()
                )
                suspect = _suspect(list(those["approach"]), len(rows), measured, bound)
                offences.append(f"{where} of {medians} is under {FLOOR_SHARE} of its floor; {suspect}")
    _fail(offences, latency_by_length)


def _bound(measured: Ceilings, metric: str, length: object, floor_ms: float) -> Bound:
    """Which ceiling sets that floor: the model's, or that of its 8-bit weights."""
    floors = [floor for floor in (*measured.floors, *measured.floors_int8) if floor.prompt_length == length]
    nearest = min(floors, key=lambda floor: abs(getattr(floor, f"{metric}_ms") - floor_ms))
    bound: Bound = getattr(nearest, f"{metric}_bound")
    return bound


def _suspect(names: Sequence[str], shown: int, measured: Ceilings, bound: Bound) -> str:
    """Which of ceiling and measurement is more likely wrong, and why."""
    field, unit = ("read_bandwidth_bytes_per_s", "TB/s") if bound == "bandwidth" else ("matrix_flops_per_s", "TFLOP/s")
    ceiling: float = getattr(measured, field)
    peak: float | None = getattr(measured.datasheet, field, None)
    far_below = peak is not None and ceiling < FAR_BELOW_PEAK * peak
    wrong = "the ceiling" if len(names) > 1 or far_below else f"the measurement of {names[0]}"
    beside = f"{ceiling / peak:.0%} of the datasheet's {peak / 1e12:.4g}" if peak else "no datasheet peak is known"
    return (
        f"more likely wrong is {wrong}: {len(names)} of {shown} approaches {'is' if len(names) == 1 else 'are'} under "
        f"the floor, and the device was measured at {ceiling / 1e12:.4g} {unit} ({beside})"
    )


def gate_equality(equivalence: Path | str) -> None:
    """No approach may compute another function than the reference."""
    table = read_table(equivalence, "equivalence")
    different = table[table["verdict"] == "different"]
    _fail([f"{name}: {why}" for name, why in zip(different["approach"], different["reason"], strict=True)], equivalence)


def gate_status(summary: Path | str, records: Path | str, on_unavailable: Literal["record", "fail"] = "record") -> None:
    """No approach may have failed; nor be unavailable, where the study says that this ends it. The message names the
    files of failed runs, since a run is not tried again while they are there."""
    table = read_table(summary, "summary")
    bad = table[table["status"].isin(["failed", "unavailable"] if on_unavailable == "fail" else ["failed"])]
    rows = zip(bad["approach"], bad["status"], bad["reason"], strict=True)
    offences = [f"{name} is {status}: {reason}" for name, status, reason in rows]
    runs = [f"{run.approach}/{run.repeat}.json" for run in read_records(records) if run.status == "failed"]
    if runs:
        offences.append(f"to try again, delete {', '.join(runs)} in {Path(records).parent}/raw and run again")
    _fail(offences, summary)


def gate_regression(comparison: Path | str) -> None:
    """The second study may not be slower than the first beyond the threshold, and the two must be comparable."""
    from firsttoken.analysis.compare import Comparison  # here: with it comes scipy, which the other gates do not need

    found = files.read_json(comparison, Comparison)
    if found.verdict in ("side by side", "not comparable"):
        _fail([f"{found.a} and {found.b} cannot be compared: {'; '.join(found.reasons)}"], comparison)
    _fail([f"{line}: beyond {found.threshold:.0%}" for line in found.regressions], comparison)

"""The gates: they read finished tables and raise one line with all offences. Nothing is written, so nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from firsttoken import files
from firsttoken.analysis.compare import Comparison
from firsttoken.analysis.schemas import read_table

FLOOR_SHARE = 0.9  # a median under this share of its floor was not measured but mistaken


class GateFailed(ValueError):
    """A study must not pass; the message is one line with all offences and the table that shows them."""


def _fail(offences: list[str], table: Path | str) -> None:
    if offences:
        raise GateFailed(f"{'; '.join(offences)}; see {table}")


def gate_floors(latency_by_length: Path | str) -> None:
    """No median TTFT or request mean ITL may be under 0.9 of the least time that the device can take.

    A median without a floor does not pass either: nothing would have been checked.
    """
    table = read_table(latency_by_length, "latency_by_length")
    offences = []
    for metric, median, floor in (
        ("TTFT", "ttft_median_ms", "floor_ttft_ms"),
        ("request mean ITL", "itl_request_mean_median_ms", "floor_itl_ms"),
    ):
        for row in table[table[median].notna() & table[floor].isna()].to_dict("records"):
            offences.append(f"{row['approach']} at {row['prompt_length']} tokens: median {metric} has no floor")
        for row in table[table[median] < FLOOR_SHARE * table[floor]].to_dict("records"):
            offences.append(
                f"{row['approach']} at {row['prompt_length']} tokens: median {metric} {row[median]:.4g} ms is under "
                f"{FLOOR_SHARE} of its floor {row[floor]:.4g} ms"
            )
    _fail(offences, latency_by_length)


def gate_equality(equivalence: Path | str) -> None:
    """No approach may compute another function than the reference."""
    table = read_table(equivalence, "equivalence")
    different = table[table["verdict"] == "different"]
    _fail([f"{name}: {why}" for name, why in zip(different["approach"], different["reason"], strict=True)], equivalence)


def gate_status(summary: Path | str, on_unavailable: Literal["record", "fail"] = "record") -> None:
    """No approach may have failed; nor be unavailable, where the study says that this ends it."""
    table = read_table(summary, "summary")
    bad = table[table["status"].isin(["failed", "unavailable"] if on_unavailable == "fail" else ["failed"])]
    rows = zip(bad["approach"], bad["status"], bad["reason"], strict=True)
    _fail([f"{name} is {status}: {reason}" for name, status, reason in rows], summary)


def gate_regression(comparison: Path | str) -> None:
    """The second study may not be slower than the first beyond the threshold, and the two must be comparable."""
    found = files.read_json(comparison, Comparison)
    if found.verdict == "not comparable":
        _fail([f"{found.a} and {found.b} cannot be compared: {'; '.join(found.reasons)}"], comparison)
    _fail([f"{line}: beyond {found.threshold:.0%}" for line in found.regressions], comparison)

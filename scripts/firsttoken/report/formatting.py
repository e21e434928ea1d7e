"""How numbers are written everywhere in the report: three significant digits, intervals, percentages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from firsttoken.analysis.schemas import bounds_of

NO_VALUE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, thousands separated, an exponent below 0.0001; a dash where there is no value."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def count(value: float) -> str:
    """A whole number, which pandas reads as a float where its column has gaps."""
    return f"{int(value):,}" if math.isfinite(value) else NO_VALUE


def percent(share: float | None) -> str:
    """`46 %`, or a dash; its space does not break."""
    return NO_VALUE if share is None or not math.isfinite(share) else f"{100 * share:.2g}\N{NO-BREAK SPACE}%"


def interval(low: float | None, high: float | None) -> str:
    """`4.05 to 4.38`, or nothing where there is no interval: the baseline against itself has none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or low == high:
        return ""
    return f"{number(low)} to {number(high)}"


def with_interval(row: Mapping[str, Any], name: str) -> str:
    """`4.21 (4.05 to 4.38)` from the column `name` and those with its interval."""
    value = number(row.get(name))
    found = interval(*map(row.get, bounds_of(name)))
    return f"{value} ({found})" if found else value


def text(value: object) -> str:
    """A value that is no number: `yes` and `no` for booleans, nothing where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)

"""How large an error may be: bounds by dtype and depth, calibrated once by `benchmarks/equality.py`.

A calibrated row holds the largest distance (`LogitErrors.distances`) that any correct implementation showed, in units
in the last place of the dtype (2**-23, 2**-10, 2**-7). The bound is that times HEADROOM.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

MEASURES = ("rms", "kl", "slope")
ULP = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}  # relative
HEADROOM = 1.5  # over the largest error of a correct implementation; the same over the baseline's error in the study
# A choice between two tokens depends on the difference of two errors, which for independent errors is sqrt(2) times
# one of them; 4 such standard deviations fit into 6 times the RMS error, that is 4 times its bound.
GAP_FACTOR = 4.0


@dataclass(frozen=True)
class Limits:
    """For one dtype and depth, each measure in the unit of `LogitErrors.distances`.

    `absolute` holds for every approach. `least` is the smallest bound that the baseline's own error can give: in
    float32 the baseline often agrees with the reference to the last bit, which no other order of additions does.
    """

    absolute: dict[str, float]
    least: dict[str, float]


def read_limits(path: Path | str, dtype: str, layers: int) -> Limits:
    """The limits for a model of `layers` layers: the row of the next calibrated depth.

    Beyond the deepest row errors are taken to grow with the square root of the depth, as independent roundings do.
    Raises ValueError for a dtype without a row.
    """
    with open(path, encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    rows = sorted((row for row in table if row["dtype"] == dtype), key=lambda row: int(row["layers"]))
    if dtype not in ULP or not rows:
        raise ValueError(f"{path}: no bounds for dtype {dtype!r}; known: {', '.join({row['dtype'] for row in table})}")
    row = next((row for row in rows if int(row["layers"]) >= layers), rows[-1])
    unit = ULP[dtype] * max(1.0, math.sqrt(layers / int(row["layers"])))
    return Limits(
        absolute={name: HEADROOM * float(row[f"{name}_ulp"]) * unit for name in MEASURES},
        least={name: float(row[f"least_{name}_ulp"]) * unit for name in MEASURES},
    )

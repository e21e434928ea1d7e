"""The vendor's peaks of a device, from a data file: measured ceilings are compared with them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from firsttoken.csv_tables import Columns, each, number, read_table, text
from firsttoken.results import DatasheetPeak, Gpu

COLUMNS: Columns = {
    "device": text(),  # as NVML names it
    "bandwidth_gb_per_s": number(0),
    **each(number(0), *(f"{dtype}_tflops" for dtype in ("float16", "bfloat16", "float32"))),  # dense, TF32 off
    **each(text(), "document", "url"),
}


def datasheet_peak(devices: Path | str, gpu: Gpu | None, dtype: str) -> DatasheetPeak | None:
    """What the file says of this GPU; None for a CPU and for a device that it does not name."""
    table = read_table(devices, "devices", COLUMNS)
    rows = table[table["device"] == (gpu.name if gpu else None)]
    if rows.empty:
        return None
    row = rows.iloc[0]
    tflops = row[f"{dtype}_tflops"]
    return DatasheetPeak(
        read_bandwidth_bytes_per_s=1e9 * float(row["bandwidth_gb_per_s"]),
        matrix_flops_per_s=None if pd.isna(tflops) else 1e12 * float(tflops),
        document=row["document"],
        url=row["url"],
    )

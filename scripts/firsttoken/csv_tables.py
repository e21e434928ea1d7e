"""Tables as CSV files whose columns are declared, and checked when a table is written and when it is read.

The checks are our own: those of pandera took half the time of an analysis, and its import half a second of every job.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import pandas_dtype

from firsttoken import files


@dataclass(frozen=True)
class Column:
    """One column: its dtype in pandas, the least number or the words that it may hold, and whether it may have gaps."""

    dtype: str
    low: float | None = None
    allowed: tuple[str, ...] = ()
    gaps: bool = False


Columns = dict[str, Column]


def text(*allowed: str) -> Column:
    return Column("str", allowed=allowed)


def number(low: float | None = None) -> Column:
    return Column("float64", low=low, gaps=True)


def count() -> Column:
    return Column("int64", low=0)


def maybe_count() -> Column:
    return Column("Int64", gaps=True)


def each(kind: Column, *names: str) -> Columns:
    """Columns of one kind."""
    return dict.fromkeys(names, kind)


def write_table(frame: pd.DataFrame, name: str, columns: Columns, path: Path | str) -> None:
    """Put the columns in order, validate, write as CSV atomically. Raises ValueError that names file and column."""
    if frame.empty:
        frame = frame.reindex(columns=list(columns))
    elif set(frame.columns) == set(columns):
        frame = frame[list(columns)]
    checked = _validate(frame, name, columns, path)
    with files.atomic_path(path) as temporary:
        checked.to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: Path | str, name: str, columns: Columns) -> pd.DataFrame:
    """Read and validate a table; empty text is "", an empty number NaN."""
    texts = {column: str for column, kind in columns.items() if kind.dtype == "str"}
    empty = {column: [""] for column in columns if column not in texts}
    frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)
    return _validate(frame, name, columns, path)


def _validate(frame: pd.DataFrame, name: str, columns: Columns, path: Path | str) -> pd.DataFrame:
    """Exactly these columns, in their order, as their dtypes."""
    try:
        if list(frame.columns) != list(columns):
            other = sorted(map(str, {*frame.columns} ^ {*columns})) or ["their order"]
            raise ValueError(f"columns differ: {', '.join(other)}")
        return pd.DataFrame({column: _checked(frame[column], kind) for column, kind in columns.items()})
    except ValueError as error:
        raise ValueError(f"{path}: not a valid {name} table: {error}; delete it, so that it is made again") from error


def _checked(given: pd.Series[Any], kind: Column) -> pd.Series[Any]:
    """A column as its dtype. Raises ValueError with the first value that it may not hold."""
    try:
        values = given.astype(pandas_dtype(kind.dtype))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{given.name}: no {kind.dtype}: {' '.join(str(error).split())}") from error
    wrong = values.isna() & (not kind.gaps)
    if kind.low is not None:
        wrong |= values < kind.low
    if kind.allowed:
        wrong |= ~values.isin(kind.allowed)
    if kind.dtype in ("int64", "bool"):  # pandas makes 1 of 1.5, and True of any text
        wrong |= values != given
    if wrong.any():
        raise ValueError(f"{given.name}: found {given[wrong].iloc[0]!r}")
    return values

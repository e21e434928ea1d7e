"""Tables as CSV files whose columns are declared, and checked when a table is written and when it is read."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from firsttoken import files

Columns = dict[str, pa.Column]


def text(*allowed: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(list(allowed)) if allowed else None, coerce=True)


def number(low: float | None = None) -> pa.Column:
    return pa.Column(float, pa.Check.ge(low) if low is not None else None, nullable=True, coerce=True)


def count() -> pa.Column:
    return pa.Column(int, pa.Check.ge(0), coerce=True)


def maybe_count() -> pa.Column:
    return pa.Column(pd.Int64Dtype(), nullable=True, coerce=True)


def flag() -> pa.Column:
    return pa.Column(bool, coerce=True)


def maybe_flag() -> pa.Column:
    return pa.Column(pd.BooleanDtype(), nullable=True, coerce=True)


def each(kind: pa.Column, *names: str) -> Columns:
    """Columns of one kind."""
    return {name: copy(kind) for name in names}


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
    texts = {column: str for column, kind in columns.items() if "str" in str(kind.dtype)}  # "str" or "string[...]"
    empty = {column: [""] for column in columns if column not in texts}
    frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)
    return _validate(frame, name, columns, path)


def _validate(frame: pd.DataFrame, name: str, columns: Columns, path: Path | str) -> pd.DataFrame:
    """Exactly these columns, in their order."""
    try:
        return pa.DataFrameSchema(columns, strict=True, ordered=True, name=name).validate(frame)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        found = " ".join(str(error).split())
        raise ValueError(f"{path}: not a valid {name} table: {found}; delete it, so that it is made again") from error

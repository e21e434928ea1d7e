"""Tables are checked when written and when read, and survive the way through CSV."""

from pathlib import Path

import pandas as pd
import pytest

from firsttoken import csv_tables
from firsttoken.analysis.schemas import TABLES, read_table, write_table
from firsttoken.csv_tables import Column, count, number, text

ROW = {
    "claim": "None of these is null, NA or nan.",
    "verdict": "refuted",
    "published_value": 4.48,
    **dict.fromkeys(["claimed_for", "other_conditions", "reading"], ""),
    "reading_verdict": "refuted",
    **dict.fromkeys(["measured_value", "measured_value_low", "measured_value_high"], float("nan")),
    "verdict_from_source": "its source gives no figure",
    "sentence": 'Refuted: a comma, a "quote".',
    "doubts": "",
    **dict.fromkeys(["publication", "source", "url"], ""),
    "id": "x",
}


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    write_table(pd.DataFrame([ROW | {"id": "null"}, ROW]), "claims", tmp_path / "claims.csv")
    found = read_table(tmp_path / "claims.csv", "claims")
    assert found["id"].tolist() == ["null", "x"], "an approach is called null, and that is a name"
    assert found["source"].tolist() == ["", ""] and found["measured_value"].isna().all()
    assert found["sentence"].tolist() == [ROW["sentence"]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "perhaps"}, "perhaps"),
        ({"extra": 1}, "extra"),
        ({"published_value": "many"}, "published_value"),
    ],
)
def test_a_wrong_table_is_not_written(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "claims.csv"
    with pytest.raises(ValueError, match=message) as error:
        write_table(pd.DataFrame([ROW | change]), "claims", path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    row = {name: value for name, value in ROW.items() if name != "sentence"}
    with pytest.raises(ValueError, match="sentence"):
        write_table(pd.DataFrame([row]), "claims", tmp_path / "claims.csv")


def test_a_damaged_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    write_table(pd.DataFrame([ROW]), "claims", path)
    path.write_text(path.read_text().replace("refuted", "reproducible", 1))
    with pytest.raises(ValueError, match=r"claims\.csv.*reproducible"):
        read_table(path, "claims")


@pytest.mark.parametrize("name", sorted(TABLES))
def test_an_empty_table_has_its_columns(tmp_path: Path, name: str) -> None:
    write_table(pd.DataFrame(), name, tmp_path / "empty.csv")
    found = read_table(tmp_path / "empty.csv", name)
    assert found.empty and list(found.columns) == list(TABLES[name])


@pytest.mark.parametrize(
    ("kind", "value"),
    [(count(), 1.5), (count(), -1), (count(), None), (Column("bool"), "yes"), (number(0), -0.1), (text(), None)],
)
def test_a_value_that_a_column_may_not_hold(tmp_path: Path, kind: Column, value: object) -> None:
    """Seen failing without the comparison after the conversion: 1.5 was 1, "yes" was True."""
    with pytest.raises(ValueError, match=r"x: "):
        csv_tables.write_table(pd.DataFrame({"x": [value]}), "made", {"x": kind}, tmp_path / "made.csv")

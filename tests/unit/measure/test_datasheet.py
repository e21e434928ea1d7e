"""The vendors' peaks: the shipped file is valid and names its sources; a device that it does not name has none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from firsttoken.csv_tables import read_table
from firsttoken.measure.datasheet import COLUMNS, datasheet_peak
from fixtures_samples import H200

DEVICES = Path(__file__).parents[3] / "config" / "devices.csv"


def test_the_datasheet_of_an_h200() -> None:
    found = datasheet_peak(DEVICES, H200, "float16")
    assert found is not None
    assert (found.read_bandwidth_bytes_per_s, found.matrix_flops_per_s) == (4.8e12, 989.5e12)
    assert "H200" in found.document and found.url.startswith("https://www.nvidia.com/")
    single = datasheet_peak(DEVICES, H200, "float32")
    assert single is not None and single.matrix_flops_per_s == 67e12, "without TF32"


def test_a_device_that_is_not_in_the_file_has_no_peak() -> None:
    assert datasheet_peak(DEVICES, None, "float32") is None
    assert datasheet_peak(DEVICES, msgspec.structs.replace(H200, name="NVIDIA H20"), "float16") is None


def test_a_rate_that_the_document_does_not_give_is_none(tmp_path: Path) -> None:
    text = ",".join(COLUMNS) + "\nNVIDIA H200,4800,,,67,d,u\n"
    (tmp_path / "devices.csv").write_text(text, encoding="utf-8")
    found = datasheet_peak(tmp_path / "devices.csv", H200, "bfloat16")
    assert found is not None and found.matrix_flops_per_s is None


def test_a_file_with_a_wrong_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_text("device,speed\nNVIDIA H200,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"devices\.csv: not a valid devices table"):
        datasheet_peak(tmp_path / "devices.csv", H200, "float16")


def test_every_row_has_its_source_and_each_device_one_row() -> None:
    table = read_table(DEVICES, "devices", COLUMNS)
    assert table["device"].is_unique and table["url"].str.startswith("https://").all()
    assert (table["document"] != "").all() and (table["float16_tflops"] >= table["float32_tflops"]).all()

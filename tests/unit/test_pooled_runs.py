"""Pooling of runs: what the two files hold, what is refused, and files of another version."""

import errno
from pathlib import Path

import msgspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

from firsttoken import files
from firsttoken.pooled_runs import check_poolable, raw_digests, read_records, read_samples, read_tokens
from firsttoken.results import RunRecord, TokensRecord
from fixtures_samples import Known, make_study, pool


def test_records_and_tokens_are_those_of_the_raw_files_and_each_has_its_digest(tmp_path: Path) -> None:
    study = pool(make_study(tmp_path, {"jit_only": Known(), "baseline": Known()}, requests=2, repeats=2))
    assert read_records(study.records) == [files.read_json(path, RunRecord) for path in study.record_files]
    assert read_tokens(study.records) == [files.read_json(path, TokensRecord) for path in study.raw("*.tokens.json")]
    paths = [path for path in (tmp_path / "raw").rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    assert raw_digests(study.records) == {str(path.relative_to(tmp_path)): files.sha256_file(path) for path in paths}
    assert len(paths) == 12


@pytest.mark.parametrize("name", ["samples", "records"])
def test_a_file_of_another_version_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    study = pool(make_study(tmp_path, {"baseline": Known()}, requests=2, repeats=1))
    path = tmp_path / f"{name}.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match=rf"{name}\.parquet: found schema version 1, this is version 2; ") as error:
        read_samples(study.samples, ["latency_ns"]) if name == "samples" else read_records(study.records)
    assert "\n" not in str(error.value)


def test_a_pooled_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    study = pool(make_study(tmp_path, {"baseline": Known()}, requests=2, repeats=1))
    pq.write_table(pq.read_table(study.records).drop_columns(["tokens_json"]), study.records)
    with pytest.raises(ValueError, match=r"records\.parquet: found columns .*tokens_json"):
        read_records(study.records)


@pytest.mark.parametrize("name", ["samples", "records"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_pooled_file_that_was_cut_short_is_named_in_one_line(tmp_path: Path, name: str, kept: float) -> None:
    study = pool(make_study(tmp_path, {"baseline": Known()}, requests=2, repeats=1))
    path = tmp_path / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{name}\.parquet: cannot be read \(.*\); pool the raw files again") as error:
        read_samples(study.samples, ["latency_ns"]) if name == "samples" else raw_digests(study.records)
    assert "\n" not in str(error.value)


def test_an_error_of_the_machine_does_not_blame_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: with no file handle left it said that a run must be measured again."""
    study = make_study(tmp_path, {"baseline": Known()}, requests=2, repeats=1)

    def no_handle(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(pq, "read_table", no_handle)
    with pytest.raises(OSError, match="Too many open files"):
        pool(study)


def test_raw_samples_that_are_no_parquet_are_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"baseline": Known()}, requests=2, repeats=1)
    study.raw("*.parquet")[0].write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"raw/baseline/1\.parquet: cannot be read .*; measure this run again"):
        pool(study)


def test_raw_samples_with_other_columns_are_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"baseline": Known()}, requests=2, repeats=1)
    path = study.raw("*.parquet")[0]
    pq.write_table(pq.read_table(path).drop_columns(["pool_hit"]), path)
    with pytest.raises(ValueError, match=r"raw/baseline/1\.parquet: found columns .*; measure this run again"):
        pool(study)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "machine"),
        ({"fingerprint": "other-f2"}, "machine"),
        ({"model_hash": "other"}, "model_hash"),
        ({"dtype": "bfloat16"}, "dtype"),
    ],
)
def test_different_machines_or_models_are_not_pooled(tmp_path: Path, change: dict[str, object], message: str) -> None:
    study = make_study(tmp_path, {"baseline": Known(), "jit_only": Known(record=change)}, requests=2, repeats=2)
    with pytest.raises(ValueError, match=f"cannot be pooled.*{message}.*jit_only/1") as error:
        pool(study)
    assert "\n" not in str(error.value)
    assert not study.samples.exists() and not study.records.exists()


def test_approaches_of_other_environments_are_pooled_and_repeats_in_two_are_not(tmp_path: Path) -> None:
    records = [
        RunRecord(
            approach=name, title="", repeat=repeat, status="measured", device="cpu", dtype="float32", fingerprint=f
        )
        for name, repeat, f in [("a", 1, "m-1"), ("b", 1, "m-2"), ("b", 2, "m-2")]
    ]
    check_poolable(records)
    with pytest.raises(ValueError, match="b: fingerprint of b/2"):
        check_poolable([*records[:2], msgspec.structs.replace(records[2], fingerprint="m-3")])


@pytest.mark.parametrize(
    "change",
    [
        {"code_sha256": "other"},
        {"versions": {"torch": "2.11.0"}},
        {"attention": "eager"},
        {"tf32": True},
        {"kernels": "inductor"},
        {"threads": 7},
        {"ahead": 1},
        {"spin_us": 0},
    ],
)
def test_repeats_of_other_code_or_versions_are_not_pooled(tmp_path: Path, change: dict[str, object]) -> None:
    study = make_study(tmp_path, {"baseline": Known()}, requests=2, repeats=1)
    records = read_records(pool(study).records)
    other = make_study(tmp_path / "other", {"baseline": Known(record=change | {"repeat": 2})}, requests=2, repeats=1)
    with pytest.raises(ValueError, match=f"baseline: {next(iter(change))}"):
        check_poolable([*records, *read_records(pool(other).records)])


def test_approaches_may_have_other_code_and_versions_and_may_not_run(tmp_path: Path) -> None:
    """The engine of another environment is no other machine."""
    approaches = {
        "baseline": Known(),
        "tensorrt_llm": Known(record={"versions": {"torch": "2.9.0"}}),
        "jit_cuda": Known(status="unavailable", reason="no", record={"fingerprint": ""}),
    }
    study = pool(make_study(tmp_path, approaches, requests=2, repeats=2))
    assert set(pd.read_parquet(study.samples)["approach"]) == {"baseline", "tensorrt_llm"}

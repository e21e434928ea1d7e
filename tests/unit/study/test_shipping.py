"""What ships of a study: its data, with the jobs behind them, checked where they lie."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from firsttoken import files
from firsttoken.pooled_runs import SCHEMA_VERSION, raw_digests
from firsttoken.study.provenance import read_provenance
from firsttoken.study.shipping import list_study, listed_hashes, ship
from firsttoken.study.trace import Trace
from firsttoken.study.verification import verify
from unit.study.demo import MANIFEST


def shipped(root: Path) -> Path:
    target = root / "results/reference/demo"
    ship(root / "results/demo", target, root)
    list_study(target)
    (root / "results/demo").rename(root / "gone")
    (root / MANIFEST).unlink()
    return target


def test_half_of_a_study_does_not_stay(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Path] = []

    def full(source: Path, target: Path) -> None:
        if copied:
            raise OSError(28, "No space left on device")
        copied.append(target)
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("firsttoken.study.shipping.shutil.copyfile", full)
    target = root / "results/reference/demo"
    with pytest.raises(OSError, match="No space left"):
        ship(root / "results/demo", target, root)
    assert copied and not target.exists()


def test_data_ship_and_nothing_else(root: Path) -> None:
    target = shipped(root)
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        "config.yaml", "samples.parquet", "records.parquet", "environment.json", "ceilings.json", "model.json",
        "provenance.json",        "experiments/ipc.csv", "tables/equality_positions.csv",
    }  # fmt: skip
    rules = [job.rule for job in read_provenance(target / "provenance.json").jobs]
    assert sorted(rules) == ["benchmark_approach", "compare_with_reference", "fetch_model", "pool_runs", "record_study"]


def test_a_shipped_study_is_sound_without_its_raw_files(root: Path) -> None:
    verdict = verify(shipped(root) / "provenance.json", root)
    assert verdict.sound
    assert verdict.pooled == 2 * 3, "record, tokens and samples of two runs"
    assert verdict.not_shipped == ("result results/demo/raw/baseline/1.logits: missing",)


@pytest.mark.parametrize("name", ["samples.parquet", "records.parquet", "tables/equality_positions.csv", "model.json"])
def test_a_changed_byte_of_a_shipped_file_is_named(root: Path, name: str) -> None:
    target = shipped(root)
    path = target / name
    if name == "records.parquet":
        digest = raw_digests(path)["raw/baseline/1.json"].encode()
        path.write_bytes(path.read_bytes().replace(digest[:8], b"00000000"))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    recorded = MANIFEST if name == "model.json" else f"results/demo/{name}"
    changed = verify(target / "provenance.json", root).changed
    assert f"result {recorded}: its bytes have changed" in changed


README = "results/reference/README.md"


def test_shipping_lists_the_hash_of_the_provenance_and_leaves_the_prose(root: Path) -> None:
    other = f"| `other` | `{'0' * 64}` | Ada O'Neil |"
    text = (
        f"# Results\n\n| study | SHA-256 of `provenance.json` | measured by |\n|---|---|---|\n{other}\n\nOf `demo`.\n"
    )
    files.write_text(README, text)
    target = shipped(root)
    row = f"| `demo` | `{files.sha256_file(target / 'provenance.json')}` | the maintainers |\n"
    assert Path(README).read_text(encoding="utf-8") == text.replace(other, row + other)
    Path(README).write_text(text.replace(other, f"| `demo` | `{'1' * 64}` | me |\n{other}"), encoding="utf-8")
    assert "provenance.json: its SHA-256 is " in verify(target / "provenance.json", root).changed[0]
    (root / "gone").rename(root / "results/demo")
    ship(root / "results/demo", target, root)
    list_study(target)
    assert Path(README).read_text(encoding="utf-8") == text.replace(other, row + other)


def test_a_hash_rewritten_in_a_shipped_provenance_is_seen(root: Path) -> None:
    path = shipped(root) / "provenance.json"
    table = path.parent / "experiments" / "ipc.csv"
    table.write_text("a forged table", encoding="utf-8")
    forged = Trace(rule="x", wildcards={}, params={}, code={}, inputs={}, outputs={}, started_at=1.0, seconds=1.0)
    provenance = read_provenance(path)
    files.write_json(path, msgspec.structs.replace(provenance, jobs=(*provenance.jobs, forged)))
    verdict = verify(path, root)
    assert not verdict.sound
    assert verdict.changed == (
        f"{path}: its SHA-256 is {verdict.sha256}, but {README} has "
        f"{listed_hashes(root / README)['demo']}; it was edited: restore it, or ship the study again",
    )


def test_a_shipped_study_that_the_list_does_not_name_fails(root: Path) -> None:
    path = shipped(root) / "provenance.json"
    Path(README).write_text("# Results\n", encoding="utf-8")
    verdict = verify(path, root)
    assert verdict.missing == (f"{path}: its SHA-256 is not in {README}; ship the study again",)
    assert not verdict.sound
    Path(README).unlink()
    assert verify(path, root).missing == verdict.missing


def test_a_raw_file_that_records_do_not_know_is_missing(root: Path) -> None:
    target = shipped(root)
    provenance = read_provenance(target / "provenance.json")
    benchmark = next(job for job in provenance.jobs if job.rule == "benchmark_approach")
    benchmark.outputs["results/demo/raw/baseline/1.json"] = "0" * 64
    files.write_json(target / "provenance.json", provenance)
    assert verify(target / "provenance.json", root).missing == ("result results/demo/raw/baseline/1.json: missing",)


def test_a_study_of_another_version_is_refused_in_one_line(root: Path) -> None:
    path = root / "results/demo/provenance.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f' "schema_version": {SCHEMA_VERSION},\n', ""), encoding="utf-8")
    for read in (lambda: verify(path, root), lambda: ship(root / "results/demo", root / "target", root)):
        with pytest.raises(ValueError, match=r"provenance\.json: found schema version 1, this is version 2; ") as error:
            read()
        assert "\n" not in str(error.value)

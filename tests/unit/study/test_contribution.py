"""A study in an archive: what is packed comes out as it was, and nothing else is ever written."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firsttoken.files import sha256_file, write_json
from firsttoken.study import contribution
from firsttoken.study.contribution import MAX_FILES, check, contributor, pack, personal_data, unpack
from firsttoken.study.provenance import read_provenance
from firsttoken.study.shipping import CONTRIBUTOR, list_study, ship
from firsttoken.study.verification import verify

ADA = contributor("Ada O'Neil <ada@example.org>", "clocks locked")


@pytest.fixture
def folder(root: Path) -> Path:
    """The data of demo with who measured it, as they are packed."""
    ship(root / "results/demo", root / "staging/demo", root)
    write_json(root / "staging/demo" / CONTRIBUTOR, ADA)
    return root / "staging/demo"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_tar(target: Path, members: Sequence[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], None]) -> Path:
    with gzip.open(target, "wb") as stream, tarfile.open(mode="w", fileobj=stream) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            tar.addfile(member, io.BytesIO(content))
    return target


@pytest.mark.parametrize(
    ("by", "name", "contact"),
    [
        ("Ada O'Neil <ada@example.org>", "Ada O'Neil", "ada@example.org"),
        ("  Jörg Müller-Lüdenscheidt <https://example.org/~j?a=b> ", "Jörg Müller-Lüdenscheidt", "https://example.org/~j?a=b"),
        ("李雷 (lab 3) <l@example.org>", "李雷 (lab 3)", "l@example.org"),
    ],
)  # fmt: skip
def test_a_name_and_a_contact(by: str, name: str, contact: str) -> None:
    assert (contributor(by).name, contributor(by).contact) == (name, contact)


@pytest.mark.parametrize(
    "by",
    ["", "Ada", "<a@b.org>", "Ada <>", "Ada <ada>", "Ada | x <a@b.org>", "`Ada` <a@b.org>", "A\nB <a@b.org>",
     "[Ada](x) <a@b.org>", "<b> <a@b.org>", "Ada <javascript:1>", "Ada <a@b.org|c>", "A" * 81 + " <a@b.org>"],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(by: str) -> None:
    with pytest.raises(ValueError, match="give a name without markup") as error:
        contributor(by)
    assert "\n" not in str(error.value)


def test_what_is_packed_comes_out_as_it_was_and_is_sound(root: Path, folder: Path) -> None:
    archive = root / "demo.tar.gz"
    pack(folder, archive)
    reference = root / "results/reference"
    unpacked = unpack(archive, reference)
    assert contents(unpacked) == contents(folder) and unpacked == reference / "demo"
    assert check(unpacked) == ADA
    assert time.time() - (unpacked / "samples.parquet").stat().st_mtime < 60
    list_study(unpacked)
    assert "| Ada O'Neil |\n" in (reference / "README.md").read_text(encoding="utf-8")
    verdict = verify(unpacked / "provenance.json", root)
    assert verdict.sound and not any(CONTRIBUTOR in note for note in verdict.notes)


def test_the_same_study_gives_the_same_bytes_of_no_user_and_no_time(root: Path, folder: Path) -> None:
    pack(folder, root / "one.tar.gz")
    (folder / "samples.parquet").touch()
    (folder / "samples.parquet").chmod(0o777)
    pack(folder, root / "another name.tar.gz")
    assert (root / "one.tar.gz").read_bytes()[4:8] == bytes(4), "the time in the header of gzip"
    assert sha256_file(root / "one.tar.gz") == sha256_file(root / "another name.tar.gz")
    with tarfile.open(root / "one.tar.gz") as tar:
        members = tar.getmembers()
    assert {(member.uid, member.uname, member.gname, member.mtime, member.mode) for member in members} == {
        (0, "", "", 0, 0o644)
    }
    assert [member.name for member in members] == sorted(member.name for member in members)


def test_a_study_that_cannot_be_accepted_is_not_packed_and_leaves_nothing(root: Path, folder: Path) -> None:
    for number in range(MAX_FILES):
        (folder / f"more_{number}.csv").write_text("a\n", encoding="utf-8")
    with pytest.raises(ValueError, match="files or more; a study has 1 to 20"):
        pack(folder, root / "out" / "demo.tar.gz")
    assert not (root / "out").exists()


def test_a_study_without_its_data_or_made_of_files_elsewhere_is_refused(folder: Path) -> None:
    provenance = read_provenance(folder / "provenance.json")
    job = next(job for job in provenance.jobs if job.rule == "record_study")
    others = tuple(each for each in provenance.jobs if each is not job)
    for path in ("/data/model.json", "../model.json", "config/../../x", "/dev/zero"):
        changed = msgspec.structs.replace(job, inputs={path: "0" * 64})
        write_json(folder / "provenance.json", msgspec.structs.replace(provenance, jobs=(*others, changed)))
        with pytest.raises(ValueError, match=f"made of {path}, which is outside the project"):
            check(folder)
    write_json(folder / "provenance.json", msgspec.structs.replace(provenance, jobs=others))
    with pytest.raises(ValueError, match=r"config\.yaml, environment\.json: no job in provenance\.json made it"):
        check(folder)
    (folder / "samples.parquet").unlink()
    with pytest.raises(ValueError, match=r"demo: has no samples\.parquet"):
        check(folder)


def test_personal_data_are_found_in_text_and_in_records(folder: Path) -> None:
    (folder / "model.json").write_text('{"path": "/home/ada/model"}', encoding="utf-8")
    lines = personal_data(folder, ["/home/ada", "baseline"])
    assert lines[0] == "contributor.json: Ada O'Neil, ada@example.org"
    assert lines[1].startswith("environment.json: ")
    assert "model.json: /home/ada" in lines and "records.parquet: baseline" in lines


HOSTILE = (
    "/etc/passwd", "../x.json", "demo/../x.json", "demo/../../x.json", "demo//x.json", "./demo/x.json", "demo/x.json/",
    "demo/.x.json", "demo/x.sh", "x.json", "demo/raw/x.json", "demo/tables/a/b.csv", "demo/a\\b.json", "demo/a b.json",
    "demo/x.json\n", "demo/xé.json", "C:/x.json", ".git/config.json", "demo/experiments/../x.csv", "demo/x.json\0.json",
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.lists(st.sampled_from(("..", ".", "", "demo", "tables", "x.json", "~", "con")), max_size=6).map("/".join),
)
KINDS = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)


@given(names=st.lists(NAMES, min_size=1, max_size=4), kind=st.sampled_from(KINDS), link=NAMES, place=st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_archive_writes_outside_its_folder_or_anything_but_data(
    names: list[str], kind: bytes, link: str, place: bool
) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, link
        member.size = member.size if kind == tarfile.REGTYPE else 0

    good = ("demo/samples.parquet", b"1")
    bad = [(name, b"2") for name in names]
    with tempfile.TemporaryDirectory() as outside:
        folder = Path(outside) / "a" / "b"
        folder.mkdir(parents=True)
        try:
            archive = write_tar(Path(outside) / "x.tar.gz", [good, *bad] if place else [*bad, good], change)
        except (UnicodeEncodeError, ValueError):  # no name that a tar can have
            return
        try:
            unpack(archive, folder)
        except ValueError as error:
            assert "\n" not in str(error)
            assert contents(folder) == {}
        assert {path.name for path in Path(outside).iterdir()} == {"a", "x.tar.gz"}
        for path in folder.rglob("*"):
            assert not path.is_symlink() and (path.is_dir() or path.suffix in (".csv", ".json", ".parquet", ".yaml"))
            assert len(path.relative_to(folder).parts) <= 3


def test_each_hostile_name_and_kind_is_refused(tmp_path: Path) -> None:
    """Seen failing: names matched from their beginning only; links let through."""

    def refused(name: str, kind: bytes, link: str = "") -> None:
        def change(member: tarfile.TarInfo) -> None:
            member.type, member.linkname, member.size = kind, link, 0

        write_tar(tmp_path / "x.tar.gz", [("demo/samples.parquet", b""), (name, b"")], change)
        with pytest.raises(ValueError, match="holds "):
            unpack(tmp_path / "x.tar.gz", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    for name in HOSTILE:
        if name not in ("demo/x.json/", "demo/x.json\0.json"):  # a tar keeps these as demo/x.json
            refused(name, tarfile.REGTYPE)
    for kind in KINDS[1:]:
        refused("demo/config.yaml", kind, link="../../x")
    refused("demo/samples.parquet", tarfile.REGTYPE)  # twice


def test_two_studies_too_many_files_and_too_many_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(members: Sequence[tuple[str, bytes]], reason: str) -> None:
        write_tar(tmp_path / "x.tar.gz", members, lambda member: None)
        with pytest.raises(ValueError, match=reason):
            unpack(tmp_path / "x.tar.gz", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused([("demo/a.json", b""), ("other/a.json", b"")], "files of 2 studies")
    refused([(f"demo/a{number}.json", b"") for number in range(MAX_FILES + 1)], "a study has 1 to 20")
    refused([], "a study has 1 to 20")
    monkeypatch.setattr(contribution, "MAX_BYTES", 100_000)
    refused([("demo/a.json", bytes(100_001))], "more than 100000 bytes unpacked")


def test_a_size_that_the_archive_does_not_hold_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.tar.gz", "wb") as stream:
        member = tarfile.TarInfo("demo/a.json")
        member.size = 2**40
        stream.write(member.tobuf() + bytes(1024))
    with pytest.raises(ValueError, match=r"x\.tar\.gz"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sparse_file_counts_as_large_as_it_would_be(tmp_path: Path) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}

    write_tar(tmp_path / "x.tar.gz", [("demo/a.json", b"1")], change)
    with pytest.raises(ValueError, match="more than 67108864 bytes, or a size that is none"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_archive_is_one_line(data: st.DataObject) -> None:
    """Bytes changed in the tar or in the gzip around it, or cut off."""
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place) / "x.tar.gz"
        write_tar(archive, [("demo/a.json", b"1" * 600), ("demo/b.csv", b"2")], lambda member: None)
        inside = data.draw(st.booleans())
        content = bytearray(gzip.decompress(archive.read_bytes()) if inside else archive.read_bytes())
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        cut = bytes(content[: data.draw(st.integers(0, len(content)))])
        archive.write_bytes(gzip.compress(cut) if inside else cut)
        try:
            unpack(archive, Path(place) / "out")
        except ValueError as error:
            assert "\n" not in str(error)

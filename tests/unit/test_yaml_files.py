"""What a plain loader takes silently is refused in one line with the file; the project's files are read as before."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from firsttoken.yaml_files import MOST_BYTES, read_yaml

ROOT = Path(__file__).parents[2]

WRONG: dict[bytes, str] = {
    b"": "found nothing; write keys",
    b"- a": "found a list; write keys",
    b"hello": "found a str; write keys",
    b"a:\tb\n\tc: 1": "line 1: not valid YAML (found character '\\t'",
    b"a: [1": "line 1: not valid YAML (expected ',' or ']'",
    b"a: \xff": "found byte 3, which is not UTF-8",
    b"a: x\x00": "special characters are not allowed",
    b"a: 1\nb: 2\na: 3": "line 3: not valid YAML (found key a twice",
    b"a: {b: 1, b: 2}": "found key b twice",
    b"a: !!python/name:os.system ''": "found tag tag:yaml.org,2002:python/name:os.system",
    b"a: &a {b: *a}": "found alias *a within what it stands for",
    b"a: &a [1,2]\nb: &b [" + b"*a," * 100 + b"]\nc: [" + b"*b," * 100 + b"]": "more than 20,000 keys and values",
    b"a: " + b"[" * 3000 + b"]" * 3000: "or 20 within each other",
    b"a: 1\n---\nb: 2": "found another document",
    b"1: 2": "found key 1, put it in quotes",
    b"? [a]\n: 2": "found key [...], put it in quotes",
    b"a: 1:20": "found 1:20, which is no decimal number",
    b"a: 0123": "found 0123, which is no decimal number",
    b"a: " + b"9" * 5000: "which is no decimal number of at most 18 digits",
    b"a: .nan": "found .nan, which is no decimal number",
    b"a: 2024-13-45": "month must be in 1..12",
    b"#" * (MOST_BYTES + 1): "found more than 100,000 bytes",
}


@pytest.mark.parametrize("content", WRONG, ids=[repr(content[:20]) for content in WRONG])
def test_a_wrong_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(WRONG[content])) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path)) and ";" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"), [("/dev/zero", "no plain file"), ("/tmp", "no plain file"), ("/no", "No such")]
)
def test_what_is_no_file(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{path}: {words}"):
        read_yaml(path)


def test_the_projects_files_are_read_as_a_plain_loader_reads_them() -> None:
    paths = [*(ROOT / "config").rglob("*.yaml"), *(ROOT / "results" / "reference").glob("*/config.yaml")]
    assert len(paths) > 15
    for path in paths:
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_aliases_and_infinity_are_taken(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a {x: [1.5, .inf]}\nb: *a\nc: {<<: *a, y: 1_000}\n")
    assert read_yaml(tmp_path / "x.yaml")["c"] == {"x": [1.5, float("inf")], "y": 1000}

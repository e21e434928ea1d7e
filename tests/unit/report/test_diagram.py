"""Drawings from descriptions: what is wrong is named, what is drawn stays inside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from firsttoken.report import diagram, documents, drawing

TEMPLATES = Path(__file__).resolve().parents[3] / "report/approaches"
SVG = "{http://www.w3.org/2000/svg}"


def described(**changes: Any) -> dict[str, Any]:
    steps = [{"id": "a", "text": "first"}, {"id": "b", "text": "a <tag> & more", "kind": "graph"}]
    threads = [{"name": "MainThread", "role": "works", "steps": steps}, {"name": "idle", "role": "waits"}]
    return {"alt": "two steps", "processes": [{"name": "one", "role": "alone", "threads": threads}], **changes}


def test_words_are_escaped_and_the_alternative_text_is_there() -> None:
    root = ET.fromstring(drawing.draw(diagram.read_diagram(described()), "x"))
    assert root.find(f"{SVG}title").text == "two steps"  # type: ignore[union-attr]
    assert root.get("aria-labelledby") == "x-alt"
    assert "a <tag> & more" in " ".join(root.itertext())


def test_without_standby_idle_threads_are_left_out() -> None:
    described_diagram = diagram.read_diagram(described())
    assert "idle" in drawing.draw(described_diagram, "x")
    assert "idle" not in drawing.draw(described_diagram, "x", standby=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"links": [{"start": "a", "end": "nowhere"}]}, "nowhere"),
        ({"colour": "red"}, "colour"),
        ({"processes": [{"name": "p", "role": "r", "threads": [{"name": "t", "role": "r", "steps": [
            {"id": "a", "text": "x", "kind": "magic"}]}]}]}, "magic"),
        ({"processes": [{"name": "p", "role": "r", "threads": [{"name": "t", "role": "r", "steps": [
            {"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}]}]}, "two steps have the id 'a'"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diagram.read_diagram(described(**changes))


@pytest.mark.parametrize("per_row", [2, 4])
@pytest.mark.parametrize("name", documents.page_names(TEMPLATES))
def test_everything_drawn_lies_inside_the_drawing(name: str, per_row: int) -> None:
    meta = documents.read_template(TEMPLATES, name).meta
    root = ET.fromstring(drawing.draw(diagram.read_diagram(meta["diagram"]), name, per_row=per_row))
    _, _, width, height = (float(number) for number in root.get("viewBox", "").split())
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x", "")) >= 0 and float(box.get("x", "")) + float(box.get("width", "")) <= width
        assert float(box.get("y", "")) >= 0 and float(box.get("y", "")) + float(box.get("height", "")) <= height
    for path in root.iter(f"{SVG}path"):
        if path.get("class") != "tip":
            rights = [float(number) for number in re.findall(r"[MH](-?[\d.]+)", path.get("d", ""))]
            assert all(0 <= x <= width for x in rights)

"""Drawings from descriptions: what is wrong is named, and nothing of a description is left out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from firsttoken.report import diagram, documents

TEMPLATES = Path(__file__).resolve().parents[3] / "report/approaches"


def described(**changes: Any) -> dict[str, Any]:
    steps = [{"id": "a", "text": "first"}, {"id": "b", "text": "a <tag> & more", "kind": "graph"}]
    threads = [{"name": "MainThread", "role": "works", "steps": steps}, {"name": "idle", "role": "waits"}]
    return {"alt": "two steps", "processes": [{"name": "one", "role": "alone", "threads": threads}], **changes}


def test_words_are_escaped_and_the_alternative_text_is_there() -> None:
    root = ET.fromstring(diagram.draw(diagram.read_diagram(described(alt="two <steps>"))))
    assert root.get("aria-label") == "two <steps>"
    assert "a <tag> & more" in list(root.itertext())


def test_without_standby_idle_threads_are_left_out() -> None:
    described_diagram = diagram.read_diagram(described())
    folded = diagram.draw(described_diagram).split("<details>")
    assert "idle" not in folded[0] and "1 more thread, off the path of a request" in folded[1] and "idle" in folded[1]
    assert "idle" not in diagram.draw(described_diagram, standby=False)


def test_links_point_from_where_they_start() -> None:
    second = {"name": "two", "role": "r", "threads": [{"name": "t", "role": "r", "steps": [{"id": "c", "text": "c"}]}]}
    there, back = {"start": "a", "end": "c", "text": "there"}, {"start": "c", "end": "b", "text": "back"}
    two = described(processes=[*described()["processes"], second], links=[there, back])
    html = diagram.draw(diagram.read_diagram(two))
    assert '<span class="link down">there</span><span class="link up">back</span></p><div class="process">' in html


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"links": [{"start": "a", "end": "nowhere", "text": "x"}]}, "nowhere"),
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


@pytest.mark.parametrize("name", documents.page_names(TEMPLATES))
def test_every_part_of_a_description_is_drawn_once(name: str) -> None:
    described_diagram = diagram.read_diagram(documents.read_template(TEMPLATES, name).meta["diagram"])
    words = list(ET.fromstring(diagram.draw(described_diagram)).itertext())
    for process in described_diagram.processes:
        assert process.name in words
        assert [thread.name for thread in process.threads if words.count(thread.name) != 1] == []
        assert [step.text for step in process.steps if words.count(step.text) != 1] == []
    assert [link.text for link in described_diagram.links if words.count(link.text) != 1] == []

"""A small description of an architecture, as a page's front matter gives it: processes, threads, steps, links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

KINDS = {
    "host": "Python on the host",
    "eager": "operators launched one by one",
    "compiled": "compiled: one call",
    "graph": "captured: one replay",
    "engine": "TensorRT engine",
}


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One box. `id` is what links name."""

    id: str
    text: str
    kind: str = "host"


class Thread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lane. `name` is the live thread's own; `steps` may be empty for a thread that only stands by."""

    name: str
    role: str
    steps: tuple[Step, ...] = ()


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    role: str
    threads: tuple[Thread, ...]


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arrow between steps of different lanes. `start` and `end` are ids."""

    start: str
    end: str
    text: str = ""


class Diagram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a page's front matter describes. `alt` says in words what the drawing shows."""

    alt: str
    processes: tuple[Process, ...]
    links: tuple[Link, ...] = ()


def read_diagram(description: Mapping[str, Any]) -> Diagram:
    """Check a description. Raises ValueError that names what is wrong in it."""
    try:
        diagram = msgspec.convert(description, Diagram)
    except msgspec.ValidationError as error:
        raise ValueError(f"diagram: {error}") from error
    steps = [step for process in diagram.processes for thread in process.threads for step in thread.steps]
    ids = [step.id for step in steps]
    for step in steps:
        if step.kind not in KINDS:
            raise ValueError(f"diagram: step {step.id} is of the unknown kind {step.kind!r}; known: {', '.join(KINDS)}")
    for repeated in {one for one in ids if ids.count(one) > 1}:
        raise ValueError(f"diagram: two steps have the id {repeated!r}")
    for link in diagram.links:
        for end in (link.start, link.end):
            if end not in ids:
                raise ValueError(f"diagram: a link names {end!r}, which is no step")
    return diagram

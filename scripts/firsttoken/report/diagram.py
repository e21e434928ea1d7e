"""Draws an architecture as HTML: processes, threads, steps and links, from the front matter of its page.

The browser lays it out (`page.css`), so one drawing fits every width. Tried instead: graphviz needs a `dot` binary that
pip does not bring, and Mermaid (43 MB to install) put the steps of a thread into one row of 2,500 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import msgspec

KINDS = {
    "host": "Python on the host",
    "eager": "operators launched one by one",
    "compiled": "compiled: one call",
    "graph": "captured: one replay",
    "engine": "inside the engine",
}


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a description; an unknown key in it is an error."""


class Step(Described, frozen=True, kw_only=True):
    """One box. `id` is what links name."""

    id: str
    text: str
    kind: str = "host"


class Thread(Described, frozen=True, kw_only=True):
    """`name` is the live thread's own; no request passes through a thread without `steps`."""

    name: str
    role: str
    steps: tuple[Step, ...] = ()


class Process(Described, frozen=True, kw_only=True):
    name: str
    role: str
    threads: tuple[Thread, ...]

    @property
    def steps(self) -> list[Step]:
        return [step for thread in self.threads for step in thread.steps]


class Link(Described, frozen=True, kw_only=True):
    """An arrow between steps of different threads. `start` and `end` are ids."""

    start: str
    end: str
    text: str


class Diagram(Described, frozen=True, kw_only=True):
    """The whole description. `alt` is the drawing in words."""

    alt: str
    processes: tuple[Process, ...]
    links: tuple[Link, ...] = ()


def read_diagram(description: Mapping[str, Any]) -> Diagram:
    """Check a description. Raises ValueError that names what is wrong in it."""
    try:
        diagram = msgspec.convert(description, Diagram)
    except msgspec.ValidationError as error:
        raise ValueError(f"diagram: {error}") from error
    steps = [step for process in diagram.processes for step in process.steps]
    ids = [step.id for step in steps]
    for step in steps:
        if step.kind not in KINDS:
            raise ValueError(f"diagram: step {step.id} is of the unknown kind {step.kind!r}; known: {', '.join(KINDS)}")
        if ids.count(step.id) > 1:
            raise ValueError(f"diagram: two steps have the id {step.id!r}")
    for link in diagram.links:
        for end in (link.start, link.end):
            if end not in ids:
                raise ValueError(f"diagram: a link names {end!r}, which is no step")
    return diagram


def draw(diagram: Diagram, *, standby: bool = True) -> str:
    """The drawing as HTML. Without `standby`, threads that have no steps are left out."""
    parts: list[str] = []
    above: list[Step] = []
    for process in diagram.processes:
        parts += [_links(diagram, above, process.steps), _process(diagram, process, standby)]
        above += process.steps
    used = {step.kind for step in above}
    legend = "".join(f'<li><i class="step {kind}"></i>{KINDS[kind]}</li>' for kind in KINDS if kind in used)
    return (
        f'<figure class="diagram" role="group" aria-label="{escape(diagram.alt)}">{"".join(parts)}'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _process(diagram: Diagram, process: Process, standby: bool) -> str:
    parts: list[str] = []
    above: list[Step] = []
    for thread in process.threads:
        if thread.steps:
            parts += [_links(diagram, above, thread.steps), _thread(thread)]
            above += thread.steps
    idle = [thread for thread in process.threads if not thread.steps]
    if idle and standby:
        count = f"{len(idle)} more thread{'' if len(idle) == 1 else 's'}, off the path of a request"
        parts.append(f"<details><summary>{count}</summary>{''.join(map(_thread, idle))}</details>")
    name = f"<p><b>{escape(process.name)}</b> {escape(process.role)}</p>"
    return f'<div class="process">{name}{"".join(parts)}</div>'


def _thread(thread: Thread) -> str:
    name = f"<p><b><code>{escape(thread.name)}</code></b> {escape(thread.role)}</p>"
    steps = "".join(f'<li class="step {step.kind}">{escape(step.text)}</li>' for step in thread.steps)
    return f'<div class="thread">{name}{f"<ol>{steps}</ol>" if steps else ""}</div>'


def _links(diagram: Diagram, above: Sequence[Step], below: Sequence[Step]) -> str:
    """The arrows from what is already drawn to what follows, and back up."""
    upper, lower = {step.id for step in above}, {step.id for step in below}
    arrows = [
        f'<span class="link {"down" if link.start in upper else "up"}">{escape(link.text)}</span>'
        for link in diagram.links
        if (link.start in upper and link.end in lower) or (link.start in lower and link.end in upper)
    ]
    return f'<p class="links">{"".join(arrows)}</p>' if arrows else ""

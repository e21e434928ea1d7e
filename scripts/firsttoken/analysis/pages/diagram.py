"""An architecture drawn from a small description: processes, their threads, steps, and what flows between them.

A process is a box, a thread a lane in it, a step a box in the lane; the steps of a lane follow each other from left to
right. Links lead down to the next lanes, or up along the right edge. Colours come from the page's style sheet, so that the
drawing follows its light and dark form; kinds of steps also differ in their outlines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import msgspec

WIDTH = 660
MARGIN = 14  # of the drawing, and of a process inside it
CHANNEL = 60  # right edge inside the drawing, where links run up
LANE_GAP, PROCESS_GAP, ROW_GAP = 26, 44, 22
STEP_WIDTH, STEP_GAP, PER_ROW = 168, 22, 3
LINE_HEIGHT, LETTERS = 15.5, 25
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


@dataclass
class _Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass
class _Canvas:
    parts: list[str] = field(default_factory=list)
    boxes: dict[str, _Box] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)


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


def draw(diagram: Diagram, identity: str) -> str:
    """The drawing as inline SVG; `identity` keeps the ids of several drawings on one page apart."""
    canvas = _Canvas()
    y = float(MARGIN)
    for process in diagram.processes:
        y = _draw_process(canvas, process, y) + PROCESS_GAP
    y = y - PROCESS_GAP + 12
    for link in diagram.links:
        canvas.parts += _draw_link(canvas, link, identity)
    height = _draw_legend(canvas, y)
    marker = (
        f'<marker id="{identity}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="tip" d="M0 0L8 4L0 8z"/></marker>'
    )
    arrows = "".join(canvas.parts).replace("TIP", f"{identity}-tip")
    return (
        f'<svg class="diagram" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="{identity}-alt" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{identity}-alt">{escape(diagram.alt)}</title>'
        f"<defs>{marker}</defs>{arrows}</svg>"
    )


def _draw_process(canvas: _Canvas, process: Process, top: float) -> float:
    """Draw one process and return the y of its lower edge."""
    place = len(canvas.parts)
    left = float(MARGIN)
    y = top + 30
    for thread in process.threads:
        y = _draw_lane(canvas, thread, left + MARGIN, y) + LANE_GAP
    bottom = y - LANE_GAP + MARGIN
    frame = _rectangle("process", _Box(left, top, WIDTH - 2 * MARGIN, bottom - top), 10)
    head = f'<tspan class="name">{escape(process.name)}</tspan>  {escape(process.role)}'
    canvas.parts.insert(place, f'{frame}<text class="head" x="{left + 12}" y="{top + 20}">{head}</text>')
    return bottom


def _draw_lane(canvas: _Canvas, thread: Thread, left: float, top: float) -> float:
    """Draw one thread and return the y of its lower edge."""
    place = len(canvas.parts)
    y = top + 25
    for row in _rows(thread.steps):
        height = max(len(_lines(step)) for step in row) * LINE_HEIGHT + 14
        for column, step in enumerate(row):
            box = _Box(left + 10 + column * (STEP_WIDTH + STEP_GAP), y, STEP_WIDTH, height)
            _draw_step(canvas, step, box)
        y += height + ROW_GAP
    bottom = y - ROW_GAP + 10 if thread.steps else top + 32
    frame = _rectangle("lane", _Box(left, top, WIDTH - 4 * MARGIN, bottom - top), 6)
    head = f'<tspan class="name">{escape(thread.name)}</tspan>  {escape(thread.role)}'
    canvas.parts.insert(place, f'{frame}<text class="role" x="{left + 10}" y="{top + 18}">{head}</text>')
    for before, after in zip(thread.steps, thread.steps[1:], strict=False):
        canvas.parts.append(_follow(canvas.boxes[before.id], canvas.boxes[after.id]))
    return bottom


def _rows(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    for start in range(0, len(steps), PER_ROW):
        yield steps[start : start + PER_ROW]


def _lines(step: Step) -> list[str]:
    return textwrap.wrap(step.text, LETTERS, break_long_words=False)


def _draw_step(canvas: _Canvas, step: Step, box: _Box) -> None:
    canvas.boxes[step.id] = box
    if step.kind not in canvas.kinds:
        canvas.kinds.append(step.kind)
    lines = _lines(step)
    first = box.y + box.height / 2 - (len(lines) - 1) * LINE_HEIGHT / 2 + 4.5
    words = "".join(
        f'<tspan x="{box.middle:.1f}" y="{first + place * LINE_HEIGHT:.1f}">{escape(line)}</tspan>'
        for place, line in enumerate(lines)
    )
    canvas.parts.append(f'{_rectangle(f"step {step.kind}", box, 5)}<text class="words">{words}</text>')


def _rectangle(kind: str, box: _Box, radius: int) -> str:
    return (
        f'<rect class="{kind}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
        f'rx="{radius}"/>'
    )


def _follow(before: _Box, after: _Box) -> str:
    """The arrow to the next step: to the right, or from a row's end to the start of the next."""
    if after.y == before.y:
        middle = before.y + before.height / 2
        return _path(f"M{before.x + before.width:.1f} {middle:.1f}H{after.x - 2:.1f}")
    turn = before.y + before.height + ROW_GAP / 2
    return _path(f"M{before.middle:.1f} {before.y + before.height:.1f}V{turn:.1f}H{after.middle:.1f}V{after.y - 2:.1f}")


def _draw_link(canvas: _Canvas, link: Link, identity: str) -> list[str]:
    start, end = canvas.boxes[link.start], canvas.boxes[link.end]
    if end.y > start.y:
        turn = end.y - 25 - 14  # above the lane's heading
        x = start.middle if abs(start.middle - end.middle) > 1 else end.middle
        path = f"M{x:.1f} {start.y + start.height:.1f}V{turn:.1f}H{end.middle + 14:.1f}V{end.y - 2:.1f}"
        words_x, words_y, anchor = max(x, end.middle + 14) + 8, turn + 4, "start"
    else:
        edge = WIDTH - 2 * MARGIN - 12
        from_y, to_y = start.y + start.height / 2, end.y + end.height / 2
        path = f"M{start.x + start.width:.1f} {from_y:.1f}H{edge:.1f}V{to_y:.1f}H{end.x + end.width + 2:.1f}"
        words_x, words_y, anchor = edge - 6, end.y + end.height + 18 + PROCESS_GAP / 2, "end"
    words = f'<text class="flow" x="{words_x:.1f}" y="{words_y:.1f}" text-anchor="{anchor}">{escape(link.text)}</text>'
    return [_path(path, "link"), words if link.text else ""]


def _path(points: str, kind: str = "follow") -> str:
    return f'<path class="{kind}" d="{points}" marker-end="url(#TIP)"/>'


def _draw_legend(canvas: _Canvas, top: float) -> float:
    """A swatch a kind of step in use; returns the drawing's height."""
    kinds = [kind for kind in KINDS if kind in canvas.kinds]
    for place, kind in enumerate(kinds):
        x, y = MARGIN + (place % 2) * 260, top + (place // 2) * 22
        canvas.parts.append(_rectangle(f"step {kind}", _Box(x, y, 22, 14), 3))
        canvas.parts.append(f'<text class="flow" x="{x + 30}" y="{y + 11.5:.1f}">{escape(KINDS[kind])}</text>')
    return top + -(-len(kinds) // 2) * 22 + 4

"""Draws a `diagram.Diagram` as inline SVG.

A process is a box, a thread a lane in it, a step a box in the lane; the steps of a lane follow each other from left to
right. Links lead down to the next lanes, or up along the right edge. Colours come from the page's style sheet, so that
the drawing follows its light and dark form; kinds of steps also differ in their outlines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from firsttoken.report.diagram import KINDS, Diagram, Link, Process, Step, Thread

MARGIN = 14  # around a process, and around a lane inside it
EDGE = 16  # between a lane's border and its steps: room for links that pass by
CHANNEL = 22  # right of the steps, where links run up
HEADING, LANE_GAP, STANDBY_GAP, PROCESS_GAP, ROW_GAP = 32.0, 24.0, 7.0, 42.0, 22.0
STEP_WIDTH, STEP_GAP = 158, 18
LINE_HEIGHT, LETTERS = 15.5, 20
ROLE_LETTER_WIDTH = 6.4
# Names left of the arrows that come down to a lane's first step, roles right of them.
ROLE_LEFT = 2 * MARGIN + EDGE + STEP_WIDTH / 2 + 10


@dataclass
class _Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass
class _Place:
    """Where a step is drawn, and the borders above it."""

    box: _Box
    lane_top: float
    process_top: float
    last_row: bool


@dataclass
class _Canvas:
    """What is drawn, in layers, so that words stand on arrows and never under them."""

    per_row: int
    frames: list[str] = field(default_factory=list)
    arrows: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    places: dict[str, _Place] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)

    @property
    def lane_width(self) -> float:
        return 2 * EDGE + self.per_row * STEP_WIDTH + (self.per_row - 1) * STEP_GAP + CHANNEL

    @property
    def width(self) -> float:
        return self.lane_width + 4 * MARGIN


def draw(diagram: Diagram, identity: str, *, per_row: int = 4, standby: bool = True) -> str:
    """The drawing as inline SVG, `per_row` steps wide; `identity` keeps the ids of several drawings on one page apart.

    Without `standby`, threads that have no steps are left out.
    """
    canvas = _Canvas(per_row)
    y = float(MARGIN)
    for process in diagram.processes:
        threads = [thread for thread in process.threads if standby or thread.steps]
        y = _draw_process(canvas, process, threads, y) + PROCESS_GAP
    for link in diagram.links:
        _draw_link(canvas, link)
    height = _draw_legend(canvas, y - PROCESS_GAP + 12)
    tip = (
        f'<marker id="{identity}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="tip" d="M0 0L8 4L0 8z"/></marker>'
    )
    arrows = "".join(canvas.arrows).replace("TIP", f"{identity}-tip")
    drawn = "".join([*canvas.frames, arrows, *canvas.steps, *canvas.words])
    return (
        f'<svg class="diagram" viewBox="0 0 {canvas.width:.0f} {height:.0f}" role="img" '
        f'aria-labelledby="{identity}-alt" '
        f'style="max-width:{canvas.width:.0f}px" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{identity}-alt">{escape(diagram.alt)}</title><defs>{tip}</defs>{drawn}</svg>'
    )


def _draw_process(canvas: _Canvas, process: Process, threads: Sequence[Thread], top: float) -> float:
    """Draw one process and return the y of its lower edge."""
    place = len(canvas.frames)
    y = top + 30
    for thread, following in zip(threads, [*threads[1:], None], strict=True):
        y = _draw_lane(canvas, thread, y, top)
        if following is not None:
            y += LANE_GAP if thread.steps or following.steps else STANDBY_GAP
    bottom = y + MARGIN
    frame = _Box(MARGIN, top, canvas.width - 2 * MARGIN, bottom - top)
    canvas.frames.insert(place, _rectangle("process", frame, 10))
    canvas.words += _heading("head on-process", MARGIN + 12, top + 20, process.name, [process.role])
    return bottom


def _draw_lane(canvas: _Canvas, thread: Thread, top: float, process_top: float) -> float:
    """Draw one thread and return the y of its lower edge."""
    left = 2 * MARGIN
    letters = int((left + canvas.lane_width - ROLE_LEFT - 8) / ROLE_LETTER_WIDTH)
    heading = textwrap.wrap(thread.role, letters, break_long_words=False)
    rows = [thread.steps[start : start + canvas.per_row] for start in range(0, len(thread.steps), canvas.per_row)]
    y = top + HEADING + LINE_HEIGHT * (len(heading) - 1)
    for row in rows:
        height = max(len(_lines(step)) for step in row) * LINE_HEIGHT + 14
        for column, step in enumerate(row):
            box = _Box(left + EDGE + column * (STEP_WIDTH + STEP_GAP), y, STEP_WIDTH, height)
            canvas.places[step.id] = _Place(box, top, process_top, row is rows[-1])
            _draw_step(canvas, step, box)
        y += height + ROW_GAP
    bottom = y - ROW_GAP + 12 if rows else y - 4
    canvas.frames.append(_rectangle("lane", _Box(left, top, canvas.lane_width, bottom - top), 6))
    canvas.words += _heading("role on-lane", left + 10, top + 19, thread.name, heading)
    boxes = [canvas.places[step.id].box for step in thread.steps]
    canvas.arrows += [_follow(before, after) for before, after in pairwise(boxes)]
    return bottom


def _heading(kind: str, x: float, y: float, name: str, role: Sequence[str]) -> list[str]:
    """The name, and right of it the role in as many lines as it needs."""
    words = [f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"><tspan class="name">{escape(name)}</tspan></text>']
    return words + [
        f'<text class="{kind}" x="{ROLE_LEFT:.1f}" y="{y + place * LINE_HEIGHT:.1f}">{escape(line)}</text>'
        for place, line in enumerate(role)
    ]


def _lines(step: Step) -> list[str]:
    return textwrap.wrap(step.text, LETTERS, break_long_words=False)


def _draw_step(canvas: _Canvas, step: Step, box: _Box) -> None:
    if step.kind not in canvas.kinds:
        canvas.kinds.append(step.kind)
    lines = _lines(step)
    first = box.y + box.height / 2 - (len(lines) - 1) * LINE_HEIGHT / 2 + 4.5
    words = "".join(
        f'<tspan x="{box.middle:.1f}" y="{first + place * LINE_HEIGHT:.1f}">{escape(line)}</tspan>'
        for place, line in enumerate(lines)
    )
    canvas.steps.append(f'{_rectangle(f"step {step.kind}", box, 5)}<text class="words">{words}</text>')


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
    turn = before.bottom + ROW_GAP / 2 - 2
    return _path(f"M{before.middle:.1f} {before.bottom:.1f}V{turn:.1f}H{after.middle:.1f}V{after.y - 2:.1f}")


def _draw_link(canvas: _Canvas, link: Link) -> None:
    """An arrow between lanes: straight down, down past further rows on the left, or up along the right edge."""
    start, end = canvas.places[link.start], canvas.places[link.end]
    if end.box.y > start.box.y:
        other_process = start.process_top != end.process_top
        turn = end.process_top - PROCESS_GAP / 2 if other_process else end.lane_top - LANE_GAP / 2
        if start.last_row:
            x = start.box.middle
            path = f"M{x:.1f} {start.box.bottom:.1f}"
        else:
            x = 2 * MARGIN + EDGE / 2
            path = f"M{start.box.x:.1f} {start.box.y + start.box.height / 2:.1f}H{x:.1f}"
        path += f"V{turn:.1f}H{end.box.middle:.1f}V{end.box.y - 2:.1f}"
        words = (max(x, end.box.middle) + 8, turn + 4, "start")
    else:
        edge = canvas.width - 2 * MARGIN - CHANNEL / 2
        from_y, to_y = start.box.y + start.box.height / 2, end.box.y + end.box.height / 2
        path = (
            f"M{start.box.x + start.box.width:.1f} {from_y:.1f}H{edge:.1f}V{to_y:.1f}H{end.box.x + STEP_WIDTH + 2:.1f}"
        )
        words = (edge - 8, start.process_top - PROCESS_GAP / 2 + 4, "end")
    canvas.arrows.append(_path(path, "link"))
    if link.text:
        x, y, anchor = words
        canvas.words.append(
            f'<text class="flow" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(link.text)}</text>'
        )


def _path(points: str, kind: str = "follow") -> str:
    return f'<path class="{kind}" d="{points}" marker-end="url(#TIP)"/>'


def _draw_legend(canvas: _Canvas, top: float) -> float:
    """A swatch a kind of step in use; returns the drawing's height."""
    kinds = [kind for kind in KINDS if kind in canvas.kinds]
    columns = max(canvas.per_row // 2, 1)
    for place, kind in enumerate(kinds):
        x, y = MARGIN + (place % columns) * 260, top + (place // columns) * 22
        canvas.steps.append(_rectangle(f"step {kind}", _Box(x, y, 22, 14), 3))
        canvas.words.append(f'<text class="flow" x="{x + 30}" y="{y + 11.5:.1f}">{escape(KINDS[kind])}</text>')
    return top + -(-len(kinds) // columns) * 22 + 4

"""One next token, launch by launch: what the host launches and what the device runs, without a graph and with one.

Torch's profiler sees every launch and takes time for each, so that this is a picture and no latency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from firsttoken.approaches.base import Approach
from firsttoken.plan import EXPERIMENT_TOKENS, Plan, Record

TOKENS = EXPERIMENT_TOKENS["launches"]  # of the request; its last is the one that is shown
MARK = "firsttoken: token"
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")  # beginnings of names

Track = Literal["host", "device"]


class LaunchRow(Record, frozen=True, kw_only=True):
    """A call that launches, or what the device ran; times from the token's first launch."""

    approach: str
    track: Track
    name: str
    start_us: float
    duration_us: float


def measure_launches(
    approaches: Sequence[type[Approach]], model_dir: Path, plan: Plan, prompt: Sequence[int]
) -> list[LaunchRow]:
    """A request of each approach, in one process, under the profiler. On a CPU, where nothing is launched, no rows.

    Raises RuntimeError where the profiler saw no launch.
    """
    if plan.device == "cpu":
        return []
    from torch.profiler import ProfilerActivity, profile

    context = max(plan.max_context, len(prompt) + TOKENS)
    plan = msgspec.structs.replace(plan, prompt_lengths=(len(prompt),), new_tokens=TOKENS, max_context=context)
    rows: list[LaunchRow] = []
    for kind in approaches:
        with kind() as approach:
            approach.load(model_dir, plan)
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
                approach.generate(list(prompt), TOKENS, MarkingSink())
            rows += last_token(kind.name, profiler.events())
    return rows


class MarkingSink:
    """Leaves a mark in the profile at each token."""

    def push(self, token: int) -> None:
        from torch.profiler import record_function

        with record_function(MARK):
            pass

    def push_chunk(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.push(token)


def last_token(approach: str, events: Iterable[Any]) -> list[LaunchRow]:
    """The rows between the last two marks of a profile; `events` are torch's `FunctionEvent`s."""
    tracks = [(event, _track(event)) for event in events]
    marks_us = sorted(event.time_range.start for event, track in tracks if event.name == MARK and track == "host")
    begin_us, end_us = marks_us[-2:]
    found = [
        (event, track)
        for event, track in tracks
        if begin_us < event.time_range.start < end_us
        and (event.name.startswith(LAUNCHES) if track == "host" else event.name != MARK)
    ]
    first_us = min((event.time_range.start for event, track in found if track == "host"), default=None)
    if first_us is None:
        raise RuntimeError(f"launches: torch's profiler saw no launch of {approach}; does another profiler run?")
    rows = [
        LaunchRow(
            approach=approach,
            track=track,
            name=event.name,
            start_us=event.time_range.start - first_us,
            duration_us=event.time_range.elapsed_us(),
        )
        for event, track in found
    ]
    return sorted(rows, key=lambda row: (row.track, row.start_us))


def _track(event: Any) -> Track:
    return "device" if event.device_type.name == "CUDA" else "host"

"""Stamps are taken at the push, in order."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from firsttoken.measure.clocks import StampingSink


@given(st.lists(st.lists(st.integers(0, 50_000), max_size=4), max_size=8), st.integers(1, 12))
def test_a_sink_keeps_what_was_pushed_up_to_its_capacity(chunks: list[list[int]], capacity: int) -> None:
    sink = StampingSink(capacity)
    sink.push(1)
    sink.reset()
    started_ns = time.perf_counter_ns()
    for chunk in chunks:
        sink.push(chunk[0]) if len(chunk) == 1 else sink.push_chunk(chunk)
    pushed = [token for chunk in chunks for token in chunk]
    ids = [index for index, chunk in enumerate(filter(None, chunks)) for _ in chunk]
    kept = min(len(pushed), capacity)
    assert sink.count == len(pushed)
    assert sink.tokens[:kept].tolist() == pushed[:kept]
    assert sink.chunk_ids[:kept].tolist() == ids[:kept]
    latencies = sink.latencies_ns(started_ns)
    assert len(latencies) == kept and (latencies >= 0).all()
    assert latencies.sum() == (sink.times_ns[kept - 1] - started_ns if kept else 0)
    within = [now == before for now, before in zip(ids[1:kept], ids[: kept - 1], strict=True)]
    assert all(gap == 0 for gap, same in zip(latencies[1:], within, strict=True) if same)


def test_the_stamp_is_the_time_of_the_push() -> None:
    sink = StampingSink(2)
    before_ns = time.perf_counter_ns()
    sink.push(1)
    between_ns = time.perf_counter_ns()
    sink.push_chunk([2])
    after_ns = time.perf_counter_ns()
    assert before_ns <= sink.times_ns[0] <= between_ns <= sink.times_ns[1] <= after_ns

"""The raw samples of a run: one row a token, in columns allocated beforehand, written as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from firsttoken.files import atomic_path
from firsttoken.measure.clocks import StampingSink
from firsttoken.measure.workload import ScheduledRequest
from firsttoken.results import TokenTiming
from firsttoken.sample_schema import SAMPLES_SCHEMA, SPLIT_COLUMNS

_SPLIT = (*SPLIT_COLUMNS, "pool_hit")  # the fields of TokenTiming
_UNKNOWN = -1  # in the columns of the split; becomes null in the file


class SampleBuffer:
    """Room for `requests` x `new_tokens` rows; `add` fills those of one request, `write` writes those filled."""

    def __init__(self, requests: int, new_tokens: int) -> None:
        self.new_tokens = new_tokens
        self.requests = 0
        self.starts_ns: NDArray[np.int64] = np.zeros(requests, dtype=np.int64)
        self.ends_ns: NDArray[np.int64] = np.zeros(requests, dtype=np.int64)
        self._ids: NDArray[np.int32] = np.zeros((requests, 4), dtype=np.int32)  # request, order, length, prompt index
        self._latency_ns: NDArray[np.int64] = np.zeros((requests, new_tokens), dtype=np.int64)
        self._chunk_id: NDArray[np.int32] = np.zeros((requests, new_tokens), dtype=np.int32)
        self._split: NDArray[np.int64] = np.full((len(_SPLIT), requests, new_tokens), _UNKNOWN, dtype=np.int64)

    def add(self, item: ScheduledRequest, started_ns: int, sink: StampingSink, timings: Sequence[TokenTiming]) -> None:
        """Keep a complete request. Raises ValueError when the split has rows, but not one for each token."""
        if timings and len(timings) != self.new_tokens:
            raise ValueError(f"timings() gave {len(timings)} rows for {self.new_tokens} tokens; give one each, or none")
        row = self.requests
        self._ids[row] = (item.request, item.order, item.prompt.length, item.prompt.index)
        self.starts_ns[row] = started_ns
        self.ends_ns[row] = sink.times_ns[self.new_tokens - 1]
        self._latency_ns[row] = sink.latencies_ns(started_ns)
        self._chunk_id[row] = sink.chunk_ids
        for token, timing in enumerate(timings):
            for column, name in enumerate(_SPLIT):
                value = getattr(timing, name)
                if value is not None:
                    self._split[column, row, token] = value
        self.requests = row + 1

    def write(self, path: Path | str, approach: str, repeat: int, tainted: NDArray[np.bool_]) -> None:
        """Write the rows of all complete requests atomically; `tainted` is `[requests]`."""
        n, tokens = self.requests, self.new_tokens
        rows = n * tokens
        request, order, length, prompt_index = (np.repeat(column, tokens) for column in self._ids[:n].T)
        split = {
            name: _nullable(self._split[column, :n].reshape(-1), SAMPLES_SCHEMA.field(name).type)
            for column, name in enumerate(_SPLIT)
        }
        columns = {
            "approach": pa.array([approach] * rows, pa.string()),
            "repeat": np.full(rows, repeat, dtype=np.int32),
            "request": request,
            "order": order,
            "prompt_length": length,
            "prompt_index": prompt_index,
            "token_index": np.tile(np.arange(tokens, dtype=np.int32), n),
            "chunk_id": self._chunk_id[:n].reshape(-1),
            "latency_ns": self._latency_ns[:n].reshape(-1),
            "tainted": np.repeat(tainted, tokens),
            **split,
        }
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(columns, schema=SAMPLES_SCHEMA), temporary)


def _nullable(values: NDArray[np.signedinteger], kind: pa.DataType) -> pa.Array:
    array = values.astype(np.bool_) if pa.types.is_boolean(kind) else values
    return pa.array(array, kind, mask=values == _UNKNOWN)

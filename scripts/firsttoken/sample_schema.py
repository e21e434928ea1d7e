"""The columns of a run's samples, `results/{study}/raw/{approach}/{repeat}.parquet`: one row a token."""

from __future__ import annotations

import pyarrow as pa

SPLIT_COLUMNS = ("device_ns", "ipc_ns", "queue_ns", "lookup_ns", "launch_ns", "sampling_ns")

SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("approach", pa.string(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("request", pa.int32(), nullable=False),
        pa.field("order", pa.int32(), nullable=False),
        pa.field("prompt_length", pa.int32(), nullable=False),
        pa.field("prompt_index", pa.int32(), nullable=False),
        pa.field("token_index", pa.int32(), nullable=False),
        pa.field("chunk_id", pa.int32(), nullable=False),
        pa.field("latency_ns", pa.int64(), nullable=False),
        pa.field("tainted", pa.bool_(), nullable=False),
        *(pa.field(name, pa.int64()) for name in SPLIT_COLUMNS),
        pa.field("pool_hit", pa.bool_()),
    ]
)

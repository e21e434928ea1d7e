"""Approaches that answer at once, and in every wrong way that the harness must survive."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from safetensors.numpy import save_file

from firsttoken.approaches.base import Approach, TokenSink
from firsttoken.measure.run_request import RunOutputs, RunRequest
from firsttoken.measure.sampler import GpuProcess, GpuReading, Readings, Sample, SamplerStart
from firsttoken.plan import Device, Plan, Prompt, Prompts
from firsttoken.results import Facts, SetupTimes, TokenTiming

LENGTHS = (3, 5)
NEW_TOKENS = 4


class Constant(Approach):
    """Pushes the prompt's first token, then its length, and so on: the answer depends on the prompt alone."""

    name = "constant"
    title = "Constant tokens"

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.closed = 0

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        return SetupTimes(load_s=0.001)

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        self.calls.append(tuple(prompt_ids))
        for index in range(max_new_tokens):
            sink.push(prompt_ids[0] + index)

    def counters(self) -> dict[str, float]:
        return {"requests": float(len(self.calls)), "captures": 2.0}

    def facts(self) -> Facts:
        return Facts(attention="none", tf32="off", compile_cache="cold", spin_us=7)

    def close(self) -> None:
        self.closed += 1


class Split(Constant):
    """Tells how each token's latency splits."""

    timing: ClassVar[TokenTiming] = TokenTiming(device_ns=7, ipc_ns=0, pool_hit=True)

    def timings(self) -> Sequence[TokenTiming]:
        return [self.timing, *[TokenTiming(pool_hit=False)] * (NEW_TOKENS - 1)]


class WithLogits(Constant):
    """Writes logits whose every row is the token that it predicts."""

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        rows = np.tile(np.asarray(continuation_ids, dtype=np.float32)[:, None], (1, 9))
        save_file({"logits": rows}, path)
        return True


def make_request(tmp_path: Path, requests_per_length: int = 6, **changes: object) -> RunRequest:
    """A run of two lengths with two prompts each; prompt `i` of length L starts with token 100 L + i."""
    prompts = Prompts(
        seed=1,
        corpus_sha256="",
        tokenizer_sha256="",
        prompts=tuple(
            Prompt(index=index, length=length, offset=0, token_ids=(100 * length + index, *[1] * (length - 1)))
            for length in LENGTHS
            for index in range(2)
        ),
    )
    plan = Plan(
        prompt_lengths=LENGTHS,
        new_tokens=NEW_TOKENS,
        max_context=max(LENGTHS) + NEW_TOKENS,
        dtype="float32",
        device="cpu",
    )
    values: dict[str, object] = {
        "approach": "constant",
        "repeat": 1,
        "model_dir": str(tmp_path),
        "plan": plan,
        "prompts": prompts,
        "requests_per_length": requests_per_length,
    }
    return RunRequest(**(values | changes))  # type: ignore[arg-type]


def make_outputs(tmp_path: Path) -> RunOutputs:
    """Where a run of a test writes."""
    run = f"{tmp_path}/raw/1"
    return RunOutputs(
        samples=f"{run}.parquet", record=f"{run}.json", tokens=f"{run}.tokens.json", logits=f"{run}.logits"
    )


class QuietTelemetry:
    """A machine on which nothing happens, however busy the one under the test is."""

    starting_ns = 0

    def __init__(self, device: Device, gpu_uuid: str | None = None) -> None:
        self.start = SamplerStart(source="cpu", cores=2, interval_s=0.1)
        self.told: list[str] = []

    def measuring(self) -> None:
        self.told.append("measuring")

    def stop(self) -> Readings:
        return Readings(self.start, (sample(time.perf_counter()),))  # until the end, else what ran since is tainted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.told.append("closed")


def sample(seconds: float, busy_s: float = 0.0, tree_s: float = 0.0, gpu: GpuReading | None = None) -> Sample:
    """A sample at a time in seconds."""
    return Sample(t_ns=round(seconds * 1e9), cpu_busy_s=busy_s, tree_cpu_s=tree_s, gpu=gpu)


def gpu_reading(**changes: object) -> GpuReading:
    """A busy, cool, unthrottled GPU that only we use."""
    values: dict[str, object] = {
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 3201,
        "temperature_c": 40,
        "power_w": 400.0,
        "energy_j": 1000.0,
        "reasons": 0,
        "utilization": 0.9,
        "used_bytes": 20 << 30,
        "processes": (GpuProcess(pid=7, bytes=15 << 30, own=True),),
    }
    return GpuReading(**(values | changes))  # type: ignore[arg-type]


GPU_START = SamplerStart(source="nvml", cores=16, interval_s=0.1, gpu_name="NVIDIA H200", reference_clock_mhz=1980.0)

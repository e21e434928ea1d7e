"""Studies with known effects: a seeded generator of what measuring leaves behind, for tests of what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from firsttoken import files
from firsttoken.analysis.equality_positions import compare_with_reference
from firsttoken.analysis.equivalence import check_equivalence
from firsttoken.analysis.latency_tables import summarise_latency
from firsttoken.analysis.study_tables import StudyTables
from firsttoken.plan import Device, ModelManifest
from firsttoken.pooled_runs import RAN, pool_runs
from firsttoken.results import (
    Availability,
    Ceilings,
    Environment,
    Floor,
    Gpu,
    MemoryRecord,
    PromptTokens,
    RunRecord,
    Status,
    TelemetrySummary,
    TokenSequence,
    TokensRecord,
)
from firsttoken.sample_schema import SAMPLES_SCHEMA

BOUNDS = Path(__file__).resolve().parents[1] / "config" / "equality_bounds.csv"
VOCABULARY = 32
NEW_TOKENS = 4
NEAR_TIE = 2e-6  # nats: less than what the gate allows in float32
ORDER = ["baseline", "cuda_graph", "jit_only", "jit_cuda", "tensorrt_llm", "compiled_graph", "eager_loop"]
CONTROLS = ["eager_loop", "cuda_graph_1p", "jit_cuda_1p", "static_compile", "tensorrt_llm_nograph"]
H200 = Gpu(name="NVIDIA H200", uuid="GPU-1", memory_bytes=141 * 2**30, compute_capability="9.0")

MANIFEST = ModelManifest(
    name="tiny-llama", source="synthetic", origin="synthetic: llama, seed 1", revision="", weights="random",
    architecture="LlamaForCausalLM", parameters=1, weight_bytes=1, read_bytes_per_token=1, kv_bytes_per_token=1,
    flops_per_token=1, max_context=1, vocab_size=1, files=(),
)  # fmt: skip

Table = Any  # a pandas table: its stubs give every cell all of pandas' scalar types


@dataclass(frozen=True)
class Known:
    """What is true of one approach: medians of its first token and gap in ms, and how they spread."""

    ttft_ms: float = 20.0
    itl_ms: float = 5.0
    per_token_ms: float = 0.02  # TTFT grows by this with each prompt token
    process_sd: float = 0.01  # of the log, between processes
    request_sd: float = 0.05  # of the log, within a process
    memory_gib: float = 14.0
    processes: int = 1
    status: Status = "measured"
    reason: str = ""
    wrong_by: float = 0.0  # >0: its third token is one that the reference's logits put about this far below
    tainted: float = 0.0  # share of requests
    dynamic_us: float | None = None  # of the dynamic operations of a later token; the first token's take ten times that
    logit_error: float | None = 3e-7  # in turn added to and taken from the logits of the vocabulary
    record: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Where a made study lies."""

    root: Path

    @property
    def samples(self) -> Path:
        return self.root / "samples.parquet"

    @property
    def records(self) -> Path:
        return self.root / "records.parquet"

    def table(self, name: str) -> Path:
        return self.root / "tables" / f"{name}.csv"

    def raw(self, pattern: str) -> list[Path]:
        return sorted((self.root / "raw").glob(f"*/{pattern}"))

    def tables(self) -> StudyTables:
        """What the rule `write_tables` reads."""
        files.write_json(self.root / "model.json", MANIFEST)
        tables = ("summary", "latency_by_length", "process_statistics", "instrument")
        found = {name: self.root / f"{name}.json" for name in ("environment", "ceilings")}
        found |= {"samples": self.samples, "records": self.records, "manifest": self.root / "model.json"}
        return StudyTables.read(found | {name: self.table(name) for name in tables})

    @property
    def record_files(self) -> list[Path]:
        return [path for path in self.raw("*.json") if not path.name.endswith(".tokens.json")]


def make_study(
    root: Path,
    approaches: Mapping[str, Known],
    lengths: Sequence[int] = (10, 100),
    requests: int = 80,
    repeats: int = 5,
    seed: int = 1,
    gpu: Gpu | None = H200,
    floor_ttft_ms: float = 4.0,
    floor_itl_ms: float = 3.0,
) -> Study:
    """Write raw files, ceilings, environment and reference of a study, as the harness would have left them."""
    rng = np.random.default_rng(seed)
    study = Study(root)
    _reference(study, lengths, rng)
    floors = tuple(
        Floor(
            prompt_length=n,
            ttft_ms=floor_ttft_ms,
            ttft_bound="bandwidth",
            itl_ms=floor_itl_ms,
            itl_bound="bandwidth",
            library_ttft_ms=1.5 * floor_ttft_ms,
        )
        for n in lengths
    )
    device: Device = "cuda" if gpu else "cpu"
    files.write_json(
        root / "ceilings.json",
        Ceilings(
            device=device,
            dtype="float32",
            read_bandwidth_bytes_per_s=4e12,
            read_bandwidth_samples=(4e12,),
            matrix_flops_per_s=6e14,
            matrix_flops_samples=(6e14,),
            last_level_cache_bytes=2**25,
            weights_fit_in_cache=False,
            floors=floors,
        ),
    )
    files.write_json(root / "environment.json", environment(approaches, gpu))
    for name, known in approaches.items():
        for repeat in range(1, repeats + 1):
            _run(study, name, known, repeat, lengths, requests, device, rng)
    return study


def environment(approaches: Mapping[str, Known], gpu: Gpu | None) -> Environment:
    return Environment(
        fingerprint="f1",
        device="cuda" if gpu else "cpu",
        gpu=gpu,
        driver="570.1" if gpu else "",
        cuda="12.8" if gpu else "",
        cpu="Test CPU",
        cores=2,
        threads=2,
        memory_bytes=2**34,
        os="Linux",
        python="3.11.7",
        packages={"torch": "2.13.0"},
        deployment="none",
        approaches={name: Availability(status=known.status, reason=known.reason) for name, known in approaches.items()},
        git_commit="0" * 40,
        git_dirty=False,
        recorded_at="2026-01-01T00:00:00Z",
    )


def analyse(study: Study, order: Sequence[str] = ORDER) -> Study:
    """Everything up to the summary, through the same functions as the rules."""
    pool(study)
    compare(study)
    summarise_latency(
        study.samples,
        study.records,
        study.table("equivalence"),
        study.root / "ceilings.json",
        {"baseline": [Path(__file__)]},
        order,
        CONTROLS,
        study.table("summary"),
        study.table("latency_by_length"),
        study.table("process_statistics"),
        study.table("instrument"),
    )
    return study


def pool(study: Study) -> Study:
    """samples.parquet and records.parquet."""
    records = study.record_files
    samples, tokens = ([path.with_suffix(suffix) for path in records] for suffix in (".parquet", ".tokens.json"))
    pool_runs(samples, records, tokens, study.samples, study.records)
    return study


def compare(study: Study, dtype: str = "float32", sampling: str = "greedy") -> Study:
    """equality_positions.csv and equivalence.csv."""
    positions = study.table("equality_positions")
    compare_with_reference(study.records, study.raw("*.logits"), study.root / "reference.safetensors", positions)
    check_equivalence(positions, study.records, BOUNDS, dtype, sampling, study.table("equivalence"))
    return study


def _reference(study: Study, lengths: Sequence[int], rng: np.random.Generator) -> None:
    """Logits whose best token leads by 2, followed by tokens NEAR_TIE and 1 below it at position 2 of prompt 0."""
    tensors: dict[str, np.ndarray] = {}
    for length in lengths:
        for index in range(2):
            logits = rng.uniform(-3, -2, (NEW_TOKENS, VOCABULARY)).astype(np.float32)
            tokens = rng.integers(0, VOCABULARY - 2, NEW_TOKENS)
            logits[np.arange(NEW_TOKENS), tokens] = 0.0
            if index == 0:
                logits[2, VOCABULARY - 2], logits[2, VOCABULARY - 1] = -NEAR_TIE, -1.0
            tensors[f"tokens/{length}/{index}"] = tokens.astype(np.int64)
            best = np.argsort(-logits, axis=1)[:, :8]
            tensors[f"top_tokens/{length}/{index}"] = best.astype(np.int64)
            tensors[f"top_logits/{length}/{index}"] = np.take_along_axis(logits, best, axis=1)
            tensors[f"spread/{length}/{index}"] = logits.astype(np.float64).std(axis=1)
            tensors[f"logits/{length}/{index}"] = logits
    study.root.mkdir(parents=True, exist_ok=True)
    save_file(tensors, study.root / "reference.safetensors", metadata={"layers": "2"})


def _run(
    study: Study,
    name: str,
    known: Known,
    repeat: int,
    lengths: Sequence[int],
    requests: int,
    device: str,
    rng: np.random.Generator,
) -> None:
    folder = study.root / "raw" / name
    folder.mkdir(parents=True, exist_ok=True)
    ran = known.status in RAN
    frame = _samples(name, known, repeat, lengths, requests if ran else 0, rng)
    pq.write_table(pa.Table.from_pandas(frame, SAMPLES_SCHEMA), folder / f"{repeat}.parquet")
    gib = int(known.memory_gib * 2**30)
    fields: dict[str, object] = {
        "approach": name,
        "title": name.replace("_", " ").capitalize(),
        "repeat": repeat,
        "status": known.status,
        "reason": known.reason,
        "device": device,
        "dtype": "float32",
        "processes": known.processes,
        "requests": requests * len(lengths) if ran else 0,
        "ready_s": 3.0 if ran else None,
        "cold_ttft_ms": 4000.0 if ran else None,
        "memory": MemoryRecord(device_over_idle_bytes=gib if device == "cuda" else None, host_peak_bytes=gib)
        if ran
        else MemoryRecord(),
        "telemetry": TelemetrySummary(source="nvml", energy_j_per_token=1.5)
        if ran
        else TelemetrySummary(source="none"),
        "model_hash": "m1",
        "code_sha256": f"code-{name}",
        "fingerprint": "f1",
        "versions": {"torch": "2.13.0"},
        "order_seed": repeat,
        "started_at": f"2026-01-01T00:{repeat:02}:00+00:00",
    }
    files.write_json(folder / f"{repeat}.json", RunRecord(**(fields | dict(known.record))))  # type: ignore[arg-type]
    files.write_json(folder / f"{repeat}.tokens.json", _tokens(study, name, known, repeat, lengths, ran))


def _samples(
    name: str, known: Known, repeat: int, lengths: Sequence[int], requests: int, rng: np.random.Generator
) -> pd.DataFrame:
    """One row a token; request numbers run over all prompt lengths in a shuffled order."""
    n = requests * len(lengths)
    length = rng.permutation(np.repeat(np.asarray(lengths, np.int32), requests))
    process = np.exp(rng.normal(0, known.process_sd))
    ttft = (known.ttft_ms + known.per_token_ms * length) * process * np.exp(rng.normal(0, known.request_sd, n))
    gaps = known.itl_ms * process * np.exp(rng.normal(0, known.request_sd, (n, NEW_TOKENS - 1)))
    latency = np.column_stack([ttft, gaps]).ravel() * 1e6
    request = np.repeat(np.arange(n, dtype=np.int32), NEW_TOKENS)
    columns: dict[str, object] = {
        "approach": np.repeat(name, n * NEW_TOKENS),
        "repeat": np.full(n * NEW_TOKENS, repeat, np.int32),
        "request": request,
        "order": request,
        "prompt_length": np.repeat(length, NEW_TOKENS),
        "prompt_index": request % 16,
        "token_index": np.tile(np.arange(NEW_TOKENS, dtype=np.int32), n),
        "chunk_id": np.tile(np.arange(NEW_TOKENS, dtype=np.int32), n),
        "latency_ns": latency.astype(np.int64),
        "tainted": np.repeat(rng.random(n) < known.tainted, NEW_TOKENS),
    }
    if known.dynamic_us is not None:
        first = np.tile(np.arange(NEW_TOKENS) == 0, n)
        columns["sampling_ns"] = (known.dynamic_us * np.where(first, 1e4, 1e3) * process).astype(np.int64)
    return pd.DataFrame(columns).reindex(columns=SAMPLES_SCHEMA.names)


def _tokens(study: Study, name: str, known: Known, repeat: int, lengths: Sequence[int], ran: bool) -> TokensRecord:
    from firsttoken.analysis.equality_positions import Reference

    reference = Reference(study.root / "reference.safetensors")
    prompts = []
    for length in lengths if ran else []:
        for index in range(2):
            tokens = list(reference.tokens((length, index)))
            if index == 0 and known.wrong_by:
                tokens[2] = VOCABULARY - 1 if known.wrong_by >= 1 else VOCABULARY - 2
            logits_file = None
            if known.logit_error is not None and repeat == 1:
                logits_file = f"{length}-{index}.safetensors"
                folder = study.root / "raw" / name / f"{repeat}.logits"
                folder.mkdir(exist_ok=True)
                sign = np.where(np.arange(VOCABULARY) % 2, 1, -1).astype(np.float32)
                logits = reference.logits((length, index)) + sign * np.float32(known.logit_error)
                save_file({"logits": logits}, folder / logits_file)
            prompts.append(
                PromptTokens(
                    prompt_length=length,
                    prompt_index=index,
                    answers=(TokenSequence(tokens=tuple(tokens), requests=5),),
                    logits_file=logits_file,
                )
            )
    reason = "" if known.logit_error is not None else "this approach does not offer logits"
    return TokensRecord(approach=name, repeat=repeat, logits_reason=reason, prompts=tuple(prompts))


def slow_down(samples: Path, prompt_length: int) -> None:
    """Double every TTFT at one prompt length in one process."""
    frame = pd.read_parquet(samples)
    frame.loc[(frame["token_index"] == 0) & (frame["prompt_length"] == prompt_length), "latency_ns"] *= 2
    pq.write_table(pa.Table.from_pandas(frame, SAMPLES_SCHEMA), samples)

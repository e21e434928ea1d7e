"""A small study's result files from a seed, with any statuses: what figures, pages and the report are tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from firsttoken import csv_tables
from firsttoken.analysis import schemas
from firsttoken.analysis.figures.base import FigureInputs
from firsttoken.experiment_tables import EXPERIMENTS
from firsttoken.files import write_json, write_text
from firsttoken.plan import ModelManifest
from firsttoken.pooled_runs import RECORDS_SCHEMA, read_records, write_pooled
from firsttoken.report.documents import PageInputs
from firsttoken.results import Availability, Environment, Gpu, MemoryRecord, RunRecord, SetupTimes, Status

ROOT = Path(__file__).resolve().parents[2]
ORDER = ["baseline", "cuda_graph", "jit_only", "jit_cuda", "tensorrt_llm"]
EMBEDDED = dict(zip(ORDER, ["measured", "emulated", "measured", "emulated", "unavailable"], strict=True))
ON_A_GPU = dict.fromkeys([*ORDER, "compiled_graph"], "measured")
FACTORS = {
    "baseline": 1.0,
    "cuda_graph": 0.7,
    "jit_only": 0.93,
    "jit_cuda": 0.55,
    "tensorrt_llm": 0.6,
    "compiled_graph": 0.4,
}
MANIFEST = ModelManifest(
    name="tiny-llama", source="synthetic", origin="synthetic: llama, seed 1", revision="", weights="random",
    architecture="LlamaForCausalLM", parameters=3_400_000, weight_bytes=13_600_000, read_bytes_per_token=12_000_000,
    kv_bytes_per_token=2048, flops_per_token=6_000_000, max_context=512, vocab_size=2048, files=(),
)  # fmt: skip
ANSWER = ("The <first> sentence.", "The second.", "The third.")
METRICS = ("ttft", "itl_token_gap", "itl_request_mean")
STATISTICS = ("mean", "median", "p90", "p95", "p99")


@dataclass(frozen=True)
class StudyFiles:
    """Where the files are."""

    order: list[str]
    summary: Path
    latency: Path
    samples: Path
    claims: Path
    pool: Path
    misses: Path
    launches: Path
    answer: Path
    records: Path
    environment: Path
    manifest: Path

    def figure_inputs(self, figure: str) -> FigureInputs:
        """What the rule `plot` hands over for this figure."""
        files = {
            "ttft_by_length": [self.latency], "speedup": [self.latency], "latency_ecdf": [self.samples],
            "token_time": [self.samples], "run_order": [self.samples], "setup_time": [self.records],
            "memory": [self.records], "break_even": [], "pool_memory": [self.pool], "pool_misses": [self.misses],
            "launches": [self.launches],
        }  # fmt: skip
        return FigureInputs(files=files[figure], summary=self.summary, order=self.order, new_tokens=4)

    def page_inputs(self) -> PageInputs:
        """What the rule `render_approach_pages` hands over."""
        return PageInputs(
            templates=ROOT / "report/approaches",
            assets=ROOT / "report/assets",
            package=ROOT / "scripts/firsttoken",
            summary_csv=self.summary,
            latency_csv=self.latency,
            claims_csv=self.claims,
            answer_txt=self.answer,
            study="toy",
            records=read_records(self.records),
        )


def make_study(
    folder: Path,
    statuses: dict[str, str] | None = None,
    *,
    lengths: tuple[int, ...] = (10, 50, 100),
    repeats: int = 5,
    requests: int = 20,
    new_tokens: int = 4,
    seed: int = 1,
) -> StudyFiles:
    """Write the files of a study under `folder`; fewer than 5 repeats give no intervals."""
    statuses = EMBEDDED if statuses is None else statuses
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    gpu = all(status != "emulated" for status in statuses.values())
    shown = [name for name, status in statuses.items() if status in ("measured", "emulated")]
    samples = pd.concat(
        [_samples(rng, name, lengths, repeats, requests, new_tokens) for name in shown] or [_no_samples()]
    )
    files = StudyFiles(
        order=list(statuses),
        summary=folder / "tables/summary.csv",
        latency=folder / "tables/latency_by_length.csv",
        samples=folder / "samples.parquet",
        claims=folder / "tables/claims.csv",
        pool=folder / "pool_memory.csv",
        misses=folder / "pool_misses.csv",
        launches=folder / "launches.csv",
        answer=folder / "tables/answer.txt",
        records=folder / "records.parquet",
        environment=folder / "environment.json",
        manifest=folder / "model.json",
    )
    write_json(files.environment, _environment(statuses, gpu))
    write_json(files.manifest, MANIFEST)
    write_text(files.answer, "a table\n\n" + "\n".join(ANSWER) + "\n")
    files.summary.parent.mkdir(parents=True, exist_ok=True)
    samples.to_parquet(files.samples, index=False)
    latency = _latency(samples, statuses, repeats)
    _write(latency, "latency_by_length", files.latency)
    _write(_summary(latency, statuses, repeats), "summary", files.summary)
    _write(_claims(), "claims", files.claims)
    _write(_pool(gpu), "pool_memory", files.pool)
    _write(_misses(rng), "pool_misses", files.misses)
    _write(_launches(gpu), "launches", files.launches)
    records = [
        _record(rng, name, repeat, msgspec.convert(status, Status), gpu)
        for name, status in statuses.items()
        for repeat in range(1, repeats + 1)
    ]
    rows = [
        dict.fromkeys(RECORDS_SCHEMA.names, "")
        | {"approach": run.approach, "repeat": run.repeat, "record_json": msgspec.json.encode(run).decode()}
        for run in records
    ]
    write_pooled(pa.Table.from_pylist(rows, schema=RECORDS_SCHEMA), files.records)
    return files


def _write(frame: pd.DataFrame, name: str, path: Path) -> None:
    """Fill what this module leaves out with empty cells or zeros, and write with the study's own check."""
    columns = (schemas.TABLES | EXPERIMENTS)[name]
    frame = frame.reindex(columns=list(columns))
    for column, kind in columns.items():
        if str(kind.dtype).startswith("str"):
            frame[column] = frame[column].astype(object).fillna("")
        elif str(kind.dtype).startswith("int"):
            frame[column] = frame[column].fillna(0)
    csv_tables.write_table(frame, name, columns, path)


def _no_samples() -> pd.DataFrame:
    return _samples(np.random.default_rng(1), "none", (10,), 1, 1, 2).iloc[:0]


def _samples(
    rng: np.random.Generator, name: str, lengths: tuple[int, ...], repeats: int, requests: int, new_tokens: int
) -> pd.DataFrame:
    rows = []
    for repeat in range(1, repeats + 1):
        process = FACTORS.get(name, 0.8) * rng.lognormal(0, 0.03)
        order = rng.permutation(len(lengths) * requests)
        for request, place in enumerate(order):
            length = lengths[request // requests]
            for token in range(new_tokens):
                base_ms = 4 + 0.05 * length if token == 0 else 3
                total = int(1e6 * process * base_ms * rng.lognormal(0, 0.12))
                two = name in ("cuda_graph", "jit_cuda", "compiled_graph")
                rows.append(
                    {
                        "approach": name, "repeat": repeat, "request": request, "order": int(place),
                        "prompt_length": length, "prompt_index": request % 4, "token_index": token, "chunk_id": token,
                        "latency_ns": total, "tainted": bool(rng.random() < 0.01),
                        "device_ns": int(0.6 * total) if name != "baseline" else None,
                        "ipc_ns": 60_000 if two else None, "queue_ns": 20_000 if two else None,
                        "lookup_ns": 4_000 if two else None,
                        "launch_ns": int(0.15 * total) if name != "baseline" else None,
                        "sampling_ns": int(0.08 * total) if name != "baseline" else None,
                        "pool_hit": True if two else None,
                    }
                )  # fmt: skip
    nullable = ("device_ns", "ipc_ns", "queue_ns", "lookup_ns", "launch_ns", "sampling_ns")
    return pd.DataFrame(rows).astype(dict.fromkeys(nullable, "Int64") | {"pool_hit": "boolean"})


def _latency(samples: pd.DataFrame, statuses: dict[str, str], repeats: int) -> pd.DataFrame:
    rows = []
    few = repeats < 5
    for (name, length), part in samples.groupby(["approach", "prompt_length"], sort=False):
        first = part.loc[part["token_index"] == 0, "latency_ns"] / 1e6
        gaps = part.loc[part["token_index"] > 0, "latency_ns"] / 1e6
        row = {
            "approach": name, "title": str(name).title(), "status": statuses[str(name)], "prompt_length": length,
            "n_processes": repeats, "n_requests": len(first), "n_gaps": len(gaps),
            "n_tainted": int(part["tainted"].sum()), "floor_ttft_ms": 0.5 + 0.01 * int(str(length)),
            "floor_itl_ms": 0.5, "library_ttft_ms": 0.8,
            "ttft_share_of_floor": 0.3, "itl_share_of_floor": 0.2,
        }  # fmt: skip
        for metric in METRICS:
            values = first if metric == "ttft" else gaps
            for statistic in STATISTICS:
                value = values.mean() if statistic == "mean" else values.quantile(_share(statistic))
                row |= _with_interval(f"{metric}_{statistic}", float(value), few)
        rows.append(row)
    table = pd.DataFrame(rows)
    if table.empty:
        return pd.DataFrame(columns=["approach"])
    base = table[table["approach"] == "baseline"].set_index("prompt_length")["ttft_mean_ms"]
    ratio = table["prompt_length"].map(base) / table["ttft_mean_ms"]
    spread = np.nan if few else 0.05
    return table.assign(
        speedup_ttft=ratio, speedup_ttft_low=ratio * (1 - spread), speedup_ttft_high=ratio * (1 + spread)
    )


def _share(statistic: str) -> float:
    return 0.5 if statistic == "median" else int(statistic[1:]) / 100


def _with_interval(name: str, value: float, few: bool) -> dict[str, object]:
    return {
        f"{name}_ms": value,
        f"{name}_low_ms": None if few else 0.96 * value,
        f"{name}_high_ms": None if few else 1.05 * value,
        f"{name}_note": "too few processes" if few else "",
    }


def _summary(latency: pd.DataFrame, statuses: dict[str, str], repeats: int) -> pd.DataFrame:
    rows = []
    for name, status in statuses.items():
        part = latency[latency["approach"] == name]
        row: dict[str, object] = {
            "approach": name, "title": name.title(), "status": status,
            "reason": "" if status == "measured" else f"the reason why {name} is {status}", "control": False,
            "processes": 2 if name in ("cuda_graph", "jit_cuda") else 1,
        }  # fmt: skip
        if len(part):
            for column in ("ttft_mean", "ttft_p99", "itl_request_mean"):
                source = column if column != "itl_request_mean" else "itl_request_mean_mean"
                row |= {f"{column}{end}": part[f"{source}{end}"].mean() for end in ("_ms", "_low_ms", "_high_ms")}
            row |= {
                "itl_p99_ms": part["itl_token_gap_p99_ms"].mean(),
                "floor_ttft_ms": part["floor_ttft_ms"].mean(),
                "floor_itl_ms": part["floor_itl_ms"].mean(),
                "library_ttft_ms": part["library_ttft_ms"].mean(),
                "ttft_share_of_floor": 0.3,
                "itl_share_of_floor": 0.2,
                "device_allocated_gib": None,
                "host_peak_gib": 0.8,
            }
            row |= {f"speedup_ttft{end}": part[f"speedup_ttft{end}"].mean() for end in ("", "_low", "_high")}
            row |= {"source_lines": 210, "ready_s": 2.0 + 4 * (name.startswith("jit")), "cold_ttft_ms": 2100.0}
            row |= {
                "n_processes": repeats,
                "n_requests": int(part["n_requests"].sum()),
                "equivalence": "equal",
            }
            row |= {"n_tainted": int(part["n_tainted"].sum())}
        else:
            row["equivalence"] = "not checked"
        doubts = "drift over the repeats (TTFT)" if name == "baseline" else ""
        remarks = "7 of 90 requests tainted (another compute process on the GPU)" if name == "jit_cuda" else ""
        rows.append(row | {"remarks": remarks, "doubts": doubts, "p99_doubts": ""})
    return pd.DataFrame(rows)


def _claims() -> pd.DataFrame:
    """A row a reading: the first claim has two."""
    derived, broken, insight = "follows from its source", "contradicts its own source", "key insight"
    first = ("speedup", "jit_cuda is 4.48 times as fast", f"{insight} 1", 4.48, "not shown here")
    rows = [
        (*first, "mean TTFT", "refuted", 1.9, broken),
        (*first, "P99 <of> TTFT", "reproduced", 4.7, broken),
        ("graphs", "Graphs alone are slower", f"{insight} 2", 4.35, "refuted", "mean TTFT", "refuted", 0.5, derived),
        (
            "less",
            "66.0 % lower",
            "abstract",
            2.94,
            "not testable here",
            "mean TTFT",
            "not testable here",
            None,
            derived,
        ),
    ]
    columns = ["id", "claim", "source", "published_value", "verdict", "reading", "reading_verdict", "measured_value"]
    table = pd.DataFrame(rows, columns=[*columns, "verdict_from_source"])
    low, high = table["measured_value"] * 0.9, table["measured_value"] * 1.1
    return table.assign(
        measured_value_low=low, measured_value_high=high, sentence="One sentence about it.", publication="A paper",
        claimed_for="its conditions", other_conditions="GPU X (source: Y)",
    )  # fmt: skip


def _launches(gpu: bool) -> pd.DataFrame:
    """Twenty kernels of 5 us, launched every 12 us, or by one replay; on a CPU nothing is launched."""
    rows = []
    for index in range(20 if gpu else 0):
        rows.append(("eager_loop", "host", "cudaLaunchKernel", 12.0 * index, 4.0))
        rows.append(("eager_loop", "device", "kernel", 12.0 * index + 6, 5.0))
        rows.append(("cuda_graph_1p", "device", "kernel", 8.0 + 5 * index, 5.0))
    rows += [("cuda_graph_1p", "host", "cudaGraphLaunch", 0.0, 7.0)] if gpu else []
    return pd.DataFrame(rows, columns=list(EXPERIMENTS["launches"]))


def _misses(rng: np.random.Generator) -> pd.DataFrame:
    typical_ms = {"miss": 9.0, "after_capture": 3.0, "beforehand": 2.9}
    rows = [
        {"kind": kind, "prompt_length": 17 + request, "request": request, "ttft_ms": ms * rng.lognormal(0, 0.1)}
        for kind, ms in typical_ms.items()
        for request in range(10)
    ]
    return pd.DataFrame(rows)


def _pool(gpu: bool) -> pd.DataFrame:
    steps = np.arange(1, 41)
    frames = []
    for mode in ("rolling", "unbounded"):
        held = np.minimum(steps, 8) if mode == "rolling" else steps
        graph = held * 60 * 2**20
        device = graph + 14 * 2**30 if gpu else None
        host = np.full(len(steps), 900 * 2**20) + held * 2**18
        frames.append(
            pd.DataFrame(
                {
                    "mode": mode, "step": steps, "prompt_length": steps * 3 + 5, "device_reserved_bytes": device,
                    "graph_bytes": graph if gpu else None, "host_bytes": host,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _record(rng: np.random.Generator, name: str, repeat: int, status: Status, gpu: bool) -> RunRecord:
    if status in ("unavailable", "failed"):
        return RunRecord(
            approach=name, title=name, repeat=repeat, status=status, reason="why", device="cpu", dtype="float32"
        )
    compile_s = 3.0 if name.startswith("jit") or name == "compiled_graph" else 0.0
    capture_s = 0.8 if "cuda" in name else 0.0
    setup = SetupTimes(
        imports_s=1.2 + rng.random() / 5, load_s=0.4, compile_s=compile_s, capture_s=capture_s, warm_up_s=0.3
    )
    ready_s = setup.imports_s + setup.load_s + compile_s + capture_s + 0.35
    memory = MemoryRecord(
        device_allocated_bytes=int(13.4 * 2**30) if gpu else None,
        device_reserved_bytes=int(14.1 * 2**30) if gpu else None,
        graph_bytes=2**30 if gpu and "cuda" in name else None,
        host_peak_bytes=int((0.7 + rng.random() / 10) * 2**30),
    )
    return RunRecord(
        approach=name, title=name, repeat=repeat, status=status, device="cuda" if gpu else "cpu", dtype="float32",
        setup=setup, ready_s=ready_s, cold_ttft_ms=1e3 * ready_s + 30, memory=memory,
        gpu_uuid="GPU-1" if gpu else "", compile_cache="cached" if compile_s and repeat > 1 else "none",
    )  # fmt: skip


def _environment(statuses: dict[str, str], gpu: bool) -> Environment:
    found = Gpu(name="NVIDIA H200", uuid="GPU-1", memory_bytes=140 * 2**30, compute_capability="9.0") if gpu else None
    return Environment(
        fingerprint="f", device="cuda" if gpu else "cpu", gpu=found,
        driver="575.1" if gpu else "", cuda="13.0" if gpu else "",
        cpu="A CPU with <angles> & *stars*", cores=2, threads=2, memory_bytes=8 * 2**30, os="Linux", python="3.11.7",
        environments={"vllm": {"python": "3.12.3", "vllm": "0.24.0"}},
        packages={"torch": "2.13.0", "transformers": "5.23.0"}, deployment="", git_commit="0" * 40, git_dirty=False,
        approaches={name: Availability(status=msgspec.convert(status, Status)) for name, status in statuses.items()},
        recorded_at="2026-01-01T00:00:00Z",
    )  # fmt: skip

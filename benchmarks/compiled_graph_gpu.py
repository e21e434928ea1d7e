"""Which way of compiling `compiled_graph` is fastest on this GPU: one table, from a model made of random weights.

    python benchmarks/compiled_graph_gpu.py --out DIR [--budget-s 340] [--variants "triton;regional"] [--kernels]

Writes to DIR: `results.jsonl` (a line a variant, at once when it is done, errors included), `table.txt`,
`kernels_*.txt` (the kernels of the fastest variant by device time), `generated/` (its compiled code) and, for
`--kernels`, `kernels_tuned.txt` (bandwidth of each hand-written product by how it is cut). Needs torch,
transformers, msgspec, safetensors and numpy; no network. `--shape tiny --device cpu` tries the script itself.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import itertools
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

SHAPES: dict[str, dict[str, int]] = {
    "llama2-7b": {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 4096,
    },
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "intermediate_size": 128, "vocab_size": 256, "max_position_embeddings": 1024,
    },
}  # fmt: skip
SHORT, MIDDLE, LONG, NEW_TOKENS = 10, 192, 500, 64  # 192 + 64: decode up to a context of 256 tokens
REQUESTS = 25
PROFILE_S = 25  # kept from the budget, so that the kernels of the best variant are always profiled


@dataclass(frozen=True)
class Variant:
    """How steps are made, padded prompt lengths, and the library of cuBLAS's two that is preferred."""

    options: Any
    padded: tuple[int, ...] = ()
    blas: str = "cublas"


def variants() -> dict[str, Variant]:
    """What is compared, by name; decode and prefill choices are independent."""
    from firsttoken.compiled.compiled_regions import CompileOptions
    from firsttoken.compiled.compiled_step import StepOptions

    plain, untuned = CompileOptions(regions="none"), CompileOptions(tuned=False)
    dependent = CompileOptions(dependent_launch=True)
    # Triton's own products compete with cuBLAS's, among them those that stay on the device and load by TMA
    backends = {"max_autotune_gemm_backends": "ATEN,TRITON", "triton.enable_persistent_tma_matmul": True}
    contest = CompileOptions(tuned=False, gemm_autotune=True, extra=backends)
    padded = (SHORT, MIDDLE, 512)

    def inductor(**options: Any) -> StepOptions:
        return StepOptions(kernels="inductor", **options)

    return {
        "triton": Variant(StepOptions(), padded),
        "triton, exact lengths": Variant(StepOptions()),
        "triton, PDL": Variant(StepOptions(dependent_launch=True, decode=dependent), padded),
        "triton, cuBLASLt": Variant(StepOptions(), padded, "cublaslt"),
        "regional": Variant(inductor()),
        "gemm autotune": Variant(inductor(prefill=contest), padded),
        "norms apart": Variant(inductor(fold=False)),
        "sdpa decode, padded prefill": Variant(inductor(decode_attention="sdpa"), (16, MIDDLE, 512)),
        "untuned decode, tuned prefill": Variant(inductor(decode=untuned, prefill=CompileOptions(tuned=True))),
        "not compiled": Variant(inductor(decode=plain, prefill=plain, fold=False)),
        "whole": Variant(inductor(decode=CompileOptions(regions="whole"))),
        "unfused": Variant(inductor(fuse=False, fold=False)),
    }


# ------------------------------------------------------------------ model, ceilings


def make_model(shape: str, device: str) -> Any:
    """A Llama of random weights, made where it will run."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=False, eos_token_id=None, bos_token_id=None)
    torch.manual_seed(1)
    dtype = torch.float16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


def describe(model: Any, device: str) -> Any:
    """What a step of this Llama reads and computes, as the manifest of a model in a folder says it."""
    from firsttoken.plan import ModelManifest

    config, item_bytes = model.config, 2 if device == "cuda" else 4
    parameters = sum(parameter.numel() for parameter in model.parameters())
    multiplied = parameters - model.get_input_embeddings().weight.numel()
    return ModelManifest(
        name="",
        source="synthetic",
        origin="",
        revision="",
        architecture=type(model).__name__,
        weights="random",
        parameters=parameters,
        weight_bytes=parameters * item_bytes,
        read_bytes_per_token=(multiplied + config.hidden_size) * item_bytes,
        kv_bytes_per_token=2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * item_bytes,
        flops_per_token=2 * multiplied,
        head_flops=2 * model.get_output_embeddings().weight.numel(),
        max_context=config.max_position_embeddings,
        vocab_size=config.vocab_size,
        files=(),
    )


def measure_floors(arguments: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """The device's rates, and the least times in milliseconds that follow, by the figures that they stand under."""
    from firsttoken.measure.ceilings import measure_ceilings

    manifest = describe(make_model(arguments.shape, arguments.device), arguments.device)
    dtype, threads = "float16" if arguments.device == "cuda" else "float32", os.cpu_count() or 1
    found = measure_ceilings(manifest, (SHORT, 256, LONG), 0, dtype, arguments.device, threads)
    short, context, long = found.floors
    rates = {
        "read_bytes_per_s": found.read_bandwidth_bytes_per_s,
        "matrix_flops_per_s": found.matrix_flops_per_s,
    }
    return rates, {"token_256": context.itl_ms, "ttft_10": short.ttft_ms, "ttft_500": long.ttft_ms}


# ------------------------------------------------------------------ one variant


def measure(engine: Any, expected: Any, folder: Path) -> dict[str, float]:
    """TTFT and token gaps seen by the host, device times, and how far the logits are from the stock ones."""
    from safetensors.torch import load_file

    def request(length: int, new_tokens: int) -> list[float]:
        stamps = [time.perf_counter()]
        engine.generate(text(length), new_tokens, lambda _: stamps.append(time.perf_counter()), lambda: False)
        return [1e3 * (after - before) for before, after in itertools.pairwise(stamps)]

    result: dict[str, float] = {}
    for length in (SHORT, LONG):
        host, device = [], []
        for _ in range(REQUESTS):
            host.append(request(length, 2)[0])
            device.append(engine.timings()[0].device_ns / 1e6)
        result[f"ttft_{length}"], result[f"ttft_{length}_device"] = statistics.median(host), statistics.median(device)
    gaps, device = [], []
    for _ in range(REQUESTS):
        gaps += request(MIDDLE, NEW_TOKENS)[NEW_TOKENS // 2 : -1]
        device += [timing.device_ns / 1e6 for timing in engine.timings()[NEW_TOKENS // 2 :]]
    result["token_256"] = statistics.median(gaps)
    result["token_256_p99"] = statistics.quantiles(gaps, n=100)[98]
    result["token_256_device"] = statistics.median(device)
    ids, continuation = text(SHORT), text(8)
    engine.save_logits(ids, continuation, folder / "logits.safetensors")
    found = load_file(folder / "logits.safetensors")["logits"]
    result["logits_error"] = float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())
    return result


def text(length: int) -> list[int]:
    return [(7 + 13 * i + 5 * i * i) % 250 for i in range(length)]


def run_variant(variant: Variant, arguments: argparse.Namespace, folder: Path) -> tuple[Any, Any]:
    """Build an engine and measure it; returns (engine, figures)."""
    import torch

    from firsttoken.compiled.compiled_engine import CompiledEngine
    from firsttoken.hf.eager_decode import teacher_forced_logits
    from firsttoken.plan import GraphOptions, Plan
    from firsttoken.results import SetupTimes

    model = make_model(arguments.shape, arguments.device)
    expected = teacher_forced_logits(model, text(SHORT), text(8))
    plan = Plan(
        prompt_lengths=(SHORT, MIDDLE, LONG),
        new_tokens=NEW_TOKENS,
        max_context=576,
        dtype="float16" if arguments.device == "cuda" else "float32",
        device=arguments.device,
        threads=os.cpu_count() or 1,
        graphs=GraphOptions(kv_buckets=(256,), prefill_buckets=variant.padded),
    )
    if arguments.device == "cuda":
        torch.backends.cuda.preferred_blas_library(variant.blas)
    engine = CompiledEngine(model, plan, variant.options, SetupTimes(), "none")
    figures = measure(engine, expected, folder)
    setup = engine.setup
    figures |= {"compile_s": setup.compile_s, "capture_s": setup.capture_s, "warm_up_s": setup.warm_up_s}
    figures |= {"recompiles": engine.counters()["recompiles"], "graph_mib": (engine.memory().graph_bytes or 0) / 2**20}
    return engine, figures


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after `seconds`."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s: the budget is spent")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1.0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ------------------------------------------------------------------ insight, output


def profile_kernels(engine: Any, out: Path) -> None:
    """Kernels by device time for a decode request and for the two prompt lengths."""
    from torch.profiler import ProfilerActivity, profile

    for name, length, new_tokens in (("decode", MIDDLE, 33), ("ttft_10", SHORT, 1), ("ttft_500", LONG, 1)):
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
            for _ in range(3):
                engine.generate(text(length), new_tokens, lambda _: None, lambda: False)
        averages = profiler.key_averages()
        rows = sorted((e for e in averages if e.self_device_time_total > 0), key=lambda e: -e.self_device_time_total)
        total_us = sum(row.self_device_time_total for row in rows)
        lines = [f"{name}: prompt {length}, {new_tokens} tokens, 3 requests; {total_us / 1e3:.3f} ms on the device"]
        lines += [
            f"{row.self_device_time_total / 3e3:9.3f} ms a request {row.count // 3:6d} x "
            f"{row.self_device_time_total / max(row.count, 1):9.2f} us  {row.key[:120]}"
            for row in rows[:20]
        ]
        (out / f"kernels_{name}.txt").write_text("\n".join(lines) + "\n")
        print("\n".join(lines[:16]), flush=True)


def show_tuned(engine: Any, out: Path) -> None:
    """Bandwidth of every config that was timed for each hand-written product."""
    lines = [f"kernels: {engine.facts()['kernels']}"]
    for key, timed in engine.tuned().items():
        lines.append(key)
        for t in timed:
            lines.append(f"    {t.seconds * 1e6:8.2f} us {t.read_bytes / t.seconds / 1e12:7.3f} TB/s  {t.config}")
    (out / "kernels_tuned.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


def keep_generated(cache: Path, out: Path) -> None:
    """Keep the compiled graphs' wrapper files, which hold their kernels, of all variants up to the fastest."""
    for source in cache.rglob("*.py"):
        if "def call(" in source.read_text(errors="replace"):
            (out / "generated").mkdir(exist_ok=True)
            shutil.copy(source, out / "generated" / source.name)


def table(rows: list[dict[str, Any]], floors: dict[str, float]) -> str:
    columns = ["token_256", "token_256_device", "token_256_p99", "ttft_10", "ttft_10_device", "ttft_500"]
    columns += ["ttft_500_device", "logits_error", "compile_s", "capture_s", "recompiles"]
    lines = [f"{'ms; share of floor in %':36s}" + "".join(f"{c:>18s}" for c in columns)]
    for row in rows:
        cells = []
        for column in columns:
            value, floor = row.get(column), floors.get(column.removesuffix("_device"))
            share = f" {100 * floor / value:4.0f}%" if value and floor and "p99" not in column else ""
            cells.append(f"{value:.4g}{share}".rjust(18) if value is not None else "-".rjust(18))
        lines.append(f"{row['variant']:36s}" + "".join(cells) + f"  {row.get('error', '')[:100]}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget-s", type=float, default=340)
    parser.add_argument("--variants", default="", help="names or patterns (triton*), separated by semicolons")
    parser.add_argument("--kernels", action="store_true", help="print what was tuned")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama2-7b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.budget_s
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # nothing compiled before counts
        run(arguments, deadline, Path(folder))


def run(arguments: argparse.Namespace, deadline: float, folder: Path) -> None:
    import torch
    import transformers

    facts: dict[str, Any] = {"torch": torch.__version__, "transformers": transformers.__version__}
    rates, floors = measure_floors(arguments)
    facts |= rates | {f"floor_{name}_ms": value for name, value in floors.items()}
    if arguments.device == "cuda":
        facts["device"] = torch.cuda.get_device_name()
        torch.cuda.empty_cache()
    results = (arguments.out / "results.jsonl").open("w")
    print(json.dumps(facts), file=results, flush=True)
    print(json.dumps(facts, indent=1), flush=True)
    chosen = [name for name in arguments.variants.split(";") if name]
    rows: list[dict[str, Any]] = []
    best: Any = None
    best_ms = float("inf")
    for name, variant in variants().items():
        if chosen and not any(fnmatch.fnmatchcase(name, pattern) for pattern in chosen):
            continue
        left_s = deadline - time.monotonic() - PROFILE_S
        row: dict[str, Any] = {"variant": name}
        engine = None
        started = time.monotonic()
        try:
            with time_limit(left_s):
                if left_s < 5:
                    raise TimeoutError("not started: the budget is spent")
                engine, figures = run_variant(variant, arguments, folder)
                row |= figures | {"kernels": engine.facts()["kernels"]}
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"
            row["traceback"] = traceback.format_exc()[-4000:]
        row["wall_s"] = time.monotonic() - started
        rows.append(row)
        print(json.dumps(row), file=results, flush=True)
        print({key: value for key, value in row.items() if key != "traceback"}, flush=True)
        if engine is not None and row["token_256"] < best_ms:
            engine, best, best_ms = best, engine, row["token_256"]
            keep_generated(folder, arguments.out)
        if engine is not None:
            engine.close()
        del engine
        torch._dynamo.reset()  # compiled code refers to the model; what is captured needs none of it
        gc.collect()
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
    text_table = table(rows, floors)
    (arguments.out / "table.txt").write_text(text_table + "\n")
    print(text_table, flush=True)
    if best is not None and arguments.kernels:
        show_tuned(best, arguments.out)
    if best is not None and arguments.device == "cuda":
        with time_limit(deadline - time.monotonic()):
            profile_kernels(best, arguments.out)


if __name__ == "__main__":
    main()

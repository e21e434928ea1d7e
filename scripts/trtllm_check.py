"""The first thing to run where TensorRT-LLM 1.2.1 and a GPU are: does our use of it work, and are its tokens right?

Makes a tiny random Llama in float16 and an engine of it, streams from the engine with and without CUDA graphs and from
the PyTorch backend, in a worker process and in one, and compares tokens with float32 logits of the same weights.
Prints the versions and one table. The exit status is 1 if anything is wrong. Takes at most ten minutes.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What the imports below and TensorRT-LLM need: a Python without them gets one line instead of a traceback.
NEEDED = ("msgspec", "numpy", "psutil", "pynvml", "tensorrt_llm", "torch", "transformers")
if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    sys.exit(
        f"trtllm-check: {sys.executable} (Python {platform.python_version()}) has no {', '.join(absent)}; run it where "
        "TensorRT-LLM 1.2.1 and a GPU are, with make trtllm-check TRTLLM_PYTHON=...: docs/tensorrt-llm.md says how"
    )

from firsttoken.approaches.base import approach_class  # noqa: E402
from firsttoken.external.tensorrt_llm.engine import (  # noqa: E402
    manifest_path,
    prepare_engine,
    require_environment,
)
from firsttoken.hardware import require_gpu  # noqa: E402
from firsttoken.measure.clocks import StampingSink, run_request  # noqa: E402
from firsttoken.plan import Plan, TensorRTOptions  # noqa: E402

PROMPT_LENGTHS = (10, 50, 100)
NEW_TOKENS = 16
REQUESTS = 5  # of each length
LIMIT_S = 600.0  # for everything; what does not end within it, such as a worker that hangs, has failed
# Nats: rounding in float16 may change the choice between two tokens that are this close; others it may not.
LOGIT_GAP = 0.05
APPROACHES = ("tensorrt_llm", "tensorrt_llm_nograph", "tensorrt_llm_pytorch")
RUNS = [(name, single) for single in (False, True) for name in APPROACHES]


def make_plan(engine_dir: Path, single_process: bool) -> Plan:
    return Plan(
        prompt_lengths=PROMPT_LENGTHS,
        new_tokens=NEW_TOKENS,
        max_context=max(PROMPT_LENGTHS) + NEW_TOKENS,
        dtype="float16",
        device="cuda",
        engine_dir=str(engine_dir),
        tensorrt_llm=TensorRTOptions(single_process=single_process),
    )


def make_model(folder: Path) -> None:
    """A two-layer Llama with heads of 64, which the attention kernels have, and weights that make choices clear."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.08, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).half().save_pretrained(folder)


def prompt(length: int, index: int) -> list[int]:
    return [(17 + 31 * position + 7 * position * position + 13 * index) % 512 for position in range(length)]


def add_logit_gaps(rows: Sequence[dict[str, Any]], model_dir: Path) -> None:
    """Replace the `answers` of each row by the largest amount by which a float32 logit lies above that of the token
    that was chosen, prefix for prefix."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(model_dir).float().eval()
    with torch.inference_mode():
        for row in rows:
            row["logit gap"] = 0.0
            for ids, tokens in row.pop("answers"):
                logits = model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]
                chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
                row["logit gap"] = max(row["logit gap"], float((logits.max(dim=1).values - chosen).max()))


def run_one(name: str, single: bool, folder: Path) -> dict[str, Any]:
    """One approach in this process: tokens of every prompt length, median TTFT, counters; see `add_logit_gaps`."""
    approach, sink, ttft_ms, answers, chunks = approach_class(name)(), StampingSink(NEW_TOKENS), [], [], 0
    with approach:
        setup = approach.load(folder / "model", make_plan(folder / "engine", single))
        for index in range(REQUESTS):
            for length in PROMPT_LENGTHS:
                ids = prompt(length, index)
                start_ns = run_request(approach, ids, NEW_TOKENS, sink)
                ttft_ms.append((int(sink.times_ns[0]) - start_ns) / 1e6)
                chunks += sink.chunks
                if index == 0:
                    answers.append((ids, sink.tokens.tolist()))
        counters = approach.counters()
    return {
        "approach": name,
        "process": "one" if single else "worker",
        "load s": f"{setup.load_s:.1f}",
        "TTFT ms": f"{statistics.median(ttft_ms):.3f}",
        "executor TTFT ms": f"{counters['executor_ttft_ms_sum'] / max(1, counters['executor_requests']):.3f}",
        "tokens a chunk": f"{REQUESTS * len(PROMPT_LENGTHS) * NEW_TOKENS / chunks:.2f}",
        "answers": answers,
    }


def in_fresh_process(deadline: float, *arguments: str) -> None:
    """This script again: variables that are read at import, and MPI, can be set once a process."""
    remaining_s = max(1.0, deadline - time.monotonic())
    subprocess.run([sys.executable, __file__, *arguments], check=True, timeout=remaining_s)


def check() -> int:
    """Everything, one step a process. Returns the exit status."""
    deadline = time.monotonic() + LIMIT_S
    try:
        versions, gpu = require_environment(), require_gpu()
    except RuntimeError as error:
        print(f"trtllm-check: {error}")
        return 1
    print("  ".join(f"{name} {version}" for name, version in versions.items()), f"on {gpu.name}", flush=True)
    runs, rows, failures = RUNS, [], []
    with tempfile.TemporaryDirectory(prefix="firsttoken-trtllm-check-") as name:
        folder = Path(name)
        try:
            in_fresh_process(deadline, "build", name)
        except subprocess.SubprocessError as error:
            failures.append(f"no engine, so none is run: {error}")
            runs = [run for run in RUNS if not approach_class(run[0]).needs_engine]
        else:
            print(f"\nbuilt in {json.loads(manifest_path(folder / 'engine').read_text())['build_s']:.0f} s")
        for approach, single in runs:
            try:
                in_fresh_process(deadline, "run", name, approach, str(int(single)))
                rows.append(json.loads((folder / "row.json").read_text()))
            except subprocess.SubprocessError as error:
                failures.append(f"{approach}, {'one process' if single else 'worker process'}: {error}")
        add_logit_gaps(rows, folder / "model")
    return report(rows, failures)


def report(rows: Sequence[dict[str, Any]], failures: Sequence[str]) -> int:
    """Print what ran as a table, and what failed. Returns the exit status."""
    wrong = [
        f"{row['approach']}: a float32 logit lies {row['logit gap']:.3g} above the chosen one"
        for row in rows
        if row["logit gap"] > LOGIT_GAP
    ]
    header = list(rows[0]) if rows else []
    table = [header, *[[f"{row[k]:.4f}" if k == "logit gap" else str(row[k]) for k in header] for row in rows]]
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    print()
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    for failure in (*failures, *wrong):
        print("FAILED:", failure)
    print("something failed" if failures or wrong else "all right")
    return 1 if failures or wrong else 0


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        return check()
    step, folder = arguments[0], Path(arguments[1])
    if step == "build":
        make_model(folder / "model")
        # Built without a worker process: whether one starts is what the runs find out.
        plan = make_plan(folder / "engine", single_process=True)
        manifest = prepare_engine(folder / "model", plan, folder / "engine", manifest_path(folder / "engine"))
        if manifest.status != "measured":
            print(manifest.reason)
            return 1
    else:
        row = run_one(arguments[2], arguments[3] == "1", folder)
        (folder / "row.json").write_text(json.dumps(row))
    return 0


# MPI's workers import this file under another name, so nothing may run without the guard.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

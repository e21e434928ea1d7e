"""Plants bugs and tells which were noticed.

    python tests/planted_bugs.py [--only TEXT]

First in copies of the code, each followed by the test that must notice it: those that need a CUDA device, and those of
Triton's interpreter (TRITON_INTERPRET=1). Then wrong functions in a running engine, in float32, float16 and bfloat16,
which the equality gate must notice. One line a bug: noticed (the test failed, the gate said "different"), NOT NOTICED,
or not run (skipped, with the reason). The status is 1 if one was not noticed, or if the code has lost the text that
a bug replaces.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "scripts/firsttoken/"
COPIED = ("scripts", "tests", "config", "pyproject.toml")
AT_ONCE = 4  # a test process takes some GiB of a device, and several seconds to import torch
NOTHING_FAILED = 0
TESTS_FAILED = 1


@dataclass(frozen=True)
class Bug:
    """`old` in `file` becomes `new`; then `test` (a file, and what to select in it) must fail."""

    what: str
    file: str
    old: str
    new: str
    test: str
    select: str
    interpreted: bool = False  # under Triton's interpreter, on a CPU


GRAPH, PROMPT = PACKAGE + "engine/graphs.py", PACKAGE + "compiled/prefill.py"
MEMORY, SAMPLING = "tests/gpu/test_graph_memory.py", "tests/gpu/test_sampling.py"
INTERPRETED = "tests/unit/compiled/test_prefill.py"

BUGS = (
    Bug(
        "trap 4: workspaces given back while graphs use them", GRAPH,
        "        own_bytes = max(", "        torch._C._cuda_clearCublasWorkspaces()\n        own_bytes = max(",
        MEMORY, "evicting_each",
    ),
    Bug(
        "trap 5: logits left in the graphs' pool", PACKAGE + "compiled/steps.py",
        "            forward()\n",
        "            state.logits = torch.empty_like(state.logits)\n            forward()\n",
        "tests/gpu/test_compiled_graph.py", "reference_logits",
    ),
    Bug(
        "trap 5: decode's logits handed on in the graphs' memory", PACKAGE + "hf/steps.py",
        "use_cache=True,\n            )  # fmt: skip\n            state.logits.copy_(output.logits[:, 0])",
        "use_cache=True,\n            )  # fmt: skip\n            state.logits = output.logits[:, 0]",
        MEMORY, "any_order",
    ),
    Bug(
        "trap 6: a device-wide wait before a capture", GRAPH,
        "                self._warm_up_stream.synchronize()", "                torch.cuda.synchronize()",
        MEMORY, "beside_live",
    ),
    Bug(
        "trap 7: the noise does not move on", PACKAGE + "engine/sampling.py",
        "    noise_state[1:].add_(1)\n", "",
        "tests/gpu/test_compiled_graph.py", "sampled",
    ),
    Bug(
        "a penalty on the tokens of earlier requests", PACKAGE + "engine/sampling.py",
        "        seen.zero_()\n", "",
        SAMPLING, "own_request",
    ),
    Bug(
        "trap 8: warm-ups on live buffers", GRAPH,
        "                    warm_up()\n", "                    live()\n",
        MEMORY, "changes_nothing",
    ),
    Bug(
        "trap 9: tokens read before they arrived", PACKAGE + "engine/token_ring.py",
        "        self._events[slot].synchronize()\n        self._received", "        self._received",
        MEMORY, "pinned_ring",
    ),
    Bug(
        "trap 11: a pool kept after its capture failed", GRAPH,
        "        self._failed.append(graph)\n        self._pool = None\n",
        "        self._failed.append(graph)\n        return\n",
        MEMORY, "failed_capture",
    ),
    Bug(
        "trap 12: graphs that left keep their memory", GRAPH,
        "            self._graph.reset()\n", "            _kept.append(self._graph)\n",
        MEMORY, "thousand",
    ),
    Bug(
        "the shared part of the pool is not counted", GRAPH,
        'sum(segment["total_size"] for segment in segments)', "0 * len(segments)",
        MEMORY, "told_apart",
    ),
    Bug(
        "prefill: a window one too wide", PROMPT,
        "other[None, :] > token[:, None] - WINDOW", "other[None, :] >= token[:, None] - WINDOW",
        "tests/gpu/test_prefill.py", "attention",
    ),
    Bug(
        "prefill: a window one too wide (interpreter)", PROMPT,
        "other[None, :] > token[:, None] - WINDOW", "other[None, :] >= token[:, None] - WINDOW",
        INTERPRETED, "attention", interpreted=True,
    ),
    Bug(
        "prefill: keys stored by no program", PROMPT,
        "                tl.store(keys + cached, key, mask=inside)\n", "                pass\n",
        INTERPRETED, "attention", interpreted=True,
    ),
    Bug(
        "prefill: the first block left out of a window", PROMPT,
        "tl.maximum(start - WINDOW + 1, 0) // BLOCK_KV * BLOCK_KV",
        "(tl.maximum(start - WINDOW + 1, 0) // BLOCK_KV + 1) * BLOCK_KV",
        INTERPRETED, "attention", interpreted=True,
    ),
    Bug(
        "prefill: programs one row too far apart", PROMPT,
        "row = tl.program_id(0) * BLOCK_N + tl", "row = tl.program_id(0) * (BLOCK_N + 1) + tl",
        INTERPRETED, "product", interpreted=True,
    ),
    Bug(
        "prefill: up without its offset", PROMPT,
        "_weight_block(weight + rows.to(tl.int64) * K, row,", "_weight_block(weight, row,",
        INTERPRETED, "product", interpreted=True,
    ),
    Bug(
        "prefill: up with the scales of gate", PROMPT,
        "scale + rows + row", "scale + row",
        INTERPRETED, "product", interpreted=True,
    ),
    Bug(
        "prefill: one part of a sum alone", PROMPT,
        "tl.load(parts + part * count * K + place,", "tl.load(parts + place,",
        INTERPRETED, "product", interpreted=True,
    ),
)  # fmt: skip


def main() -> int:
    """Run the chosen bugs, several at once; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="bugs whose description holds this text")
    only = parser.parse_args().only
    chosen = [bug for bug in BUGS if only in bug.what]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        places = [Path(folder) / str(number) for number in range(len(chosen))]
        right = True
        for bug, (verdict, detail) in zip(chosen, pool.map(try_bug, chosen, places), strict=True):
            print(f"{verdict:12s} {bug.what}  {detail}", flush=True)
            right &= verdict != "NOT NOTICED"
    for verdict, what, detail in try_equality_bugs(only):
        print(f"{verdict:12s} {what}  {detail[:160]}", flush=True)
        right &= verdict != "NOT NOTICED"
    return 0 if right else 1


def try_equality_bugs(only: str) -> Iterator[tuple[str, str, str]]:
    """(verdict, bug and dtype, what the gate said), on the CUDA device where there is one."""
    sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
    import torch

    from fakes.equality_bench import DTYPES, EqualityBench
    from fakes.equality_bugs import BUGS as EQUALITY_BUGS
    from firsttoken.inputs.synthetic import make_model

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        model.mkdir()
        section = {"architecture": "llama", "shape": {}, "seed": 1, "dtype": "float32"}
        make_model(section, model, ROOT / "config" / "corpus.txt")
        bench = EqualityBench(model, Path(folder), "cuda" if torch.cuda.is_available() else "cpu")
        for dtype in DTYPES:
            with bench.engine(dtype) as engine:
                for bug in EQUALITY_BUGS:
                    if only in bug.name:
                        row = bench.judged(engine, bench.sized(engine, bug))
                        verdict = "noticed" if row["verdict"] == "different" else "NOT NOTICED"
                        yield verdict, f"{bug.name} ({dtype}, {bench.device})", str(row["reason"])


def try_bug(bug: Bug, place: Path) -> tuple[str, str]:
    """(verdict, the last line that pytest said) of one bug, planted in a copy of the code at `place`."""
    place.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place / name)
    plant(bug, place)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if bug.interpreted:
        environment["TRITON_INTERPRET"] = "1"
    else:
        environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rs", "-p", "no:cacheprovider", bug.test, "-k", bug.select]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("E  ", "SKIPPED"))]
    last = (lines or done.stdout.splitlines() or [done.stderr.strip()[-200:]])[-1][:160]
    if done.returncode == NOTHING_FAILED and " passed" in done.stdout:
        return "NOT NOTICED", last
    return ("noticed" if done.returncode == TESTS_FAILED else "not run"), last


def plant(bug: Bug, place: Path) -> None:
    """Raises ValueError where the code has not exactly one place for the bug."""
    path = place / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.old) != 1:
        raise ValueError(f"{bug.what}: {bug.file} has {text.count(bug.old)} places with {bug.old!r}, not one")
    text = text.replace(bug.old, bug.new)
    if "_kept" in bug.new:
        text += "\n\n_kept: list[object] = []\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

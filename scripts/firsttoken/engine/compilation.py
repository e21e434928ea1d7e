"""Compiling with torch.compile: where compiled code is kept, and how many compilations this process has seen."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from firsttoken.plan import Unsupported


def use_compile_cache(folder: str, few_kernels: bool = False) -> Literal["none", "cold", "cached"]:
    """Point Inductor and Triton at `folder`; call before the first compilation of the process.

    With `few_kernels` Inductor compiles in this process: its pool of workers takes longer to start and to end than two
    or three small kernels take to compile.

    Returns "none" for "" (the library's own default place), else whether the folder already held compiled code.
    """
    if few_kernels:
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if not folder:
        return "none"
    place = _without_spaces(Path(folder).absolute())
    inductor, triton = place / "inductor", place / "triton"
    cached = any(kind.is_dir() and any(kind.iterdir()) for kind in (inductor, triton))
    for kind in (inductor, triton):
        kind.mkdir(parents=True, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(inductor)
    os.environ["TRITON_CACHE_DIR"] = str(triton)
    return "cached" if cached else "cold"


def _without_spaces(folder: Path) -> Path:
    """The folder itself, or a private one in the user's cache: the C++ compiler's command line cannot carry a space."""
    if " " not in str(folder):
        return folder
    return Path.home() / ".cache" / "firsttoken" / hashlib.sha256(str(folder).encode()).hexdigest()[:12]


def compile_count() -> int:
    """Graphs that Dynamo has compiled in this process; a difference between two calls counts (re)compilations."""
    if "torch._dynamo" not in sys.modules:  # its import takes a second
        return 0
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def compile_fixed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """torch.compile for a function that is always called with tensors like `arguments`: static shapes, no guards.

    Dynamo keeps what it compiled by code object, and without guards one caller's code would serve another's tensors: so
    each call gets a code object of its own. `arguments` are used for two calls, in which the compilation happens.
    """
    import torch

    on_cpu = all(argument.device.type == "cpu" for argument in arguments if isinstance(argument, torch.Tensor))
    if on_cpu and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise Unsupported("torch.compile on a CPU needs a C++ compiler (g++ or clang++), and none is on PATH")
    private = types.FunctionType(
        function.__code__.replace(co_name=f"{function.__name__}_{id(arguments):x}"),
        function.__globals__, function.__name__, function.__defaults__, function.__closure__,
    )  # fmt: skip
    compiled: Callable[..., Any] = torch.compile(
        private, fullgraph=True, dynamic=False, options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    )
    for _ in range(2):
        compiled(*arguments)
    return compiled

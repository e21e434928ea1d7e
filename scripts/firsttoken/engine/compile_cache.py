"""Where compiled code is kept between processes, and how many compilations this process has seen."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal


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
    cached = inductor.is_dir() and any(inductor.iterdir())
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


def compile_counters() -> int:
    """Graphs that Dynamo has compiled in this process; a difference between two calls counts (re)compilations."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])

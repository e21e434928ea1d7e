"""Where compiled code is kept between processes, and how many compilations this process has seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal


def use_compile_cache(folder: str) -> Literal["none", "cold", "cached"]:
    """Point Inductor and Triton at `folder`; call before the first compilation of the process.

    Returns "none" for "" (the library's own default place), else whether the folder already held compiled code.
    """
    if not folder:
        return "none"
    inductor, triton = Path(folder) / "inductor", Path(folder) / "triton"
    cached = inductor.is_dir() and any(inductor.iterdir())
    for place in (inductor, triton):
        place.mkdir(parents=True, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(inductor.resolve())
    os.environ["TRITON_CACHE_DIR"] = str(triton.resolve())
    return "cached" if cached else "cold"


def compile_counters() -> int:
    """Graphs that Dynamo has compiled in this process; a difference between two calls counts (re)compilations."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])

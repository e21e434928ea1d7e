"""vllm/compilation/counter.py: what the process has compiled and captured."""

from __future__ import annotations

from types import SimpleNamespace

compilation_counter = SimpleNamespace(num_cudagraph_captured=0)

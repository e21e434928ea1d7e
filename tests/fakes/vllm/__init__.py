"""A stand-in for vLLM 0.24.0: its names, defaults and refusals as in its source, tokens from our eager reference.

Each module has the name of vLLM's own that it stands for. It runs on a CPU and starts in no time.
"""

from __future__ import annotations

from vllm.sampling_params import SamplingParams

__version__ = "0.24.0"
__all__ = ["SamplingParams"]

"""A stand-in for TensorRT-LLM 1.2.1 without a GPU: its names and types, and our own eager reference behind them.

Signatures are those of the source files that each module names, read where docs/tensorrt-llm.md says. Only what a study
uses and what could be confused with it is here; everything else is an error, as a misspelt name is there.
"""

from tensorrt_llm.builder import BuildConfig
from tensorrt_llm.sampling_params import SamplingParams

__version__ = "1.2.1"
__all__ = ["BuildConfig", "SamplingParams", "__version__"]

"""A stand-in for TensorRT-LLM 1.2.1 without a GPU: its names and types, and our own eager reference behind them.

Configs and parameters have all fields and defaults that the container's own schema gives; the rest follows the source
files that each module names, read where docs/tensorrt-llm.md says. A name that is not here is an error, as it is there.
"""

from tensorrt_llm.builder import BuildConfig
from tensorrt_llm.sampling_params import SamplingParams

__version__ = "1.2.1"
__all__ = ["BuildConfig", "SamplingParams", "__version__"]

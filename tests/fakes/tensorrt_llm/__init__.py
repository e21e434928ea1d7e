"""A stand-in for TensorRT-LLM 1.2.1 without a GPU: its names and types, and our own eager reference behind them.

Configs and parameters of the engine backend have all fields and defaults that the container's own schema gives; those
of the PyTorch backend, which that schema lacks, have what a version before and one after agree on. The rest follows the
source files that each module names, read where docs/tensorrt-llm.md says. A name that is not here is an error, as it is
there.
"""

from tensorrt_llm.builder import BuildConfig
from tensorrt_llm.llmapi.llm import LLM
from tensorrt_llm.sampling_params import SamplingParams

__version__ = "1.2.1"
__all__ = ["LLM", "BuildConfig", "SamplingParams", "__version__"]

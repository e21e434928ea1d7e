"""The control of `tensorrt_llm`: the same engine and settings without CUDA graphs, TensorRT-LLM's own default."""

from __future__ import annotations

from firsttoken.approaches.tensorrt_llm import TensorRTLLM


class TensorRTLLMNoGraph(TensorRTLLM):
    """What CUDA graphs are worth inside TensorRT-LLM."""

    name = "tensorrt_llm_nograph"
    title = "TensorRT-LLM without CUDA graphs"
    graphs = False
    control = True

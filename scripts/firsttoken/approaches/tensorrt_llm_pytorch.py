"""The PyTorch backend of the same TensorRT-LLM, which reads the model's folder: no engine is built.

It is the backend that later versions keep. With `tensorrt_llm` it shows what the TensorRT engine is worth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from firsttoken.approaches.tensorrt_llm import TensorRTLLM
from firsttoken.external.tensorrt_llm import settings
from firsttoken.external.tensorrt_llm.model import model_problem, pytorch_problem, read_config, readable_model
from firsttoken.plan import Plan, Unsupported


class TensorRTLLMPyTorch(TensorRTLLM):
    """The same stream of tokens from TensorRT-LLM's PyTorch models, its decode steps in CUDA graphs."""

    name = "tensorrt_llm_pytorch"
    title = "TensorRT-LLM, PyTorch backend"
    control = True
    packages = ("tensorrt_llm", "torch", "transformers", "triton", "flashinfer-python")
    needs_engine = False

    def _start(self, model_dir: Path, plan: Plan) -> Any:
        """The runtime's `LLM`, with the weights in `model_dir`. Raises `Unsupported` for a model or plan that it would
        refuse or serve wrongly."""
        from tensorrt_llm import LLM
        from tensorrt_llm._torch.models.modeling_utils import MODEL_CLASS_MAPPING

        problem = pytorch_problem(plan) or model_problem(read_config(model_dir), MODEL_CLASS_MAPPING, plan)
        if problem:
            raise Unsupported(problem)
        with readable_model(model_dir, plan.dtype) as folder:
            return LLM(
                model=str(folder), dtype=plan.dtype, skip_tokenizer_init=True, **settings.pytorch_arguments(plan)
            )

    def _attention(self) -> str:
        return f"attention backend {self._settings['attn_backend']} of TensorRT-LLM's PyTorch models"

"""tensorrt_llm/_torch/models/modeling_utils.py: MODEL_CLASS_MAPPING, architecture -> class; a part of its keys."""

_NAMES = "LlamaForCausalLM MistralForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM Phi3ForCausalLM"
MODEL_CLASS_MAPPING = dict.fromkeys(_NAMES.split(), object)

"""tensorrt_llm/models/__init__.py: MODEL_MAP, architecture -> model class; a part of its keys."""

_NAMES = "GPT2LMHeadModel LlamaForCausalLM MistralForCausalLM GemmaForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM"
MODEL_MAP = dict.fromkeys(_NAMES.split(), object)

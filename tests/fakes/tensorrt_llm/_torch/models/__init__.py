"""tensorrt_llm/_torch/models/__init__.py imports all models, which register themselves."""

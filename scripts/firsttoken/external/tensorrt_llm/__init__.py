"""TensorRT-LLM: how its engine is built, checked, asked and watched."""

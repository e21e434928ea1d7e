"""TensorRT-LLM: how its engine is built and checked, how its backends are asked and its worker is watched."""

"""llama.cpp as an engine: its C API, GGUF files, settings."""

"""vLLM: how it is configured, timed from inside its worker, and watched."""

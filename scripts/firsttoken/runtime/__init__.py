"""With what the approaches are made. `engine.build_engine` is the door; `contract` says what an engine is.

    ipc/       TWO PROCESSES: generator, client, messages, lifetime
    graphs/    CAPTURE AND REPLAY: step graphs, rolling pool, token ring, what a device does differently
    compiled/  OUR OWN ENGINE: whole steps compiled and captured, fused weights, Triton kernels
    trtllm/    TENSORRT-LLM: build, checks, settings, a watch over its worker

The files beside them are the engine over Hugging Face's forward (`model_engine`: static KV cache, masks, dynamic
operations) and what several engines share.
"""

"""tensorrt_llm/llmapi/__init__.py: a part of what it exports."""

from tensorrt_llm.llmapi.llm_args import (
    CapacitySchedulerPolicy,
    CudaGraphConfig,
    ExtendedRuntimePerfKnobConfig,
    KvCacheConfig,
    SchedulerConfig,
)

__all__ = [
    "CapacitySchedulerPolicy",
    "CudaGraphConfig",
    "ExtendedRuntimePerfKnobConfig",
    "KvCacheConfig",
    "SchedulerConfig",
]

"""vllm/v1/attention/backends/fa_utils.py"""

from __future__ import annotations


def get_flash_attn_version(
    requires_alibi: bool = False,
    head_size: int | None = None,
    head_size_v: int | None = None,
    has_sinks: bool = False,
) -> int | None:
    return 3

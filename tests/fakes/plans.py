"""The plan of contract tests of engines on a GPU."""

from __future__ import annotations

from typing import Any

from firsttoken.plan import Plan


def gpu_plan(**changes: Any) -> Plan:
    """Prompts of 5 and 9 tokens, 7 new ones, on a GPU."""
    fields: dict[str, Any] = {
        "prompt_lengths": (5, 9),
        "new_tokens": 7,
        "max_context": 16,
        "dtype": "float32",
        "device": "cuda",
    }
    return Plan(**{**fields, **changes})

"""How a model turns positions into rotary angles."""

from __future__ import annotations

from typing import Any

VARYING = ("dynamic", "longrope")  # types whose angles depend on the length of the text


def rope_parameters(config: Any) -> list[dict[str, Any]]:
    """One mapping for each kind of layer, as transformers names its keys; empty for other positions."""
    found = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    return [found] if "rope_type" in found else [part for part in found.values() if isinstance(part, dict)]

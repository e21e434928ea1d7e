"""The forward pass is Hugging Face's eager one; padding, positions and sampling are compiled, one call a step."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class JitOnly(EngineApproach):
    """JIT without graphs."""

    name = "jit_only"
    title = "JIT-compiled dynamic operations"
    forward = "eager"
    dynamic_operations = "jit"

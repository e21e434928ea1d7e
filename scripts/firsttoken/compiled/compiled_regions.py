"""Which parts of a model are compiled, and how.

`regional`: every decoder layer by one compilation that all share (their weights and caches are inputs), and every
other module of the step by its own. What is lost is fusion across the regions' borders; what is won is a compile time
that does not grow with the layers. `whole`: the step as one graph. `none`: nothing, for a look at the same code
without a compiler.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from firsttoken.plan import Unsupported

Regions = Literal["regional", "whole", "none"]

# Dynamo keeps what it compiled per code object; each kind of module, KV bucket and prompt length is one entry.
COMPILATIONS_PER_FUNCTION = 512


@dataclass(frozen=True)
class CompileOptions:
    """How a step is compiled."""

    regions: Regions = "regional"
    backend: str = "inductor"
    tuned: bool = True  # coordinate descent, and with it matrix-vector kernels in Triton for one row
    gemm_autotune: bool = False  # Triton's matrix products compete with cuBLAS
    dependent_launch: bool = False  # PDL, where the device has it (compute capability 9)
    dynamic_length: bool = False  # the second prompt length is compiled for all that follow, not for itself
    extra: dict[str, Any] = field(default_factory=dict)

    def inductor(self, device: torch.device) -> dict[str, Any]:
        """Inductor's options; its own CUDA graphs stay off, since the step is captured whole."""
        options: dict[str, Any] = {"triton.cudagraphs": False}
        if device.type == "cuda":
            options["coordinate_descent_tuning"] = self.tuned
            options["max_autotune_gemm"] = self.gemm_autotune
            from torch._inductor import config

            if torch.cuda.get_device_capability(device)[0] >= 9 and hasattr(config.triton, "enable_pdl"):
                options["triton.enable_pdl"] = self.dependent_launch
        return {**options, **self.extra}


class Compiler:
    """Compiles functions with one set of options."""

    def __init__(self, options: CompileOptions, device: torch.device) -> None:
        from torch._dynamo import config

        self.options = options
        self._device = device
        config.recompile_limit = max(config.recompile_limit, COMPILATIONS_PER_FUNCTION)
        config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, COMPILATIONS_PER_FUNCTION)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, compiled; it gets a code object of its own, so that no other function's entries are searched."""
        if self.options.regions == "none":
            return function
        private = types.FunctionType(
            function.__code__.replace(co_name=f"{function.__name__}_{id(self):x}"),
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        private.__kwdefaults__ = function.__kwdefaults__
        options = self.options.inductor(self._device) if self.options.backend == "inductor" else None
        compiled: Callable[..., Any] = torch.compile(
            private,
            fullgraph=True,
            dynamic=None if self.options.dynamic_length else False,
            backend=self.options.backend,
            options=options,
        )
        return compiled


class RegionFunctions:
    """The compiled form of each kind of module under the compiler in force; one instance serves a whole model."""

    def __init__(self) -> None:
        self._compiler: Compiler | None = None
        self._functions: dict[tuple[int, type], Callable[..., Any]] = {}
        self.written: Mapping[nn.Module, Callable[..., Any]] = {}

    @contextmanager
    def under(
        self, compiler: Compiler | None, written: Mapping[nn.Module, Callable[..., Any]] | None = None
    ) -> Iterator[None]:
        """Regions run compiled by `compiler` within, or plain for None; those in `written` by what is there."""
        self._compiler, self.written = compiler, written or {}
        try:
            yield
        finally:
            self._compiler, self.written = None, {}

    def of(self, kind: type) -> Callable[..., Any]:
        """What to call for a module of this kind, in the place of `kind.forward`."""
        plain: Callable[..., Any] = kind.forward  # type: ignore[attr-defined]
        if self._compiler is None:
            return plain
        key = (id(self._compiler), kind)
        if key not in self._functions:

            def run_region(module: Any, *arguments: Any, **keywords: Any) -> Any:
                return plain(module, *arguments, **keywords)

            self._functions[key] = self._compiler.compile(run_region)
        return self._functions[key]


class Region:
    """Stands in for a module's `forward`."""

    def __init__(self, module: nn.Module, functions: RegionFunctions) -> None:
        self._module = module
        self._functions = functions

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        written = self._functions.written.get(self._module)
        if written is not None:
            return written(*arguments, **keywords)
        return self._functions.of(type(self._module))(self._module, *arguments, **keywords)


def install_regions(model: Any) -> RegionFunctions:
    """Make regions of the decoder layers, of the other parts of the base model that run in each step, and of the head.

    Raises Unsupported where the model has no list of layers.
    """
    functions = RegionFunctions()
    base = model.base_model
    layers = [child for child in base.children() if isinstance(child, nn.ModuleList) and len(child)]
    if len(layers) != 1:
        raise Unsupported(f"{type(base).__name__} has {len(layers)} lists of layers; compiled_graph needs one")
    head = model.get_output_embeddings()
    parts = [child for child in base.children() if not isinstance(child, nn.ModuleList)]
    for module in [*layers[0], *parts, *([head] if head is not None else [])]:
        module.forward = Region(module, functions)
    return functions

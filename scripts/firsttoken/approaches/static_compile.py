"""A control: stock `generate(cache_implementation="static")`, compiled as transformers does by itself on a GPU."""

from __future__ import annotations

from pathlib import Path

import msgspec

from firsttoken.approaches._generate import GenerateApproach
from firsttoken.plan import Plan, Unsupported
from firsttoken.results import Facts, SetupTimes


class StaticCompile(GenerateApproach):
    """What a user tries first: prefill eager, decode compiled in mode reduce-overhead (Inductor's CUDA graphs)."""

    name = "static_compile"
    title = "generate() with static cache, compiled"
    graphs = True
    emulation = "decode is compiled for the CPU, without CUDA graphs"
    dynamic_operations = "native"
    control = True
    generate_arguments = {"cache_implementation": "static"}  # noqa: RUF012 (the base declares it ClassVar)

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        from firsttoken.engine.compilation import compile_count, use_compile_cache

        self._cache_state = use_compile_cache(plan.compile_cache_dir)
        setup = super().load(model_dir, plan)
        self._compiled_at_start = compile_count()
        return setup

    def _warm_up(self) -> None:
        from transformers import CompileConfig

        if not self._model._can_compile_fullgraph:
            raise Unsupported(f"{type(self._model).__name__} has no compileable static cache in transformers")
        if self._plan.device == "cpu":
            # transformers compiles by itself on accelerators only; this is its own switch for other devices.
            compile_config = CompileConfig(mode="default")
            compile_config._compile_all_devices = True  # type: ignore[assignment]
            self._model.generation_config.compile_config = compile_config
        super()._warm_up()

    def _check_one_prefill_a_request(self) -> None:
        """A forward hook would be compiled into the decode step; `generate` is the baseline's, where it was checked."""

    def counters(self) -> dict[str, float]:
        from firsttoken.engine.compilation import compile_count

        return {**super().counters(), "recompiles": compile_count() - self._compiled_at_start}

    def facts(self) -> Facts:
        return msgspec.structs.replace(super().facts(), compile_cache=self._cache_state)

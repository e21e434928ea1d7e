"""llama.cpp: the engine that people run on a laptop, through its own C API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from firsttoken.approaches.base import Approach, DiscardingSink, TokenSink
from firsttoken.external.llama_cpp.engine import find_gguf
from firsttoken.external.llama_cpp.library import HOW_TO_BUILD, library_path, open_library
from firsttoken.external.llama_cpp.runtime import Runtime
from firsttoken.files import atomic_path
from firsttoken.plan import Device, Plan, check_fits
from firsttoken.results import Availability, Facts, SetupTimes


class LlamaCpp(Approach):
    """Token ids in, token ids out, in the harness's own process; no tokenizer, no text."""

    name = "llama_cpp"
    title = "llama.cpp"
    dynamic_operations = "engine"
    environment = "llama_cpp"
    packages = ("xllamacpp", "llama_cpp_python", "gguf")  # one of the first two
    needs_engine = True

    _runtime: Runtime | None = None

    @classmethod
    def approximate(cls, device: Device, dtype: str) -> str:
        how = {"float16": "adds in float16", "float32": "rounds factors to TF32"}.get(dtype)  # docs/llama-cpp.md
        return f"llama.cpp {how} on a GPU" if device == "cuda" and how else ""

    @classmethod
    def availability(cls, device: Device, dtype: str, to_be_installed: bool = False) -> Availability:
        """The library itself is asked, since only it knows whether it was built for GPUs."""
        try:  # Snakemake would install the wheel, which is for CPUs
            for_gpus = not to_be_installed and open_library(library_path()).llama_supports_gpu_offload()
        except RuntimeError as error:
            return Availability(status="unavailable", reason=str(error))
        if device == "cuda" and not for_gpus:
            where = "Snakemake installs" if to_be_installed else "is installed here"
            reason = f"the llama.cpp that {where} was built for CPUs; {HOW_TO_BUILD}"
            return Availability(status="unavailable", reason=reason)
        return super().availability(device, dtype, to_be_installed=True)  # its packages are found above

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        """Load the GGUF file in `plan.engine_dir`, run every prompt length twice."""
        start = time.perf_counter()
        gguf = find_gguf(plan)
        library = open_library(library_path())
        imported = time.perf_counter()
        self._plan = plan
        self._runtime = Runtime(library, gguf, plan)
        loaded = time.perf_counter()
        self._prefills = self._decode_steps = 0
        for length in plan.prompt_lengths:
            for _ in range(2):
                self.generate([1] * length, plan.new_tokens, DiscardingSink())
        self._prefills = self._decode_steps = 0
        warm = time.perf_counter()
        return SetupTimes(imports_s=imported - start, load_s=loaded - imported, warm_up_s=warm - loaded)

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        """Raises ValueError where the request does not fit the context, which llama.cpp has rounded up."""
        check_fits(len(prompt_ids), max_new_tokens, self._plan.max_context)
        runtime = self._loaded()
        runtime.prefill(prompt_ids)
        token = runtime.sample()
        sink.push(token)
        for _ in range(max_new_tokens - 1):
            runtime.decode(token)
            token = runtime.sample()
            sink.push(token)
        self._prefills += 1
        self._decode_steps += max_new_tokens - 1

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        import numpy as np
        from safetensors.numpy import save

        runtime = self._loaded()
        runtime.prefill(prompt_ids)
        rows = [runtime.logits().copy()]
        for token in continuation_ids[:-1]:
            runtime.decode(token)
            rows.append(runtime.logits().copy())
        with atomic_path(path) as temporary:
            temporary.write_bytes(save({"logits": np.stack(rows)}))
        return True

    def counters(self) -> dict[str, float]:
        return {"prefills": self._prefills, "decode_steps": self._decode_steps, "recompiles": 0}

    def facts(self) -> Facts:
        settings = self._loaded().settings
        return Facts(
            attention=f"llama.cpp, flash attention {settings['flash_attention']}",
            tf32="on" if self._plan.device == "cuda" and self._plan.dtype == "float32" else "off",
            settings=settings,
        )

    def close(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()

    def _loaded(self) -> Runtime:
        if self._runtime is None:
            raise RuntimeError("llama.cpp is not loaded, or closed")
        return self._runtime

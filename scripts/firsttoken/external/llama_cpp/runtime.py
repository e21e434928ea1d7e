"""A model in llama.cpp at batch size 1: prefill, decode, sample, logits."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.external.llama_cpp import library as api
from firsttoken.external.llama_cpp.settings import context_params, gpu_handle, model_params, sampler_chain
from firsttoken.plan import Plan
from firsttoken.results import Setting

if TYPE_CHECKING:
    import numpy as np

LOG = logging.getLogger("llama.cpp")


class Runtime:
    """One model and one context, sequence 0. Not thread-safe; `close` is idempotent.

    `settings` is what llama.cpp was told and what it made of it, for the run record.
    """

    settings: dict[str, Setting]
    _model: int | None = None  # llama.cpp's handles
    _context: int | None = None
    _chain: int | None = None  # of samplers; None: greedy
    _penalties: int | None = None  # the one in the chain that has to hear of the prompt
    _memory: int
    _vocab: int
    _token: Any  # int32 [1]
    _one: api.Batch  # that token

    def __init__(self, library: Any, gguf: Path, plan: Plan) -> None:
        """Load the file and make the context. Raises RuntimeError with llama.cpp's own last error where it cannot, or
        where on a GPU a layer stays on the host."""
        self._library = library
        self._messages: list[str] = []
        self._log_callback = api.LogCallback(self._take_message)
        import numpy

        self._numpy = numpy
        library.llama_log_set(self._log_callback, None)
        try:
            self._start(gguf, plan)
        except BaseException:
            self.close()
            raise

    def _start(self, gguf: Path, plan: Plan) -> None:
        library = self._library
        gpu_name, gpu = gpu_handle(library, plan.device)
        devices = (ctypes.c_void_p * 2)(gpu, None)  # ends at the first null: none on a CPU
        self._model = library.llama_model_load_from_file(str(gguf).encode(), model_params(library, plan, devices))
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {gguf}: {self._last_error()}")
        offloaded = self._found(r"offloaded (\d+/\d+) layers to GPU") or "none"
        if plan.device == "cuda" and len(set(offloaded.split("/"))) != 1:
            raise RuntimeError(f"llama.cpp offloaded {offloaded} layers to the GPU, not all; is its memory full?")
        params = context_params(library, plan)
        self._context = library.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot make a context for {gguf}: {self._last_error()}")
        self._memory = library.llama_get_memory(self._context)
        self._vocab = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model))
        if plan.sampling.method == "sample":
            self._chain, self._penalties = sampler_chain(library, plan, self._vocab)
        self._token = (ctypes.c_int32 * 1)()
        self._one = api.Batch(n_tokens=1, token=self._token)
        flash_attention = "off"
        if params.flash_attn_type != api.FLASH_ATTENTION_OFF:
            flash_attention = f"auto: {self._found(r'Flash Attention (enabled|not supported)') or 'not said'}"
        self.settings = {
            "device": gpu_name or "CPU",
            "offloaded_layers": offloaded,
            "flash_attention": flash_attention,
            "kv_cache_type": plan.dtype,
            "n_ctx": library.llama_n_ctx(self._context),
            "n_batch": library.llama_n_batch(self._context),
            "n_ubatch": library.llama_n_ubatch(self._context),
            "n_threads": library.llama_n_threads(self._context),
            "n_threads_batch": library.llama_n_threads_batch(self._context),
            "model": self._description(),
            "system_info": library.llama_print_system_info().decode().strip(" |"),
            "llama_version": library.llama_version().decode(),
            "ggml_version": library.ggml_version().decode(),
        }
        self._messages.clear()

    def prefill(self, prompt_ids: Sequence[int]) -> None:
        """Forget the last request and compute the prompt in one step."""
        library = self._library
        library.llama_memory_clear(self._memory, False)
        tokens = (ctypes.c_int32 * len(prompt_ids))(*prompt_ids)
        if self._penalties is not None:
            library.llama_sampler_reset(self._penalties)
            for token in prompt_ids:
                library.llama_sampler_accept(self._penalties, token)
        self._check(library.llama_decode(self._context, api.Batch(n_tokens=len(prompt_ids), token=tokens)))

    def decode(self, token: int) -> None:
        """Compute the next position."""
        self._token[0] = token
        self._check(self._library.llama_decode(self._context, self._one))

    def sample(self) -> int:
        """The token that follows the last computed position. Waits for it where a GPU computes.

        Greedy is the largest logit, read where llama.cpp left it: its greedy sampler first copies each logit into a
        struct of its own (benchmarks/llama_cpp_greedy.py).
        """
        if self._chain is None:
            return int(self.logits().argmax())
        return int(self._library.llama_sampler_sample(self._chain, self._context, -1))

    def logits(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The logits of the last computed position, float32 `[vocab]`: llama.cpp's own memory until the next step."""
        values = self._library.llama_get_logits_ith(self._context, -1)
        return self._numpy.ctypeslib.as_array(values, (self._vocab,))

    def close(self) -> None:
        """Free all of it; idempotent."""
        library = self._library
        chain, context, model = self._chain, self._context, self._model
        self._chain = self._context = self._model = None
        if chain:
            library.llama_sampler_free(chain)
        if context:
            library.llama_free(context)
        if model:
            library.llama_model_free(model)
        library.llama_log_set(api.LogCallback(), None)  # ours goes with this object

    def _check(self, code: int) -> None:
        if code:
            raise RuntimeError(f"llama_decode returned {code}: {self._last_error()}")

    def _description(self) -> str:
        text = ctypes.create_string_buffer(128)
        self._library.llama_model_desc(self._model, text, len(text))
        return text.value.decode()

    def _take_message(self, level: int, text: bytes, _: object) -> None:
        message = text.decode(errors="replace").strip()
        self._messages.append(message)
        if level in (api.LOG_WARN, api.LOG_ERROR):
            LOG.warning("%s", message)

    def _found(self, pattern: str) -> str:
        matches = re.findall(pattern, "\n".join(self._messages))
        return str(matches[-1]) if matches else ""

    def _last_error(self) -> str:
        return self._messages[-1] if self._messages else "it said nothing"

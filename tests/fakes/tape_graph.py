"""A CUDA graph's stand-in on a CPU: what a step does is recorded as a tape of operators and replayed from the tape.

As strict as the real one where it matters. A capture runs on shadow copies, so nothing that is live changes; numbers,
shapes and addresses are baked into the tape, and no Python of the step runs in a replay. Refused: reading a value on
the host or bringing new data from it (while capturing), and a buffer that has moved since the capture. A tensor that
the step made and left for its caller stays what it was on the shadow copies: whoever reads it after a replay reads the
wrong thing, as he would in a pool of device memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from firsttoken.engine.backend import CpuBackend
from firsttoken.engine.token_ring import RING_SLOTS, PinnedRing

# Operators that would wait for the device, or read host memory that a replay will not have.
REFUSED = {
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::equal",
    "aten::masked_select", "aten::lift_fresh", "aten::_unique2", "aten::unique_consecutive",
}  # fmt: skip


class CaptureRefused(RuntimeError):
    """What CUDA says as cudaErrorStreamCaptureUnsupported."""


def _tensors(result: Any) -> list[torch.Tensor]:
    return [value for value in (result if isinstance(result, (tuple, list)) else (result,)) if torch.is_tensor(value)]


class _Slot:
    """Stands in the tape for the result of an earlier operator."""

    def __init__(self, index: int) -> None:
        self.index = index


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape: list[tuple[Any, Any, Any, Any]] = []
        self.slots: dict[int, int] = {}  # id of a tensor made while recording -> its slot
        self.made = 0
        self.kept: list[Any] = []  # so that ids stay unique
        self.shadows: dict[int, torch.UntypedStorage] = {}  # address of live storage -> its copy
        self.live: dict[int, torch.Tensor] = {}  # address -> a live tensor, as the tape refers to it

    def _shadow(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.shadows:
            self.shadows[storage.data_ptr()] = storage.clone()
        copy = self.shadows[storage.data_ptr()]
        with torch.inference_mode(False):
            shadow = torch.empty(0, dtype=tensor.dtype)
            return shadow.set_(copy, tensor.storage_offset(), tensor.size(), tensor.stride())

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.name in REFUSED:
            raise CaptureRefused(f"operation not permitted when stream is capturing: {func._schema.name}")

        def for_tape(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) in self.slots:
                return _Slot(self.slots[id(value)])
            self.live[value.data_ptr()] = value
            return value

        def for_now(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or id(value) in self.slots:
                return value
            return self._shadow(value)

        recorded = tree_map(for_tape, (args, kwargs))
        now_args, now_kwargs = tree_map(for_now, (args, kwargs))
        result = func(*now_args, **now_kwargs)
        self.kept.append((result, args, now_args))
        outputs = range(self.made, self.made + len(_tensors(result)))
        self.made = outputs.stop
        self.slots.update((id(tensor), index) for tensor, index in zip(_tensors(result), outputs, strict=True))
        self.tape.append((func, *recorded, outputs))
        return result


class TapeGraph:
    """One recorded step."""

    def __init__(self, live: Callable[[], None]) -> None:
        recorder = _Recorder()
        with torch.inference_mode(), recorder:
            live()
        self._tape: list[tuple[Any, Any, Any, Any]] | None = recorder.tape
        self._addresses = [(weakref.ref(tensor), address) for address, tensor in recorder.live.items()]
        self.bytes = 1000 * len(recorder.tape)  # a size of its own, so that limits by bytes can be tested
        self.replays = 0

    def replay(self) -> None:
        if self._tape is None:
            raise RuntimeError("replay of a graph that was closed")
        for reference, address in self._addresses:
            tensor = reference()
            if tensor is not None and tensor.data_ptr() != address:
                raise RuntimeError("a buffer has moved since the capture")
        values: dict[int, torch.Tensor] = {}

        def resolve(value: Any) -> Any:
            return values[value.index] if isinstance(value, _Slot) else value

        for func, args, kwargs, outputs in self._tape:
            args, kwargs = tree_map(resolve, (args, kwargs))
            result = func(*args, **kwargs)
            values.update(zip(outputs, _tensors(result), strict=True))
        self.replays += 1

    def close(self) -> None:
        self._tape = None


class LateEvent:
    """The arrival of a copy in pinned memory: until `synchronize`, the host memory holds something else."""

    def __init__(self, host: torch.Tensor) -> None:
        self._host = host
        self._coming: torch.Tensor | None = None

    def record(self) -> None:
        self._coming = self._host.clone()
        self._host.fill_(-1)

    def synchronize(self) -> None:
        if self._coming is not None:
            arrived = self._coming != -1
            self._host[arrived] = self._coming[arrived]
            self._coming = None


class TapeBackend(CpuBackend):
    """A CPU whose steps are tapes, and whose tokens arrive as late as a device's. `fail_next` captures raise what CUDA
    would."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: list[TapeGraph] = []
        self.warm_ups = 0
        self.fail_next = 0

    def ring(self, token: torch.Tensor) -> PinnedRing:
        host = torch.zeros(RING_SLOTS, dtype=torch.int64)
        return PinnedRing(token, host, lambda: LateEvent(host))

    def make_step(self, live: Callable[[], None], warm_up: Callable[[], None] | None) -> Any:
        if warm_up is not None:
            self.warm_ups += 1
            with torch.inference_mode():
                warm_up()
        if self.fail_next:
            self.fail_next -= 1
            raise CaptureRefused("operation failed due to a previous error during capture")
        graph = TapeGraph(live)
        self.graphs.append(graph)
        return graph

"""The contract between an approach and the harness: the only door between them.

An approach is a module `firsttoken.approaches.<name>` with one class that derives from `Approach` and whose `name` is
the module's. What the module needs beyond the standard library, numpy and msgspec is imported when it is loaded, so
that listing the approaches costs nothing and an environment carries only what it runs.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import ClassVar, Literal, Protocol, Self

from firsttoken.plan import Device, Plan
from firsttoken.results import Availability, Facts, MemoryReport, SetupTimes, TokenTiming


class TokenSink(Protocol):
    """Where an approach pushes tokens; the harness's sink stamps each with `perf_counter_ns()`."""

    def push(self, token: int) -> None:
        """One token, now visible on the client's host as an `int`."""

    def push_chunk(self, tokens: Sequence[int]) -> None:
        """Several tokens that became visible together."""


class DiscardingSink:
    """A `TokenSink` for warm-up."""

    def push(self, token: int) -> None:
        pass

    def push_chunk(self, tokens: Sequence[int]) -> None:
        pass


class Approach(ABC):
    """One way of running a model at batch size 1. Used as a context manager; `close` runs on every way out."""

    name: ClassVar[str]
    title: ClassVar[str]
    processes: ClassVar[int] = 1
    graphs: ClassVar[bool] = False  # replays CUDA graphs: ours is `emulated` on a CPU
    emulation: ClassVar[str] = "each graph replay is replaced by the step run eagerly"
    dynamic_operations: ClassVar[Literal["native", "published", "jit", "captured", "engine", "none"]] = "native"
    control: ClassVar[bool] = False  # True: explains the others, is not a contender
    environment: ClassVar[str] = "base"  # the software that it runs in: envs/<environment>.yaml
    packages: ClassVar[tuple[str, ...]] = ()  # that measurements depend on, beside ours; the engine first
    devices: ClassVar[tuple[Device, ...]] = ("cpu", "cuda")
    gives_logits: ClassVar[bool] = True  # `save_logits` writes them
    needs_engine: ClassVar[bool] = False  # external/<environment>/engine.py prepares one for the study beforehand

    @classmethod
    def approximate(cls, device: Device, dtype: str) -> str:
        """How it computes another function than the model's, by design; "" where it is held to equality."""
        return ""

    @classmethod
    def availability(cls, device: Device, dtype: str, to_be_installed: bool = False) -> Availability:
        """Whether this approach can run on `device` here, with weights in `dtype`; cheap, imports nothing heavy.

        It is asked in the interpreter of the approach's environment, or, where there is none, in the one that runs
        Snakemake. `to_be_installed`: Snakemake will install the environment, so the engine need not be here yet.
        """
        if device not in cls.devices:
            return Availability(status="unavailable", reason=f"{cls.title} needs an NVIDIA GPU")
        if cls.packages and not to_be_installed and not installed(cls.packages[0]):
            reason = f"{cls.packages[0]} is not installed here: make env-{cls.environment}"
            return Availability(status="unavailable", reason=reason)
        if cls.graphs and cls.environment == "base" and device == "cpu":
            return Availability(status="emulated", reason=f"no CUDA device: {cls.emulation}")
        if how := cls.approximate(device, dtype):
            reason = f"{how}; its error stands beside its latency, and it is in no ranking"
            return Availability(status="approximate", reason=reason)
        return Availability(status="measured")

    @classmethod
    def deployed(cls, methods: Sequence[str], device: Device, dtype: str) -> Availability:
        """The same where Snakemake deploys environments with `methods`, e.g. ["conda"]."""
        return cls.availability(device, dtype, to_be_installed="conda" in methods)

    @abstractmethod
    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        """Load weights, compile, capture and warm every shape in the plan. Raises `Unsupported` for a model it cannot
        serve."""

    @abstractmethod
    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        """Push exactly `max_new_tokens` tokens (end-of-sequence ignored) and return when the last has been pushed."""

    def timings(self) -> Sequence[TokenTiming]:
        """How the latency of each token of the last request splits; empty where the approach cannot tell."""
        return ()

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        """Write teacher-forced logits, float32 `[len(continuation_ids), vocab]`, key `logits`, as safetensors.

        Row i is what predicts `continuation_ids[i]`. Uses the approach's own prefill and decode steps. Returns False
        where the approach does not offer them.
        """
        return False

    def memory(self) -> MemoryReport:
        """Peaks since `load`."""
        return MemoryReport()

    def counters(self) -> dict[str, float]:
        """Numbers since `load`; `recompiles` and `captures` must not grow while measuring."""
        return {}

    def facts(self) -> Facts:
        """How it computes, for the run record."""
        return Facts()

    @abstractmethod
    def close(self) -> None:
        """Idempotent; leaves no process, socket or shared memory behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def installed(distribution: str) -> bool:
    """Whether this interpreter has a package."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


@cache
def approach_names() -> tuple[str, ...]:
    """All approaches: the modules of this package that do not serve the others."""
    package = importlib.import_module("firsttoken.approaches")
    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(name for name in modules if name != "base" and not name.startswith("_"))


def approach_class(name: str) -> type[Approach]:
    """The class of an approach by its config name. Raises ValueError that names the known ones."""
    if name not in approach_names():
        raise ValueError(f"unknown approach {name!r}; known: {', '.join(approach_names())}")
    module = importlib.import_module(f"firsttoken.approaches.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Approach) and value.__dict__.get("name") == name:
            return value
    raise ValueError(f"approaches/{name}.py has no Approach class with name = {name!r}")

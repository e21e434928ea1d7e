"""What a run leaves: statuses, times, records. Typed structs, as in `plan`."""

from __future__ import annotations

from typing import Literal

from firsttoken.plan import Device, FileEntry, Record

Status = Literal["measured", "emulated", "approximate", "unavailable", "failed"]
GradMode = Literal["", "no_grad", "inference_mode"]
Setting = str | int | float | bool
Bound = Literal["bandwidth", "arithmetic"]  # which ceiling sets a floor


class Availability(Record, frozen=True, kw_only=True):
    """Whether an approach can run on a machine; `reason` is one sentence that says what is missing and what to do."""

    status: Status
    reason: str = ""


class SetupTimes(Record, frozen=True, kw_only=True):
    """Seconds from the start of the process until ready, by part; parts that an approach does not have are 0."""

    imports_s: float = 0.0
    load_s: float = 0.0
    compile_s: float = 0.0
    capture_s: float = 0.0
    warm_up_s: float = 0.0


class MemoryReport(Record, frozen=True, kw_only=True):
    """Peaks as the approach's own allocator sees them; None where there is none (CPU)."""

    device_allocated_bytes: int | None = None
    device_reserved_bytes: int | None = None
    graph_bytes: int | None = None  # held by captured graphs


class Facts(Record, frozen=True, kw_only=True):
    """How an approach computes, for its run record."""

    attention: str = ""  # implementation in use
    tf32: Literal["on", "off"] = "off"
    compile_cache: Literal["none", "cold", "cached"] = "none"
    kernels: str = ""  # what the steps run by, where an approach has a choice, and why
    weight_bits: int | None = None  # of quantised weights; None: they are in the study's dtype
    ahead: int | None = None  # decode steps queued before a token is read; None: not ours to say
    spin_us: int | None = None  # how long client and generator poll before they block; None: no generator of ours
    grad_mode: GradMode = ""  # in which the forward runs; "": not in PyTorch, or not recorded
    settings: dict[str, Setting] = {}  # noqa: RUF012 (what an engine of its own was told; msgspec copies it)


class TokenTiming(Record, frozen=True, kw_only=True):
    """Where one token's latency went, read after the request; None where an approach cannot tell.

    `ipc` is socket time both ways, `queue` waiting for the engine thread, `lookup` finding the graph, `launch` the host
    time to launch the step, `device` the step on the device, `sampling` the dynamic operations.
    """

    device_ns: int | None = None
    ipc_ns: int | None = None
    queue_ns: int | None = None
    lookup_ns: int | None = None
    launch_ns: int | None = None
    sampling_ns: int | None = None
    pool_hit: bool | None = None


class Gpu(Record, frozen=True, kw_only=True):
    name: str
    uuid: str
    memory_bytes: int
    compute_capability: str


class Environment(Record, frozen=True, kw_only=True):
    """`results/{study}/environment.json`."""

    fingerprint: str
    device: Device
    gpu: Gpu | None
    driver: str
    cuda: str
    cpu: str
    cores: int
    threads: int
    memory_bytes: int
    os: str
    python: str
    packages: dict[str, str]
    environments: dict[str, dict[str, str]] = {}  # noqa: RUF012 (of engines: versions by package, and of "python")
    deployment: str
    approaches: dict[str, Availability]
    git_commit: str
    git_dirty: bool
    recorded_at: str


class Floor(Record, frozen=True, kw_only=True):
    """The least time that one prompt length can take on this device, in milliseconds, and which ceiling sets it.

    `library_ttft_ms` is no bound: what the library takes for the model's matrix products of a prefill, measured.
    """

    prompt_length: int
    ttft_ms: float
    ttft_bound: Bound
    itl_ms: float
    itl_bound: Bound
    library_ttft_ms: float | None = None  # None: not measured (experts; studies before 0.1.0)


class DatasheetPeak(Record, frozen=True, kw_only=True):
    """What the vendor's document says of this device, from `config/devices.csv`; to compare with, never used."""

    read_bandwidth_bytes_per_s: float
    matrix_flops_per_s: float | None  # dense, in the study's dtype; None: the document does not give it
    document: str
    url: str


class Ceilings(Record, frozen=True, kw_only=True):
    """`results/{study}/ceilings.json`: measured in one run, with all samples of the best kernels."""

    device: Device
    dtype: str
    read_bandwidth_bytes_per_s: float
    read_bandwidth_kernel: str = ""  # which reached it; empty: not recorded
    read_bandwidth_samples: tuple[float, ...]
    matrix_flops_per_s: float
    matrix_flops_kernel: str = ""
    matrix_flops_samples: tuple[float, ...]
    matrix_flops_per_s_sustained: float | None = None  # of the same kernel; None: not measured
    datasheet: DatasheetPeak | None = None  # None: `config/devices.csv` does not name this device
    last_level_cache_bytes: int
    weights_fit_in_cache: bool
    floors: tuple[Floor, ...]
    floors_int8: tuple[Floor, ...] = ()  # of 8-bit weights with a float32 scale a row; older studies have none


class EngineManifest(Record, frozen=True, kw_only=True):
    """`results/{study}/engine/{environment}.json`: what an engine of its own runs and how it was made."""

    status: Status  # measured: it was built; unavailable: this model or plan cannot be built, and why
    reason: str = ""
    architecture: str
    dtype: str
    versions: dict[str, str]
    gpu: Gpu | None  # that it was made for; None: it runs on any device
    options: dict[str, Setting]  # as they were asked for
    environment: dict[str, str]  # variables set for build and run
    build_s: float = 0.0  # all of it: conversion, build, a first start
    files: tuple[FileEntry, ...] = ()


class MemoryRecord(MemoryReport, frozen=True, kw_only=True):
    """Peaks over a whole run, bytes: with those of the approach's own allocator, those that others see."""

    device_process_tree_bytes: int | None = None
    device_over_idle_bytes: int | None = None
    host_peak_bytes: int | None = None


class TelemetrySummary(Record, frozen=True, kw_only=True):
    """What the sampler saw during the measured requests."""

    source: Literal["nvml", "cpu", "none"]
    samples: int = 0
    interval_s: float = 0.1
    sm_clock_mhz_min: float | None = None
    sm_clock_mhz_median: float | None = None
    memory_clock_mhz_median: float | None = None
    temperature_c_max: float | None = None
    power_w_mean: float | None = None
    power_cap_share: float | None = None  # readings at the GPU's power limit, 0 to 1
    energy_j: float | None = None
    energy_j_per_token: float | None = None
    cpu_load_mean: float | None = None  # of the whole machine, 0 to 1
    other_cores_median: float | None = None  # cores that others kept busy in the usual half second
    cpu_mhz_median: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    other_processes: int = 0
    tainted_windows: tuple[tuple[int, int], ...] = ()  # CLOCK_MONOTONIC ns, start and end
    taint_reasons: tuple[str, ...] = ()


class RunRecord(Record, frozen=True, kw_only=True):
    """`results/{study}/raw/{approach}/{repeat}.json`: one fresh process of one approach."""

    approach: str
    title: str
    repeat: int
    status: Status
    reason: str = ""
    device: Device
    dtype: str
    attention: str = ""
    tf32: bool = False
    processes: int = 1
    graphs: bool = False
    dynamic_operations: str = ""
    threads: int = 1
    requests: int = 0
    tokens: int = 0
    tainted_requests: int = 0
    setup: SetupTimes = SetupTimes()
    ready_s: float | None = None  # process start to ready
    cold_ttft_ms: float | None = None
    memory: MemoryRecord = MemoryRecord()
    counters: dict[str, float] = {}  # noqa: RUF012 (msgspec copies it)
    telemetry: TelemetrySummary = TelemetrySummary(source="none")
    compile_cache: Literal["none", "cold", "cached"] = "none"
    ahead: int | None = None  # decode steps queued before a token is read; None: not known
    spin_us: int | None = None  # how long client and generator poll before they block; None: not known, or one process
    grad_mode: GradMode = ""
    kernels: str = ""  # what the steps run by, where an approach has a choice, and why
    weight_bits: int | None = None  # of quantised weights; None: they are in the study's dtype
    settings: dict[str, Setting] = {}  # noqa: RUF012 (of an engine of its own, as it was told and as it chose)
    model_hash: str = ""
    code_sha256: str = ""
    fingerprint: str = ""
    gpu_uuid: str = ""  # "": a CPU, or not recorded
    versions: dict[str, str] = {}  # noqa: RUF012
    order_seed: int = 0
    started_at: str = ""
    duration_s: float = 0.0

    @property
    def machine(self) -> str:
        """The fingerprint's first part, which approaches of all environments share."""
        return self.fingerprint.partition("-")[0]


class TokenSequence(Record, frozen=True, kw_only=True):
    """One sequence of tokens, and how many requests of a prompt gave it."""

    tokens: tuple[int, ...]
    requests: int


class PromptTokens(Record, frozen=True, kw_only=True):
    prompt_length: int
    prompt_index: int
    answers: tuple[TokenSequence, ...]  # each distinct sequence, the first request's first; one under greedy
    logits_file: str | None = None  # relative to the run's logits folder; None: not offered


class TokensRecord(Record, frozen=True, kw_only=True):
    """`results/{study}/raw/{approach}/{repeat}.tokens.json`."""

    approach: str
    repeat: int
    logits_reason: str = ""  # why there are no logits, when there are none
    prompts: tuple[PromptTokens, ...]

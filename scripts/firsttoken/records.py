"""Everything that crosses a process or a file boundary, as typed structs.

The JSON files of a study are these structs: `files.write_json` validates on writing, `files.read_json` on reading, and
`msgspec.json.schema(RunRecord)` is the JSON Schema. Needs only the standard library and msgspec, so that the client of
a generator process and the TensorRT-LLM environment can import it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["measured", "emulated", "unavailable", "failed"]
Device = Literal["cpu", "cuda"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all structs: immutable, keywords only, unknown fields are errors."""


# ---------------------------------------------------------------- the plan that an approach gets


class Sampling(Record, frozen=True, kw_only=True):
    """How the next token is chosen. `greedy` ignores the other fields; top_k 0 and top_p 1 mean "off"."""

    method: Literal["greedy", "sample"] = "greedy"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


class GraphOptions(Record, frozen=True, kw_only=True):
    """The rolling pool and the KV buckets. Empty buckets mean: exact prompt lengths; KV buckets by powers of two."""

    pool_capacity: int = 16
    pool_max_bytes: int = 0  # 0: no limit by bytes
    prefill_buckets: tuple[int, ...] = ()
    kv_buckets: tuple[int, ...] = ()
    capture_beforehand: bool = True  # capture the plan's prompt lengths in load()
    rolling: bool = True  # False: never evict (the control of the memory experiment)


class TensorRTOptions(Record, frozen=True, kw_only=True):
    """Runtime and build settings of TensorRT-LLM that a study may change; all are recorded in the results."""

    single_process: bool = False
    gemm_plugin: str = "auto"


class Plan(Record, frozen=True, kw_only=True):
    """What a run has to serve; everything `Approach.load` needs besides the weights."""

    prompt_lengths: tuple[int, ...]
    new_tokens: int
    max_context: int  # positions that the KV cache must hold: longest prompt + new_tokens
    dtype: Literal["float32", "float16", "bfloat16"]
    device: Device
    sampling: Sampling = Sampling()
    seed: int = 1
    threads: int = 1
    jit_backend: Literal["inductor", "torchscript"] = "inductor"
    compile_cache_dir: str = ""  # private to the approach in the study; "" means the library's default
    graphs: GraphOptions = GraphOptions()
    tensorrt_llm: TensorRTOptions = TensorRTOptions()
    engine_dir: str = ""  # tensorrt_llm: the folder that build_trtllm_engine made


# ---------------------------------------------------------------- what an approach reports


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


# ---------------------------------------------------------------- files of a study


class FileEntry(Record, frozen=True, kw_only=True):
    path: str
    bytes: int
    sha256: str


class ModelManifest(Record, frozen=True, kw_only=True):
    """`results/models/{model}-{hash}.json`."""

    name: str
    source: Literal["synthetic", "huggingface", "local"]
    origin: str  # "synthetic: llama, seed 1", repo id, or folder
    revision: str
    architecture: str  # class name, e.g. LlamaForCausalLM
    weights: Literal["trained", "random"]
    parameters: int
    weight_bytes: int
    read_bytes_per_token: int  # weights that a decode step reads: all but an untied embedding table
    kv_bytes_per_token: int  # in the stored dtype
    flops_per_token: int  # 2 x multiply-accumulate weights, attention not counted
    head_flops: int = 0  # of those, the vocabulary projection's, which a prefill does once; 0: not known
    attention_window: int = 0  # positions that the narrowest layer attends to; 0: all
    max_context: int
    vocab_size: int
    files: tuple[FileEntry, ...]


class ModelCheck(Record, frozen=True, kw_only=True):
    """`results/{study}/model_check.json`: the model's files as they were hashed on disk; the same as the manifest's."""

    files: tuple[FileEntry, ...]


class FileStat(Record, frozen=True, kw_only=True):
    """What stat says of a file: enough to tell whether it was written or replaced. Shared file systems keep all three
    from node to node."""

    path: str
    bytes: int
    mtime_ns: int
    inode: int


class ModelStat(Record, frozen=True, kw_only=True):
    """`results/{study}/.cache/model_stat.json`: `model_check.json`'s files where they were hashed. Does not ship."""

    host: str  # the machine that hashed them; others that share its file system may measure
    files: tuple[FileStat, ...]


class Prompt(Record, frozen=True, kw_only=True):
    index: int  # within its length
    length: int
    offset: int  # where in the tokenised corpus it starts
    token_ids: tuple[int, ...]


class Prompts(Record, frozen=True, kw_only=True):
    """`results/{study}/prompts.json`: real text, exact lengths, never padded."""

    seed: int
    corpus_sha256: str
    tokenizer_sha256: str
    prompts: tuple[Prompt, ...]


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
    deployment: str
    approaches: dict[str, Availability]
    git_commit: str
    git_dirty: bool
    recorded_at: str


class Floor(Record, frozen=True, kw_only=True):
    """The least time that one prompt length can take on this device, in milliseconds, and which ceiling sets it."""

    prompt_length: int
    ttft_ms: float
    ttft_bound: Literal["bandwidth", "arithmetic"]
    itl_ms: float
    itl_bound: Literal["bandwidth", "arithmetic"]


class Ceilings(Record, frozen=True, kw_only=True):
    """`results/{study}/ceilings.json`: measured, with the raw repeats kept."""

    device: Device
    dtype: str
    read_bandwidth_bytes_per_s: float
    read_bandwidth_samples: tuple[float, ...]
    matrix_flops_per_s: float
    matrix_flops_samples: tuple[float, ...]
    last_level_cache_bytes: int
    weights_fit_in_cache: bool
    floors: tuple[Floor, ...]


class EngineManifest(Record, frozen=True, kw_only=True):
    """`results/{study}/engine.json`: what the TensorRT-LLM engine is and how it was made."""

    status: Status  # measured: it was built; unavailable: this model or plan cannot be built, and why
    reason: str = ""
    architecture: str
    dtype: str
    versions: dict[str, str]
    gpu: Gpu
    options: dict[str, str | int | bool]  # as they were asked for
    environment: dict[str, str]  # variables set for build and run
    build_s: float = 0.0  # conversion, build and first start of the runtime
    files: tuple[FileEntry, ...] = ()


class MemoryRecord(Record, frozen=True, kw_only=True):
    """Peaks over a whole run, bytes."""

    device_allocated_bytes: int | None = None
    device_reserved_bytes: int | None = None
    device_process_tree_bytes: int | None = None
    device_over_idle_bytes: int | None = None
    graph_bytes: int | None = None
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
    counters: dict[str, float] = {}
    telemetry: TelemetrySummary = TelemetrySummary(source="none")
    compile_cache: Literal["none", "cold", "cached"] = "none"
    kernels: str = ""  # what the steps run by, where an approach has a choice: "triton", or "inductor" and why
    model_hash: str = ""
    code_sha256: str = ""
    fingerprint: str = ""
    versions: dict[str, str] = {}
    order_seed: int = 0
    started_at: str = ""
    duration_s: float = 0.0


class Answer(Record, frozen=True, kw_only=True):
    """One sequence of tokens, and how many requests of a prompt gave it."""

    tokens: tuple[int, ...]
    requests: int


class PromptTokens(Record, frozen=True, kw_only=True):
    prompt_length: int
    prompt_index: int
    answers: tuple[Answer, ...]  # each distinct sequence, the first request's first; one under greedy
    logits_file: str | None = None  # relative to the run's logits folder; None: not offered


class TokensRecord(Record, frozen=True, kw_only=True):
    """`results/{study}/raw/{approach}/{repeat}.tokens.json`."""

    approach: str
    repeat: int
    logits_reason: str = ""  # why there are no logits, when there are none
    prompts: tuple[PromptTokens, ...]

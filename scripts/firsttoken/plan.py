"""What a run is asked to do: the plan, the model, the prompts; and the error of asking for what cannot be served.

Typed structs: `files.write_json` validates on writing, `files.read_json` on reading. Needs only the standard library
and msgspec, so that the client of a generator process and the environments of other engines can import it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Device = Literal["cpu", "cuda"]
INSTRUMENT = ("null", "null_2p")  # approaches that measure the harness in every study; never contenders
EXPERIMENT_TOKENS = {"pool_memory": 2, "clients": 4, "launches": 8}  # new ones of a request; else the workload's
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}  # of one value


class Unsupported(Exception):
    """An approach cannot serve this model or plan; the message is one sentence for the reader of the report."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all structs: immutable, keywords only, unknown fields are errors."""


class Sampling(Record, frozen=True, kw_only=True):
    """How the next token is chosen. `greedy` ignores the other fields; repetition_penalty 1, top_k 0 and top_p 1 mean
    "off". They apply in this order."""

    method: Literal["greedy", "sample"] = "greedy"
    repetition_penalty: float = 1.0
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
    spin_us: int = 0  # how long both sides of a socket poll before they block
    compile_cache_dir: str = ""  # private to the approach in the study; "" means the library's default
    graphs: GraphOptions = GraphOptions()
    tensorrt_llm: TensorRTOptions = TensorRTOptions()
    engine_dir: str = ""  # what the rule prepare_engine made, for approaches that need an engine


def check_fits(length: int, new_tokens: int, max_context: int) -> None:
    """Raise ValueError for a request that a cache of `max_context` positions cannot serve."""
    if length < 1 or new_tokens < 1:
        raise ValueError(f"a request needs a prompt and new tokens; got {length} and {new_tokens}")
    if length + new_tokens > max_context:
        raise ValueError(
            f"{length} prompt tokens and {new_tokens} new ones do not fit the KV cache of {max_context} positions; "
            "raise max_context"
        )


class FileEntry(Record, frozen=True, kw_only=True):
    path: str
    bytes: int
    sha256: str


class LinearLayer(Record, frozen=True, kw_only=True):
    """The matrix products of one shape in a forward pass: a row of `inputs` values gives one of `outputs`."""

    inputs: int
    outputs: int
    count: int
    head: bool = False  # the projection to the vocabulary, which a prefill does for the last row only


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
    linear_layers: tuple[LinearLayer, ...] = ()  # of one forward pass; none for experts: a router chooses theirs
    max_context: int
    vocab_size: int
    files: tuple[FileEntry, ...]


class ModelCheck(Record, frozen=True, kw_only=True):
    """`results/{study}/model_check.json`: the model's files as they were hashed on disk; the same as the manifest's."""

    files: tuple[FileEntry, ...]


class FileStat(Record, frozen=True, kw_only=True):
    """What stat says of a file: enough to tell whether it was written or replaced. Shared file systems keep it from
    node to node."""

    path: str
    bytes: int
    mtime_ns: int
    inode: int
    ctime_ns: int = 0  # nobody can set it back, but a hard link changes it, too


class ModelStat(Record, frozen=True, kw_only=True):
    """`results/{study}/.cache/model_stat.json`: `model_check.json`'s files where they were hashed. Does not ship."""

    host: str  # the machine that hashed them; others that share its file system may measure
    files: tuple[FileStat, ...]


class Prompt(Record, frozen=True, kw_only=True):
    index: int  # within its length
    length: int
    offset: int  # where in the tokenised corpus it starts; 0 for one of the user's own
    token_ids: tuple[int, ...]


class Prompts(Record, frozen=True, kw_only=True):
    """`results/{study}/prompts.json`: real text, exact lengths, never padded."""

    seed: int
    corpus_sha256: str  # of the text, or of the user's own prompts
    tokenizer_sha256: str
    prompts: tuple[Prompt, ...]

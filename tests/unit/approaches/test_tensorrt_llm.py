"""Both backends against the stand-in: streaming, chunks, wrong counts, a dying worker, what is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pyarrow.parquet as pq
import pytest

from fakes import trtllm
from fakes.sinks import Chunks
from firsttoken.approaches.tensorrt_llm import TensorRTLLM
from firsttoken.approaches.tensorrt_llm_nograph import TensorRTLLMNoGraph
from firsttoken.approaches.tensorrt_llm_pytorch import TensorRTLLMPyTorch
from firsttoken.external.tensorrt_llm.engine import manifest_path, prepare_engine
from firsttoken.files import read_json
from firsttoken.hf.eager_decode import greedy_decode
from firsttoken.measure import harness
from firsttoken.measure.harness import run_benchmark
from firsttoken.plan import Plan, Prompt, Prompts, Sampling, TensorRTOptions, Unsupported
from firsttoken.results import TokensRecord
from firsttoken.transient import Transient
from unit.measure.fakes import QuietTelemetry, make_outputs, make_request
from unit.tiny_models import build_tiny_model, prompt_ids, save_tiny_model


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with trtllm.installed(monkeypatch) as fake:
        yield fake


@pytest.fixture(params=[TensorRTLLM, TensorRTLLMPyTorch], ids=lambda approach: approach.name)
def backend(request: pytest.FixtureRequest) -> type[TensorRTLLM]:
    approach: type[TensorRTLLM] = request.param
    return approach


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_model("llama_gqa", tmp_path / "model")


@pytest.fixture
def plan(tmp_path: Path, model: Path, llm: Any) -> Plan:
    folder = tmp_path / "engine"
    prepare_engine(model, trtllm.plan(dtype="float16"), folder, manifest_path(folder))
    return trtllm.plan(dtype="float16", engine_dir=str(folder))


def test_streams_the_references_tokens_in_chunks_of_none_one_and_three(
    backend: type[TensorRTLLM], model: Path, plan: Plan, llm: Any
) -> None:
    sink = Chunks()
    with backend() as approach:
        setup = approach.load(model, plan)
        approach.generate(prompt_ids(9), 7, sink)
        counters, facts = approach.counters(), approach.facts()
    assert [len(chunk) for chunk in sink.chunks] == [1, 3, 1, 2]
    expected, _ = greedy_decode(build_tiny_model("llama_gqa"), prompt_ids(9), 7)
    assert [token for chunk in sink.chunks for token in chunk] == expected
    assert setup.load_s > 0 and setup.warm_up_s > 0
    assert (counters["executor_requests"], counters["worker_processes"], counters["single_process"]) == (1, 0, 1)
    assert counters["executor_ttft_ms_sum"] == pytest.approx(3) and counters[
        "executor_request_ms_sum"
    ] == pytest.approx(9)
    assert "in this process, with CUDA graphs" in facts.attention and facts.tf32 == "off"
    assert llm.instances[-1].is_shut_down


@pytest.mark.parametrize("approach_class, graphs", [(TensorRTLLM, True), (TensorRTLLMNoGraph, False)])
def test_the_engine_runs_with_cuda_graphs_or_without(
    model: Path, plan: Plan, llm: Any, approach_class: type[TensorRTLLM], graphs: bool
) -> None:
    with approach_class() as approach:
        approach.load(model, plan)
        knobs = llm.instances[-1].args.extended_runtime_perf_knob_config
        assert approach.facts().settings["extended_runtime_perf_knob_config.cuda_graph_mode"] is graphs
    assert (knobs.cuda_graph_mode, knobs.multi_block_mode) == (graphs, True)


def test_what_the_runtime_was_asked_for(backend: type[TensorRTLLM], model: Path, plan: Plan, llm: Any) -> None:
    with backend() as approach:
        approach.load(model, plan)
        args = llm.instances[-1].args
    assert (args.kv_cache_config.enable_block_reuse, args.kv_cache_config.enable_partial_reuse) == (False, False)
    assert (args.kv_cache_config.max_tokens, args.kv_cache_config.dtype) == (64, "auto")
    assert (args.max_batch_size, args.max_seq_len, args.enable_chunked_prefill) == (1, 32, False)
    assert (args.max_num_tokens, args.max_beam_width, args.skip_tokenizer_init) == (32, 1, True)


def test_what_the_runtime_was_told_and_chose_is_recorded(backend: type[TensorRTLLM], model: Path, plan: Plan) -> None:
    with backend() as approach:
        approach.load(model, plan)
        settings = approach.facts().settings
    assert settings["kv_cache_config.max_tokens"] == 64 and settings["kv_cache_config.enable_block_reuse"] is False
    assert settings["scheduler_config.capacity_scheduler_policy"] == "GUARANTEED_NO_EVICT"
    assert settings["TLLM_WORKER_USE_SINGLE_PROCESS"] == "1"
    assert settings["enable_chunked_prefill"] is False and settings["tensor_parallel_size"] == 1
    assert not {"model", "tokenizer", "build_config"} & set(settings), "a folder's name, what is unset, the manifest's"


def test_the_pytorch_backend_captures_one_batch_size_and_is_otherwise_as_shipped(
    model: Path, plan: Plan, llm: Any
) -> None:
    with TensorRTLLMPyTorch() as approach:
        approach.load(model, plan)
        runtime, facts = llm.instances[-1], approach.facts()
    assert facts.settings["cuda_graph_config.batch_sizes"] == "[1]"
    assert (facts.settings["disable_overlap_scheduler"], facts.settings["enable_autotuner"]) == (False, True)
    assert runtime.args.torch_compile_config is None and facts.settings["sampler_type"] == "auto"
    assert facts.attention.startswith("attention backend TRTLLM of TensorRT-LLM's PyTorch models, ")
    assert runtime.dtype == "float16", "read in config.json, where the weights' own dtype stood"


@pytest.mark.parametrize(
    "architecture, changes, reason",
    [
        ("llama_gqa", {"dtype": "float32"}, "float16 and bfloat16 only"),
        ("llama_gqa", {"sampling": Sampling(method="sample")}, "ignores a request's repetition penalty and seed"),
        ("gpt2", {}, "has no GPT2LMHeadModel"),
        ("mistral_window", {}, "window of 8"),
    ],
)
def test_what_the_pytorch_backend_would_serve_wrongly_is_unsupported(
    tmp_path: Path, llm: Any, architecture: str, changes: dict[str, Any], reason: str
) -> None:
    folder = save_tiny_model(architecture, tmp_path / "model")
    with TensorRTLLMPyTorch() as approach, pytest.raises(Unsupported, match=reason):
        approach.load(folder, trtllm.plan(**{"dtype": "float16", **changes}))
    assert not llm.instances


@pytest.mark.parametrize("change, found", [("lost_tokens", 6), ("extra_tokens", 8)])
def test_another_number_of_tokens_fails(
    backend: type[TensorRTLLM],
    model: Path,
    plan: Plan,
    llm: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    found: int,
) -> None:
    with backend() as approach:
        approach.load(model, plan)
        monkeypatch.setattr(llm, change, 1)
        with pytest.raises(RuntimeError, match=f"gave {found} tokens for 7"):
            approach.generate(prompt_ids(5), 7, Chunks())


def test_a_reused_block_fails(
    backend: type[TensorRTLLM], model: Path, plan: Plan, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with backend() as approach:
        approach.load(model, plan)
        monkeypatch.setattr(llm, "reused_blocks", 2)
        with pytest.raises(RuntimeError, match="reused 2 KV blocks"):
            approach.generate(prompt_ids(5), 7, Chunks())


def test_an_error_of_the_executor_is_one_line(
    backend: type[TensorRTLLM], model: Path, plan: Plan, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with backend() as approach:
        approach.load(model, plan)
        monkeypatch.setattr(llm, "error", "CUDA error:\n  out of memory")
        with pytest.raises(RuntimeError, match=r"could not finish a request: CUDA error: out of memory$"):
            approach.generate(prompt_ids(5), 7, Chunks())


def test_a_worker_that_dies_ends_the_request_and_the_next(
    backend: type[TensorRTLLM], model: Path, plan: Plan, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = msgspec.structs.replace(plan, tensorrt_llm=TensorRTOptions(single_process=False))
    with backend() as approach:
        approach.load(model, several)
        assert approach.counters()["worker_processes"] == 1
        assert "in an MPI worker process" in approach.facts().attention
        worker = llm.instances[-1].worker
        monkeypatch.setattr(llm, "stop_after_tokens", 4)

        class KillsTheWorker(Chunks):
            def push_chunk(self, tokens: Sequence[int]) -> None:
                super().push_chunk(tokens)
                worker.kill()

        sink = KillsTheWorker()
        with pytest.raises(Transient, match=f"worker process {worker.pid} ended"):
            approach.generate(prompt_ids(5), 7, sink)
        assert sum(len(chunk) for chunk in sink.chunks) == 4
        with pytest.raises(Transient, match=f"worker process {worker.pid} ended"):
            approach.generate(prompt_ids(5), 7, Chunks())
    assert not psutil.pid_exists(worker.pid)


def test_too_long_a_request_is_one_line(backend: type[TensorRTLLM], model: Path, plan: Plan) -> None:
    with backend() as approach:
        approach.load(model, plan)
        with pytest.raises(ValueError, match="10 prompt tokens and 7 new ones do not fit the KV cache of 16"):
            approach.generate(prompt_ids(10), 7, Chunks())


def test_a_model_that_could_not_be_built_is_unsupported(tmp_path: Path, llm: Any) -> None:
    folder = tmp_path / "engine"
    model = save_tiny_model("mistral_window", tmp_path / "model")
    prepare_engine(model, trtllm.plan(), folder, manifest_path(folder))
    with TensorRTLLM() as approach, pytest.raises(Unsupported, match="window of 8"):
        approach.load(model, trtllm.plan(engine_dir=str(folder)))


def test_a_benchmark_run_through_the_harness(
    backend: type[TensorRTLLM], model: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files as of every approach: a row a token, tokens of one chunk share its id and its time."""
    monkeypatch.setattr(harness, "Telemetry", QuietTelemetry)
    prompts = tuple(Prompt(index=0, length=n, offset=0, token_ids=tuple(prompt_ids(n))) for n in plan.prompt_lengths)
    request = make_request(
        tmp_path,
        requests_per_length=2,
        approach=backend.name,
        model_dir=str(model),
        plan=plan,
        prompts=Prompts(seed=1, corpus_sha256="", tokenizer_sha256="", prompts=prompts),
    )
    outputs = make_outputs(tmp_path)
    record = run_benchmark(request, backend, outputs)
    assert (record.status, record.reason, record.requests, record.tokens) == ("measured", "", 4, 28)
    assert record.counters["single_process"] == 1 and record.counters["worker_processes"] == 0
    assert record.counters["measured.executor_requests"] == 4, "the warm-up's requests are told apart"
    assert record.counters["measured.executor_ttft_ms_sum"] == pytest.approx(4 * 3)
    table = pq.read_table(outputs.samples).to_pydict()
    ids, tokens = table["chunk_id"][:7], read_json(outputs.tokens, TokensRecord)
    assert [ids.count(name) for name in sorted(set(ids))] == [1, 3, 1, 2]
    expected = greedy_decode(build_tiny_model("llama_gqa"), prompt_ids(5), 7)[0]
    assert list(tokens.prompts[0].answers[0].tokens) == expected


def test_availability_says_what_to_install() -> None:
    on_cpu = TensorRTLLM.availability("cpu", "float16")
    assert on_cpu.status == "unavailable" and "NVIDIA GPU" in on_cpu.reason and "--sdm apptainer" in on_cpu.reason
    not_there = TensorRTLLMNoGraph.availability("cuda", "float16")
    assert not_there.status == "unavailable" and "release:1.2.1" in not_there.reason


@pytest.mark.parametrize(
    "methods, python, status",
    [
        (["apptainer"], "3.12.4", "measured"),
        (["apptainer"], "3.11.7", "unavailable"),
        (["conda"], "3.11.7", "measured"),
        (["env-modules"], "3.12.4", "unavailable"),
        ([], "3.12.4", "unavailable"),
    ],
)
def test_what_a_deployment_method_brings(
    monkeypatch: pytest.MonkeyPatch, methods: list[str], python: str, status: str
) -> None:
    """The container takes msgspec from the Python that runs Snakemake; modules bring nothing that is asked for."""
    monkeypatch.setattr("platform.python_version", lambda: python)
    found = TensorRTLLM.deployed(methods, "cuda", "float16")
    assert found.status == status
    if status == "unavailable":
        assert found.reason and "\n" not in found.reason


def test_closing_twice_and_unloaded_is_fine(backend: type[TensorRTLLM], model: Path, plan: Plan) -> None:
    approach = backend()
    approach.close()
    approach.load(model, plan)
    approach.close()
    approach.close()

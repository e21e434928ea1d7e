"""The approach against the stand-in, in one process and in two: tokens, counts, a dying core, log-probabilities."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from fakes import vllm_engine
from fakes.plans import gpu_plan
from fakes.sinks import Chunks
from firsttoken.approaches.vllm import Vllm
from firsttoken.approaches.vllm_2p import Vllm2p
from firsttoken.engine.compilation import use_compile_cache
from firsttoken.files import read_json
from firsttoken.hf.eager_decode import greedy_decode, teacher_forced_logits
from firsttoken.measure import harness
from firsttoken.measure.harness import run_benchmark
from firsttoken.plan import Plan, Prompt, Prompts, Sampling, Unsupported
from firsttoken.results import TokensRecord
from firsttoken.transient import Transient, is_transient
from unit.measure.fakes import QuietTelemetry, make_outputs, make_request
from unit.tiny_models import build_tiny_model, prompt_ids, save_tiny_model

BOTH = pytest.mark.parametrize("approach_class", [Vllm, Vllm2p])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with vllm_engine.installed(monkeypatch) as fake:
        yield fake


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("llama_gqa", tmp_path_factory.mktemp("model"))


def reference(prompt: list[int], new_tokens: int) -> list[int]:
    return greedy_decode(build_tiny_model("llama_gqa"), prompt, new_tokens)[0]


@BOTH
def test_pushes_the_references_tokens_one_at_a_time(engine: Any, model: Path, approach_class: type[Vllm]) -> None:
    sink = Chunks()
    with approach_class() as approach:
        setup = approach.load(model, gpu_plan())
        approach.generate(prompt_ids(9), 7, sink)  # 16 positions: all that the plan's context has
        counters, facts, memory = approach.counters(), approach.facts(), approach.memory()
    assert sink.chunks == [[token] for token in reference(prompt_ids(9), 7)]
    assert setup.load_s > 0 and setup.compile_s == 0.003 and setup.capture_s > 0.001
    assert setup.imports_s > 0 and setup.warm_up_s > 0
    assert (counters["requests"], counters["chunks"]) == (1, 7), "the warm-up's requests are not counted"
    assert counters["captures"] == 5 and "recompiles" in counters
    assert memory.graph_bytes == 1 << 20
    where = "in an engine core process" if approach_class is Vllm2p else "in this process"
    assert facts.attention == f"vLLM's FLASH_ATTN (FlashAttention 3), {where}"
    assert (facts.tf32, facts.grad_mode) == ("off", "inference_mode")
    assert engine.instances[-1].engine_core.is_shut_down


@BOTH
def test_how_vllm_was_started(engine: Any, model: Path, approach_class: type[Vllm], tmp_path: Path) -> None:
    with approach_class() as approach:
        approach.load(model, gpu_plan(compile_cache_dir=str(tmp_path / "cache")))
        facts = approach.facts()
    started = engine.instances[-1]
    assert started.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == ("1" if approach_class is Vllm2p else "0")
    assert started.environment["VLLM_CACHE_ROOT"] == str(tmp_path / "cache" / "vllm")
    assert started.environment["TRITON_CACHE_DIR"] == str(tmp_path / "cache" / "triton")
    assert not started.log_stats
    assert facts.compile_cache == "cold"
    settings = facts.settings
    assert settings["told.max_num_seqs"] == 1 and settings["told.enable_prefix_caching"] is False
    assert settings["environment.VLLM_NO_USAGE_STATS"] == "1"
    assert settings["cudagraph_capture_sizes"] == "1 2 4 8 16", "prefill runs captured, not 1 and 2 tokens alone"
    assert settings["prefix_caching"] is False and settings["async_scheduling"] is True
    assert (settings["model_runner"], settings["max_num_batched_tokens"]) == ("V2", 16)
    assert (settings["kv_blocks"], settings["kv_block_size"]) == (24, 16)
    assert all(type(value) in (str, int, float, bool) for value in settings.values())
    assert not [name for name in settings if str(model) in str(settings[name])], "no path of this machine"


def test_a_used_cache_is_told(engine: Any, model: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    use_compile_cache(cache)
    (tmp_path / "cache" / "triton" / "kernel").mkdir()
    with Vllm() as approach:
        approach.load(model, gpu_plan(compile_cache_dir=cache))
        assert approach.facts().compile_cache == "cached"


def test_sampling_is_handed_over(engine: Any, model: Path) -> None:
    sampling = Sampling(method="sample", repetition_penalty=1.1, temperature=0.8, top_k=5, top_p=0.9)
    with Vllm() as approach:
        approach.load(model, gpu_plan(sampling=sampling, seed=11))
        approach.generate(prompt_ids(5), 7, Chunks())
    _, params = engine.instances[-1].requests[-1]
    assert (params.repetition_penalty, params.temperature, params.top_k, params.top_p) == (1.1, 0.8, 5, 0.9)
    assert params.seed is None and engine.instances[-1].vllm_config.arguments.seed == 11


def test_chunks_of_none_one_and_three(engine: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "chunk_sizes", (1, 0, 3))
    sink = Chunks()
    with Vllm() as approach:
        approach.load(model, gpu_plan())
        approach.generate(prompt_ids(9), 7, sink)
        assert approach.counters()["chunks"] == 4, "empty ones are none"
    assert [len(chunk) for chunk in sink.chunks] == [1, 3, 1, 2]
    assert [token for chunk in sink.chunks for token in chunk] == reference(prompt_ids(9), 7)


@BOTH
@pytest.mark.parametrize("change, found", [("lost_tokens", 6), ("extra_tokens", 8)])
def test_another_number_of_tokens_fails(
    engine: Any, model: Path, monkeypatch: pytest.MonkeyPatch, approach_class: type[Vllm], change: str, found: int
) -> None:
    sink = Chunks()
    with approach_class() as approach:
        approach.load(model, gpu_plan())
        monkeypatch.setattr(engine, change, 1)
        with pytest.raises(RuntimeError, match=f"gave {found} tokens for 7"):
            approach.generate(prompt_ids(5), 7, sink)
    assert len(sink.chunks) <= 7, "the sink has no room for more"


@BOTH
def test_a_prefix_cache_hit_fails(
    engine: Any, model: Path, monkeypatch: pytest.MonkeyPatch, approach_class: type[Vllm]
) -> None:
    with approach_class() as approach:
        approach.load(model, gpu_plan())
        monkeypatch.setattr(engine, "cached_tokens", 4)
        with pytest.raises(RuntimeError, match="took 4 prompt tokens from its prefix cache"):
            approach.generate(prompt_ids(5), 7, Chunks())


def test_a_request_beyond_the_plan_fails(engine: Any, model: Path) -> None:
    """vLLM itself would stop early, at `max_model_len`."""
    with Vllm() as approach:
        approach.load(model, gpu_plan())
        with pytest.raises(ValueError, match="10 prompt tokens and 7 new ones do not fit the KV cache of 16"):
            approach.generate(prompt_ids(10), 7, Chunks())


def test_an_error_of_the_engine_is_one_line(engine: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vllm() as approach:
        approach.load(model, gpu_plan())
        monkeypatch.setattr(engine, "error", "CUDA error:\n  out of memory")
        with pytest.raises(RuntimeError, match=r"could not finish a request: CUDA error: out of memory$"):
            approach.generate(prompt_ids(5), 7, Chunks())


@pytest.mark.timeout(60)
def test_a_core_that_dies_ends_the_request_and_the_next(
    engine: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Vllm2p() as approach:
        approach.load(model, gpu_plan())
        core = engine.instances[-1].engine_core.popen
        monkeypatch.setattr(engine, "stop_after_chunks", 3)

        class KillsTheCore(Chunks):
            def push_chunk(self, tokens: Sequence[int]) -> None:
                super().push_chunk(tokens)
                core.kill()

        sink = KillsTheCore()
        with pytest.raises(Transient, match=f"engine core process {core.pid} ended"):  # killed: another try may go
            approach.generate(prompt_ids(5), 7, sink)
        assert len(sink.chunks) <= 3
        core.wait()
        engine.instances[-1].abort_request(["1"])
        with pytest.raises(RuntimeError, match=f"engine core process {core.pid} ended"):
            approach.generate(prompt_ids(5), 7, Chunks())


@pytest.mark.timeout(60)
def test_a_core_that_crashes_would_crash_again(engine: Any, model: Path) -> None:
    """Seen failing: vLLM's own error for both made it one that may pass."""
    with Vllm2p() as approach:
        approach.load(model, gpu_plan())
        core = engine.instances[-1].engine_core.popen
        core.send_signal(signal.SIGSEGV)
        core.wait()
        with pytest.raises(RuntimeError, match=f"engine core process {core.pid} ended") as raised:
            approach.generate(prompt_ids(5), 7, Chunks())
        assert not is_transient(raised.value)


@BOTH
def test_log_probabilities_come_from_decode_steps_where_the_text_is_the_same(
    engine: Any, model: Path, approach_class: type[Vllm], tmp_path: Path
) -> None:
    prompt, chosen = prompt_ids(9), reference(prompt_ids(9), 7)
    continuation = [*chosen[:2], (chosen[2] + 1) % 96, *chosen[3:]]
    with approach_class() as approach:
        approach.load(model, gpu_plan())
        before = len(engine.instances[-1].requests)
        assert approach.save_logits(prompt, continuation, tmp_path / "logits.safetensors")
        requests = engine.instances[-1].requests[before:]
        approach.generate(prompt, 7, Chunks())  # the request that was left has ended
        assert engine.instances[-1].requests[-1][1].logprobs is None, "a measured request asks for none"
    with safe_open(str(tmp_path / "logits.safetensors"), framework="numpy") as file:
        found, prefilled = file.get_tensor("logits"), file.metadata()["prefill_rows"].split()
    expected = teacher_forced_logits(build_tiny_model("llama_gqa"), prompt, continuation).log_softmax(-1).numpy()
    assert found.shape == (7, 96) and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4
    assert prefilled[:2] == ["0", "3"] and len(prefilled) == len(requests)
    assert requests[1][0] == [*prompt, *continuation[:3]]


def test_a_wrong_row_is_seen(engine: Any, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prompt, chosen, path = prompt_ids(9), reference(prompt_ids(9), 7), tmp_path / "logits.safetensors"
    with Vllm() as approach:
        approach.load(model, gpu_plan())
        monkeypatch.setattr(engine, "lost_logprobs", 1)  # the best one, which is the sampled one as well
        approach.save_logits(prompt, chosen, path)
        monkeypatch.setattr(engine, "lost_logprobs", 2)
        with pytest.raises(RuntimeError, match="no log-probability for 1 of 96 tokens"):
            approach.save_logits(prompt, chosen, path)
    with safe_open(str(path), framework="numpy") as file:
        found = file.get_tensor("logits")
    expected = teacher_forced_logits(build_tiny_model("llama_gqa"), prompt, chosen).log_softmax(-1).numpy()
    assert np.abs(found - expected).max() < 1e-4


def test_a_benchmark_run_through_the_harness(engine: Any, model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(harness, "Telemetry", QuietTelemetry)
    plan = gpu_plan()
    prompts = tuple(Prompt(index=0, length=n, offset=0, token_ids=tuple(prompt_ids(n))) for n in plan.prompt_lengths)
    request = make_request(
        tmp_path,
        requests_per_length=2,
        approach="vllm",
        model_dir=model,
        plan=plan,
        prompts=Prompts(seed=1, corpus_sha256="", tokenizer_sha256="", prompts=prompts),
    )
    outputs = make_outputs(tmp_path)
    record = run_benchmark(request, Vllm, outputs)
    assert (record.status, record.reason, record.requests, record.tokens) == ("measured", "", 4, 28)
    assert record.counters["measured.requests"] == 4 and record.counters["measured.captures"] == 0
    assert record.settings["kv_blocks"] == 24 and record.tainted_requests == 0
    tokens = read_json(outputs.tokens, TokensRecord)
    assert list(tokens.prompts[0].answers[0].tokens) == reference(prompt_ids(5), 7)


@pytest.mark.parametrize(
    "family, changes, reason",
    [
        ("qwen3", {}, "are not supported for now"),
        ("llama_gqa", {"max_context": 200}, "is greater than 128"),
        ("llama_gqa", {"sampling": Sampling(method="sample", temperature=2.5)}, "temperatures from 0.01 to 2"),
        ("llama_gqa", {"device": "cpu"}, "needs an NVIDIA GPU"),
    ],
)
def test_what_vllm_cannot_serve_is_unsupported(
    engine: Any, tmp_path: Path, family: str, changes: dict[str, Any], reason: str
) -> None:
    plan: Plan = gpu_plan(**changes)
    with Vllm() as approach, pytest.raises(Unsupported, match=reason) as error:
        approach.load(save_tiny_model(family, tmp_path / "model"), plan)
    assert "\n" not in str(error.value)


def test_availability_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "NVIDIA GPU" in Vllm.availability("cpu", "float16").reason
    not_there = Vllm2p.availability("cuda", "float16")
    assert (not_there.status, not_there.reason) == ("unavailable", "vllm is not installed here: make env-vllm")
    assert Vllm.deployed(["conda"], "cuda", "float16").status == "measured"
    assert Vllm.deployed(["conda"], "cpu", "float16").status == "unavailable"
    assert Vllm.deployed(["apptainer"], "cuda", "float16").status == "unavailable"
    with vllm_engine.installed(monkeypatch):
        assert Vllm.availability("cuda", "float16").status == "measured"
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.33.0")
        found = Vllm.availability("cuda", "float16")
        assert found.reason == "vLLM 0.33.0 is installed, this needs 0.24.0: make env-vllm"


@BOTH
def test_closing_twice_and_unloaded_is_fine(engine: Any, model: Path, approach_class: type[Vllm]) -> None:
    approach = approach_class()
    approach.close()
    approach.load(model, gpu_plan())
    approach.close()
    approach.close()

"""The engine's build and its checks, against a stand-in that is strict about TensorRT-LLM 1.2.1's names and types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fakes import trtllm
from firsttoken import hardware
from firsttoken.external.tensorrt_llm import settings as trtllm_settings
from firsttoken.external.tensorrt_llm.engine import check_engine, manifest_path, prepare_engine
from firsttoken.external.tensorrt_llm.model import model_problem, readable_model, transformers_4_config
from firsttoken.files import read_json
from firsttoken.plan import Sampling, TensorRTOptions, Unsupported
from firsttoken.results import EngineManifest, Gpu
from unit.tiny_models import save_tiny_model


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with trtllm.installed(monkeypatch) as fake:
        yield fake


@pytest.fixture
def engine_dir(tmp_path: Path, llm: Any) -> Path:
    folder = tmp_path / "engine"
    prepare_engine(save_tiny_model("llama_gqa", tmp_path / "model"), trtllm.plan(), folder, manifest_path(folder))
    return folder


def test_a_build_says_everything_about_itself(engine_dir: Path, llm: Any) -> None:
    manifest = read_json(manifest_path(engine_dir), EngineManifest)
    assert (manifest.status, manifest.architecture, manifest.dtype) == ("measured", "LlamaForCausalLM", "float32")
    assert manifest.gpu == trtllm.GPU and manifest.versions["tensorrt_llm"] == "1.2.1"
    assert {entry.path for entry in manifest.files} == {"build.log", "config.json", "rank0.engine"}
    assert manifest.options == {
        "max_batch_size": 1, "opt_batch_size": 1, "max_beam_width": 1, "max_input_len": 9, "max_seq_len": 32,
        "max_num_tokens": 32, "gemm_plugin": "auto", "tokens_per_block": 32, "use_paged_context_fmha": False,
    }  # fmt: skip
    assert "Save model to" in (engine_dir / "build.log").read_text()
    builder = llm.instances[-1]
    assert builder.is_shut_down
    assert builder.args.kv_cache_config.enable_block_reuse is False
    assert builder.environment["NVIDIA_TF32_OVERRIDE"] == "0"


def test_the_longest_prompt_and_its_tokens_decide_the_sizes() -> None:
    sizes = trtllm_settings.engine_sizes(trtllm.plan(prompt_lengths=(10, 500), new_tokens=20, max_context=520))
    assert (sizes.max_input_len, sizes.max_seq_len, sizes.max_num_tokens) == (500, 520, 500)
    assert sizes.kv_cache_tokens == 576  # 17 blocks of 32 hold 520 tokens, and one to spare


@pytest.mark.parametrize(
    "name, keywords", [("KvCacheConfig", {"max_token": 1}), ("KvCacheConfig", {"max_tokens": "1"})]
)
def test_the_stand_in_refuses_wrong_names_and_types(llm: Any, name: str, keywords: dict[str, Any]) -> None:
    from tensorrt_llm import llmapi

    with pytest.raises(ValueError, match="max_token"):
        getattr(llmapi, name)(**keywords)


def test_the_stand_in_refuses_unknown_arguments_of_the_engine(llm: Any, engine_dir: Path) -> None:
    from tensorrt_llm import LLM, llmapi
    from tensorrt_llm._tensorrt_engine import LLM as EngineLLM

    for backend in (EngineLLM, LLM):
        with pytest.raises(ValueError, match="invalid argument: max_sequence_length"):
            backend(model=str(engine_dir), skip_tokenizer_init=True, max_sequence_length=1)
    knobs = llmapi.ExtendedRuntimePerfKnobConfig()
    with pytest.raises(ValueError, match="specific to TensorRT backend"):
        LLM(model=str(engine_dir), skip_tokenizer_init=True, extended_runtime_perf_knob_config=knobs)


@pytest.mark.parametrize(
    "function, name, config",
    [("plugin_settings", "gemm_plugins", "PluginConfig"), ("build_arguments", "max_length", "BuildConfig")],
)
def test_a_build_setting_that_this_version_does_not_have_fails(
    tmp_path: Path, llm: Any, monkeypatch: pytest.MonkeyPatch, function: str, name: str, config: str
) -> None:
    """The real classes would drop it without a word."""
    monkeypatch.setattr(trtllm_settings, function, lambda plan: {name: 1})
    folder = tmp_path / "engine"
    with pytest.raises(RuntimeError, match=f"{config} has no '{name}'"):
        prepare_engine(save_tiny_model("gpt2", tmp_path / "m"), trtllm.plan(), folder, manifest_path(folder))
    assert not folder.exists() and not manifest_path(folder).exists()


def test_a_window_shorter_than_the_context_is_unavailable_not_wrong(tmp_path: Path, llm: Any) -> None:
    folder = tmp_path / "engine"
    model = save_tiny_model("mistral_window", tmp_path / "model")
    manifest = prepare_engine(model, trtllm.plan(), folder, manifest_path(folder))
    assert manifest.status == "unavailable" and "window of 8 positions" in manifest.reason
    with pytest.raises(Unsupported, match="window of 8"):
        check_engine(folder, trtllm.plan())
    assert not llm.instances


def test_an_unknown_architecture_is_named() -> None:
    problem = model_problem({"architectures": ["NewForCausalLM"]}, {"LlamaForCausalLM"}, trtllm.plan())
    assert problem == "this backend of TensorRT-LLM 1.2.1 has no NewForCausalLM"


def test_rotary_settings_of_transformers_5_reach_transformers_4(tmp_path: Path) -> None:
    config = transformers_4_config(
        {"dtype": "float16", "rope_parameters": {"rope_theta": 1e6, "rope_type": "llama3", "factor": 8.0}}
    )
    assert config["torch_dtype"] == "float16" and config["rope_theta"] == 1e6
    assert config["rope_scaling"] == {"rope_type": "llama3", "type": "llama3", "factor": 8.0}
    untouched = {"rope_theta": 5e5, "rope_scaling": None, "torch_dtype": "float16"}
    assert transformers_4_config(untouched) == untouched
    model = save_tiny_model("qwen3", tmp_path / "model")
    saved = json.loads((model / "config.json").read_text())
    with readable_model(model, "float16") as folder:
        read = json.loads((folder / "config.json").read_text())
        assert saved["dtype"] == "float32" and read["dtype"] == read["torch_dtype"] == "float16"
        assert read["rope_theta"] == saved["rope_parameters"]["rope_theta"]
        assert (folder / "model.safetensors").samefile(model / "model.safetensors")
    assert not folder.exists()


@pytest.mark.parametrize(
    "gpu, message",
    [
        ({"name": "NVIDIA Other"}, "built for GPU NVIDIA Test, this run has NVIDIA Other"),
        ({"compute_capability": "8.0"}, "built for compute capability 9.0, this run has 8.0"),
    ],
)
def test_an_engine_of_another_gpu_is_refused(
    engine_dir: Path, monkeypatch: pytest.MonkeyPatch, gpu: dict[str, str], message: str
) -> None:
    other: Gpu = msgspec.structs.replace(trtllm.GPU, **gpu)
    monkeypatch.setattr(hardware, "visible_gpus", lambda: [other])
    with pytest.raises(RuntimeError, match=message):
        check_engine(engine_dir, trtllm.plan())


def test_an_engine_of_another_version_is_refused(engine_dir: Path) -> None:
    config = json.loads((engine_dir / "config.json").read_text())
    (engine_dir / "config.json").write_text(json.dumps({**config, "version": "1.1.0"}))
    with pytest.raises(RuntimeError, match=r"built for TensorRT-LLM 1\.1\.0, this run has 1\.2\.1"):
        check_engine(engine_dir, trtllm.plan())


@pytest.mark.parametrize("change", [{"prompt_lengths": (30,), "max_context": 37}, {"dtype": "float16"}])
def test_an_engine_that_does_not_serve_the_plan_is_refused(engine_dir: Path, change: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="build it again"):
        check_engine(engine_dir, trtllm.plan(**change))


def test_a_missing_engine_names_the_rule(tmp_path: Path, llm: Any) -> None:
    with pytest.raises(RuntimeError, match="prepare_engine"):
        check_engine(tmp_path / "engine", trtllm.plan())


def test_another_environment_is_one_line(tmp_path: Path, llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trtllm_settings, "installed_versions", lambda: {**trtllm.VERSIONS, "transformers": "5.23.0"})
    folder = tmp_path / "engine"
    with pytest.raises(RuntimeError, match=r"transformers 5\.23\.0 \(needs 4\.57\.3\)") as caught:
        prepare_engine(tmp_path, trtllm.plan(), folder, manifest_path(folder))
    assert "\n" not in str(caught.value)


def test_sampling_is_asked_for_as_the_plan_says() -> None:
    greedy = trtllm_settings.sampling_arguments(trtllm.plan(), 3)
    assert (greedy["top_k"], greedy["max_tokens"], greedy["ignore_eos"]) == (1, 3, True)
    chosen = Sampling(method="sample", repetition_penalty=1.1, temperature=0.7, top_k=0, top_p=0.9)
    sampled = trtllm_settings.sampling_arguments(trtllm.plan(sampling=chosen, seed=5), 3)
    assert sampled["repetition_penalty"] == 1.1
    assert (sampled["temperature"], sampled["top_k"], sampled["top_p"], sampled["seed"]) == (0.7, 0, 0.9, 5)


def test_the_latency_tools_settings_are_ours_and_the_control_differs_in_graphs_only(llm: Any) -> None:
    plan = trtllm.plan(dtype="float16", tensorrt_llm=TensorRTOptions())
    with_graphs = trtllm_settings.engine_arguments(plan, True)
    without = trtllm_settings.engine_arguments(plan, False)
    knobs = with_graphs.pop("extended_runtime_perf_knob_config")
    assert (knobs.multi_block_mode, knobs.cuda_graph_mode, knobs.cuda_graph_cache_size) == (True, True, 1000)
    assert without.pop("extended_runtime_perf_knob_config").multi_block_mode is True
    for config in ("kv_cache_config", "scheduler_config"):
        assert vars(with_graphs.pop(config)) == vars(without.pop(config))
    assert with_graphs == without and with_graphs["enable_chunked_prefill"] is False
    assert trtllm_settings.process_environment(plan)["TLLM_WORKER_USE_SINGLE_PROCESS"] == "0"
    assert trtllm_settings.process_environment(plan)["TRTLLM_WORKER_DISABLE_GC"] == "1", "as in every other process"
    assert "NVIDIA_TF32_OVERRIDE" not in trtllm_settings.process_environment(plan)


def test_the_environment_file_agrees_with_what_is_checked() -> None:
    root = Path(trtllm_settings.__file__).parents[4]
    content = yaml.safe_load((root / "envs" / "tensorrt_llm.yaml").read_text())
    pins = {"python": next(str(d) for d in content["dependencies"] if str(d).startswith("python")).split("=")[-1]}
    pip = next(d["pip"] for d in content["dependencies"] if isinstance(d, dict))
    pins |= {name: version for name, _, version in (line.partition("==") for line in pip) if version}
    trtllm_settings.require_versions(pins)
    with pytest.raises(RuntimeError, match=r"numpy 2\.0"):
        trtllm_settings.require_versions({**pins, "numpy": "2.0"})

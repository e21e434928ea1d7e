"""Every wrong config gives one line that names the key, what was found and what to do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from firsttoken.plan import Plan
from firsttoken.results import Availability
from firsttoken.study.config import Study, find_study
from firsttoken.study.schema import ConfigError, load_schema, one_line

ROOT = Path(__file__).parents[3]
SCHEMA = load_schema(ROOT / "config" / "config.schema.yaml")
DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
KNOWN = ["baseline", "cuda_graph", "jit_only", "jit_cuda", "tensorrt_llm", "llama_cpp"]


def check(changes: dict[str, Any], has_cuda: bool = False) -> Study:
    config = copy.deepcopy(DEFAULT)
    for path, value in changes.items():
        *sections, key = path.split(".")
        target = config
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return Study.check(config, SCHEMA, KNOWN, has_cuda)


def test_the_committed_config_is_right() -> None:
    study = check({})
    assert study.device == "cpu"
    assert study.repeats == [1, 2, 3, 4, 5]
    assert study.config["graphs"]["pool_capacity"] == 16, "defaults of the schema are filled in"


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_studies_are_right(path: Path) -> None:
    config = {**copy.deepcopy(DEFAULT), **yaml.safe_load(path.read_text(encoding="utf-8"))}
    study = Study.check(config, SCHEMA, [*KNOWN, *config["approaches"]], has_cuda=True)
    assert study.name == path.stem


def test_only_finished_studies_and_this_one_are_compared() -> None:
    study = check({"compare": [{"a": "old", "b": "embedded"}]})
    study.check_compared(["old"])
    with pytest.raises(
        ConfigError, match=r"compare\[0\]\.a: found 'old', which is no finished study.*: new, reference/x"
    ):
        study.check_compared(["new", "reference/x"])


WRONG = [
    ({"prompts": [1]}, ["'prompts'", "unknown", "workload"]),
    ({"workload.promt_lengths": [1]}, ["'promt_lengths'", "unknown", "did you mean 'prompt_lengths'?"]),
    ({"workload.request": 1}, ["'request'", "workload", "unknown"]),
    ({"approaches": ["baseline", "magic"]}, ["approaches", "'magic'", "jit_cuda"]),
    ({"approaches": []}, ["approaches", "at least one"]),
    ({"workload.prompt_lengths": [10, 0]}, ["workload.prompt_lengths[1]", "found 0", "at least 1"]),
    ({"workload.prompt_lengths": [-5]}, ["workload.prompt_lengths[0]", "found -5"]),
    ({"workload.prompt_lengths": ["ten"]}, ["workload.prompt_lengths[0]", "'ten'", "integer"]),
    ({"workload.prompt_lengths": [10, 50, 10]}, ["workload.prompt_lengths", "10", "twice"]),
    ({"workload.repeats": 0}, ["workload.repeats", "found 0", "at least 1"]),
    ({"workload.sampling": {"temperature": 0}}, ["workload.sampling", "temperature"]),
    ({"workload.sampling": {"repetition_penalty": 0}}, ["workload.sampling", "repetition_penalty"]),
    ({"model.dtype": "float16"}, ["model.dtype", "'float16'", "CUDA"]),
    ({"model.dtype": "int4"}, ["model.dtype", "'int4'", "float32"]),
    ({"study": "a/b"}, ["study", "'a/b'"]),
    ({"study": ".."}, ["study", "'..'"]),
    ({"study": ""}, ["study", "''"]),
    ({"device": "cuda"}, ["device", "'cuda'", "no CUDA device"]),
    ({"device": "tpu"}, ["device", "'tpu'", "auto, cpu, cuda"]),
    ({"workload.requests": True}, ["workload.requests", "True", "integer"]),
    ({"workload.requests": 80.0}, ["workload.requests", "80.0", "must be an integer"]),
    ({"workload.requests": 10**12}, ["workload.requests", "at most 1,000,000"]),
    ({"workload.requests": 10**6}, ["workload.requests", "tokens of all processes", "at most 100,000,000"]),
    ({"workload.repeats": 400}, ["workload.repeats", "3,200 processes", "at most 2,000"]),
    ({"workload.pause_ms": float("nan")}, ["workload.pause_ms", "nan", "a finite number"]),
    ({"workload.pause_ms": float("inf")}, ["workload.pause_ms", "inf", "a finite number"]),
    ({"workload.pause_ms": 60_000, "workload.requests": 1000}, ["workload.pause_ms", "days of pauses", "at most 30"]),
    ({"workload.prompt_lengths": [10, 10.0]}, ["workload.prompt_lengths", "10.0"]),
    ({"workload.prompts_per_length": 10_000, "workload.prompt_lengths": [1001]}, ["tokens in all prompts"]),
    ({"workload.sampling": {"temperature": float("nan")}}, ["workload.sampling.temperature", "a finite number"]),
    ({"workload.sampling": {"top_k": 10**11}}, ["workload.sampling.top_k", "at most 1,000,000"]),
    ({"workload.sampling": "best"}, ["workload.sampling", "'best'", "`greedy` or a mapping"]),
    ({"workload.seed": 2**31}, ["workload.seed", "at most 2,147,483,647"]),
    ({"equivalence.prompts_per_length": 17}, ["equivalence.prompts_per_length", "only 16 prompts of each length"]),
    ({"equivalence.prompts_per_length": 16, "workload.new_tokens": 9999}, ["positions whose logits are kept"]),
    ({"graphs.prefill_buckets": [64]}, ["graphs.prefill_buckets", "none from 100 (a prompt length) to 104"]),
    ({"graphs.prefill_buckets": [128]}, ["graphs.prefill_buckets", "none from 10"]),
    ({"graphs.pool_capacity": 10**20}, ["graphs.pool_capacity", "at most 256"]),
    ({"threads": 2**31}, ["threads", "at most 1,024"]),
    ({"hardware": "H100"}, ["hardware", "'H100'", "a mapping"]),
    ({"hardware.gpu": "{x}"}, ["hardware.gpu", "'{x}'", "as NVML reports it"]),
    ({"hardware.gpu": "../x"}, ["hardware.gpu", "as NVML reports it"]),
    ({"study": "tiny\n"}, ["study", "'tiny\\n'"]),
    ({"study": "reference"}, ["study", "'reference'", "results/ uses these"]),
    ({"study": "a_vs_b"}, ["study", "'a_vs_b'", "without `_vs_`"]),
    ({"study": "n" * 300}, ["study", "at most 64"]),
    ({"model.name": "x\n"}, ["model.name"]),
    ({"model.path": "/tmp/{x}"}, ["model.path", "without braces"]),
    ({"model.path": "/tmp/<results>"}, ["model.path", "angle brackets"]),
    ({"model.shape": {"hidden_size": 10**8}}, ["model.shape.hidden_size", "at most 16,777,216"]),
    ({"claims": ["a\nb"]}, ["claims[0]"]),
    ({"environments": {"vllm": {"python": ""}}}, ["environments.vllm.python", "''"]),
    ({"tensorrt_llm.gemm_plugin": "x"}, ["tensorrt_llm.gemm_plugin", "must be one of auto"]),
    ({"x" * 100_000: 1}, ["'xxx", "unknown"]),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_wrong_configs(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(changes)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 285
    for word in words:
        assert word in message


def test_a_prompt_longer_than_the_context() -> None:
    with pytest.raises(ConfigError, match=r"found 100, which with new_tokens 4 .* context of 103"):
        check({}).check_context(103)
    check({}).check_context(104)


def test_an_experiment_beyond_the_context() -> None:
    study = check({"experiments": ["pool_memory"], "graphs.pool_capacity": 32})
    assert max(study.experiment_lengths("pool_memory")) == 127
    study.check_context(129)
    with pytest.raises(ConfigError, match="experiments: found pool_memory, which serves prompts of 127 tokens"):
        study.check_context(128)


@pytest.mark.parametrize(("experiment", "needs"), [("clients", 104), ("launches", 108)])
def test_an_experiment_with_more_new_tokens_than_the_workload(experiment: str, needs: int) -> None:
    """Seen to pass, and to fail in its job after everything was measured."""
    study = check({"experiments": [experiment], "workload.prompt_lengths": [100], "workload.new_tokens": 2})
    study.check_context(needs)
    with pytest.raises(ConfigError, match=f"experiments: found {experiment}, which serves prompts of 100 tokens"):
        study.check_context(needs - 1)


@pytest.mark.parametrize("compare", [[("embedded", "embedded")], [("old", "embedded")] * 2])
def test_a_pair_that_is_none(compare: list[tuple[str, str]]) -> None:
    pairs = [{"a": a, "b": b, "threshold": 0.1 + place} for place, (a, b) in enumerate(compare)]
    with pytest.raises(ConfigError, match=r"compare\[\d\]: found .* the same study or a pair"):
        check({"compare": pairs}).check_compared(["old"])


def test_a_promised_gpu_is_a_gpu() -> None:
    assert check({"hardware.gpu": "NVIDIA H200", "device": "cuda"}).device == "cuda"


def test_a_folder_is_no_interpreter() -> None:
    with pytest.raises(ConfigError, match=r"environments\.vllm\.python: found '/tmp', which is no program here"):
        check({"environments": {"vllm": {"python": "/tmp"}}}).check_environments(["vllm"])


def test_a_long_message_keeps_its_ends() -> None:
    said = one_line("config key x:\n" + "\u202e" + "y" * 1000 + "; take less")
    assert said.startswith("config key x: \\u202ey") and said.endswith("y; take less") and len(said) < 285


def test_auto_takes_cuda_where_it_is() -> None:
    assert check({}, has_cuda=True).device == "cuda"
    assert check({"device": "cpu"}, has_cuda=True).device == "cpu"
    assert check({"model.dtype": "float16"}, has_cuda=True).device == "cuda"


def test_unavailable_ends_only_a_study_that_says_so() -> None:
    found = {"tensorrt_llm": Availability(status="unavailable", reason="no such package")}
    check({}).check_availability(found)
    with pytest.raises(ConfigError, match="tensorrt_llm cannot run here: no such package"):
        check({"on_unavailable": "fail"}).check_availability(found)


def test_keys_of_another_source_do_not_change_the_model() -> None:
    assert check({}).model_id == check({"model.repo": "some/where", "model.path": "x"}).model_id
    assert check({}).model_id != check({"model.seed": 2}).model_id
    assert check({}).model_id != check({"model.dtype": "bfloat16"}).model_id


def test_the_plan_makes_the_round_trip_through_params() -> None:
    plan = msgspec.convert(check({"workload.sampling": {"repetition_penalty": 1.1, "top_p": 0.9}}).plan("cache"), Plan)
    assert isinstance(plan, Plan)
    assert plan.max_context == 104
    assert plan.sampling.method == "sample"
    assert (plan.sampling.repetition_penalty, plan.sampling.top_p, plan.sampling.temperature) == (1.1, 0.9, 1.0)
    assert plan.compile_cache_dir == "cache"
    assert plan.spin_us == 1000


def test_config_readme_names_every_key() -> None:
    """The schema and its explanation stay together."""
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")

    def keys(schema: dict[str, Any], prefix: str = "") -> list[str]:
        found = []
        for key, rule in schema.get("properties", {}).items():
            found += [f"{prefix}{key}", *keys(rule, f"{prefix}{key}.")]
        return found

    missing = [key for key in keys(SCHEMA) if f"`{key}`" not in text]
    assert not missing
    known = set(keys(SCHEMA))
    told = {
        line.split("`")[1]
        for line in text.splitlines()
        if line.startswith("| `") and not line.startswith("| `sampling")
    }
    assert told <= known, f"explained, but not in the schema: {sorted(told - known)}"


def test_a_finished_study_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    """Seen failing: each command took names of its own, and `make summary STUDY=x` was `cat: x: No such file`."""
    results = tmp_path / "results"
    for name in ("mine", "reference/theirs"):
        (results / name).mkdir(parents=True)
        (results / name / "provenance.json").write_text("{}")
        for asked in (name, f"results/{name}", str(results / name)):
            assert find_study(asked, results) == results / name
    for gone in ("gone", "", "results"):
        with pytest.raises(ValueError, match=r"^A=.* is no finished study; found in results/: mine, reference/theirs$"):
            find_study(gone, results, "A")

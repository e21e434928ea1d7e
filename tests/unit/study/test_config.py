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
from firsttoken.study.config import Study
from firsttoken.study.schema import ConfigError, load_schema

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
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_wrong_configs(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_prompt_longer_than_the_context() -> None:
    with pytest.raises(ConfigError, match=r"found 100, which with new_tokens 4 .* context of 103"):
        check({}).check_context(103)
    check({}).check_context(104)


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

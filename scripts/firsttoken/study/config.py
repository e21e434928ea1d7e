"""The config of a study: filled with the schema's defaults, checked, and turned into what the rules need.

Everything that can be wrong is found here, before any job runs; each error is one line that names the key, what was
found and what to do. Needs jsonschema and PyYAML, no torch.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from firsttoken.plan import Device, TensorRTOptions
from firsttoken.results import Availability

# Keys of the model section that belong to one source; those of the sources that are not chosen are ignored.
SOURCE_KEYS = {
    "synthetic": ("architecture", "seed", "shape"),
    "huggingface": ("repo", "revision"),
    "local": ("path",),
}
CPU_DTYPES = ("float32", "bfloat16")  # a CPU has no native float16 arithmetic worth measuring


class ConfigError(ValueError):
    """One line: the key, what was found, what to do."""


def load_schema(path: Path) -> dict[str, Any]:
    """The JSON Schema of the config, from its YAML file."""
    schema: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return schema


def with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """A copy of `value` in which every missing optional key has the schema's default."""
    if not isinstance(value, Mapping):
        return value
    filled = dict(value)
    for key, rule in schema.get("properties", {}).items():
        if key not in filled and "default" in rule:
            filled[key] = rule["default"]
        if isinstance(filled.get(key), Mapping):
            filled[key] = with_defaults(filled[key], rule)
    return filled


def schema_problem(config: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """The first violation of the schema in one line, or None."""
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(config), key=lambda error: list(error.path))
    if not errors:
        return None
    error = errors[0]
    where = error.json_path.removeprefix("$").removeprefix(".") or "the config"
    what = f"config key {where}: found {_short(error.instance)}"
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(map(str, error.instance)) - set(known))[0]
        inside = "" if where == "the config" else f" in {where}"
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"config key {unknown!r}{inside}: unknown; {hint}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        inside = "" if where == "the config" else f"{where}."
        return f"config key {inside}{missing[0]}: missing; add it (config/README.md explains every key)"
    if error.validator == "uniqueItems":
        twice = sorted({str(item) for item in error.instance if error.instance.count(item) > 1})
        return f"config key {where}: {', '.join(twice)} stands there twice; name each once"
    wanted = {
        "minimum": f"must be at least {error.validator_value}",
        "exclusiveMinimum": f"must be more than {error.validator_value}",
        "maximum": f"must be at most {error.validator_value}",
        "type": f"must be of type {error.validator_value}",
        "enum": f"must be one of {', '.join(map(str, error.validator_value))}" if error.validator == "enum" else "",
        "minItems": "must name at least one",
        "pattern": f"must match {error.validator_value}",
        "oneOf": "must be `greedy` or a mapping with repetition_penalty, temperature, top_k, top_p in their ranges",
    }.get(str(error.validator), error.message)
    meaning = error.schema.get("description", "") if error.validator == "pattern" else ""
    return f"{what}; {wanted}{f' ({meaning})' if meaning else ''}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class Study:
    """A checked config; `section` gives parts of it as plain values for rule params."""

    config: dict[str, Any]
    device: Device

    @classmethod
    def check(
        cls,
        config: Mapping[str, Any],
        schema: Mapping[str, Any],
        known_approaches: Sequence[str],
        has_cuda: bool,
    ) -> Study:
        """Fill defaults and check. `has_cuda`: a CUDA device is here or is promised by `hardware.gpu`."""
        problem = schema_problem(config, schema)
        if problem:
            raise ConfigError(problem)
        filled: dict[str, Any] = with_defaults(config, schema)
        device = resolve_device(filled["device"], has_cuda)
        dtype = filled["model"]["dtype"]
        if device == "cpu" and dtype not in CPU_DTYPES:
            raise ConfigError(
                f"config key model.dtype: found {dtype!r}, which a CPU does not compute natively; "
                f"take {' or '.join(CPU_DTYPES)}, or run on a CUDA device"
            )
        unknown = [name for name in filled["approaches"] if name not in known_approaches]
        if unknown:
            raise ConfigError(
                f"config key approaches: found {unknown[0]!r}, which is no approach; "
                f"known: {', '.join(known_approaches)}"
            )
        return cls(config=filled, device=device)

    def check_environments(self, known: Collection[str]) -> None:
        """Raise ConfigError for an interpreter that is not there, or of an environment that no approach has."""
        for name, settings in self.config["environments"].items():
            if name not in known:
                raise ConfigError(
                    f"config key environments: found {name!r}, in which no approach runs; known: {', '.join(known)}"
                )
            if not os.access(settings["python"], os.X_OK):
                raise ConfigError(
                    f"config key environments.{name}.python: found {settings['python']!r}, which is no program here; "
                    f"give the path of a Python, or leave the key out and run make env-{name}"
                )

    @property
    def pythons(self) -> dict[str, str]:
        """The interpreters that the config gives, by environment."""
        return {name: str(settings["python"]) for name, settings in self.config["environments"].items()}

    def check_context(self, max_context: int) -> None:
        """Raise ConfigError where the longest prompt and its new tokens do not fit the model's context."""
        workload = self.config["workload"]
        longest = max(workload["prompt_lengths"])
        if longest + workload["new_tokens"] > max_context:
            raise ConfigError(
                f"config key workload.prompt_lengths: found {longest}, which with new_tokens {workload['new_tokens']} "
                f"is longer than the model's context of {max_context} positions; shorten one of them"
            )

    def check_availability(self, approaches: Mapping[str, Availability]) -> None:
        """Raise ConfigError where the study forbids an approach that cannot run here."""
        if self.config["on_unavailable"] == "record":
            return
        for name, availability in approaches.items():
            if availability.status == "unavailable":
                raise ConfigError(
                    f"config key approaches: {name} cannot run here: {availability.reason} "
                    "(or set on_unavailable: record to go on without it)"
                )

    def check_compared(self, finished: Collection[str]) -> None:
        """Raise ConfigError where a study is to be compared that is neither finished nor this one."""
        for place, pair in enumerate(self.config["compare"]):
            for side in ("a", "b"):
                if pair[side] not in finished and pair[side] != self.name:
                    raise ConfigError(
                        f"config key compare[{place}].{side}: found {pair[side]!r}, which is no finished study; "
                        f"found in results/: {', '.join(finished) or 'none'}"
                    )

    @property
    def name(self) -> str:
        return str(self.config["study"])

    @property
    def model(self) -> dict[str, Any]:
        """The keys that say which weights: name, source, dtype and the chosen source's own."""
        model = self.config["model"]
        keys = ("name", "source", "dtype", *SOURCE_KEYS[model["source"]])
        return {key: model[key] for key in keys}

    @property
    def model_id(self) -> str:
        """`{name}-{hash}`: the hash is of the model section, so two studies never overwrite each other's weights."""
        digest = hashlib.sha256(json.dumps(self.model, sort_keys=True).encode()).hexdigest()
        return f"{self.model['name']}-{digest[:12]}"

    @property
    def repeats(self) -> list[int]:
        return list(range(1, self.config["workload"]["repeats"] + 1))

    def plan(self, compile_cache_dir: str = "", engine_dir: str = "") -> dict[str, Any]:
        """The arguments of `plan.Plan` as plain values, for a rule's params."""
        workload, graphs = self.config["workload"], self.config["graphs"]
        lengths, sampling = workload["prompt_lengths"], workload["sampling"]
        return {
            "prompt_lengths": list(lengths),
            "new_tokens": workload["new_tokens"],
            "max_context": max(lengths) + workload["new_tokens"],
            "dtype": self.config["model"]["dtype"],
            "device": self.device,
            "sampling": {"method": "greedy"} if sampling == "greedy" else {"method": "sample", **sampling},
            "seed": workload["seed"],
            "threads": self.config["threads"],
            "jit_backend": self.config["jit"]["backend"],
            "compile_cache_dir": compile_cache_dir,
            "graphs": {
                "pool_capacity": graphs["pool_capacity"],
                "pool_max_bytes": graphs["pool_max_mib"] * 2**20,
                "prefill_buckets": list(graphs["prefill_buckets"]),
                "kv_buckets": list(graphs["kv_buckets"]),
            },
            "tensorrt_llm": {key: self.config["tensorrt_llm"][key] for key in TensorRTOptions.__struct_fields__},
            "engine_dir": engine_dir,
        }


def finished_studies(results: Path) -> list[str]:
    """Names of the studies that are complete on disk; those that are shipped with a folder before their name."""
    found = [*results.glob("*/provenance.json"), *results.glob("reference/*/provenance.json")]
    return sorted(path.parent.relative_to(results).as_posix() for path in found)


def resolve_device(asked: str, has_cuda: bool) -> Device:
    """`auto` takes CUDA where it is; `cuda` without it is an error, never a silent CPU run."""
    if asked == "cuda" and not has_cuda:
        raise ConfigError(
            "config key device: found 'cuda', but no CUDA device is visible here; set device: cpu, "
            "or hardware.gpu on a cluster"
        )
    return "cuda" if has_cuda and asked in ("auto", "cuda") else "cpu"

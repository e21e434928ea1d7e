"""The config of a study: filled with the schema's defaults, checked, and turned into what the rules need.

Everything that can be wrong is found here, before any job runs; each error is one line that names the key, what was
found and what to do.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firsttoken.plan import EXPERIMENT_TOKENS, INSTRUMENT, Device, TensorRTOptions
from firsttoken.results import Availability
from firsttoken.study.schema import ConfigError, schema_problem, shown, suggestion, with_defaults

# Keys of the model section that belong to one source; those of the sources that are not chosen are ignored.
SOURCE_KEYS = {
    "synthetic": ("architecture", "seed", "shape"),
    "huggingface": ("repo", "revision"),
    "local": ("path",),
}
CPU_DTYPES = ("float32", "bfloat16")  # a CPU has no native float16 arithmetic worth measuring


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
        """Fill defaults and check. `has_cuda`: a CUDA device is here; `hardware.gpu` promises one, too."""
        problem = schema_problem(config, schema)
        if problem:
            raise ConfigError(problem)
        filled: dict[str, Any] = with_defaults(config, schema)
        device = resolve_device(filled["device"], has_cuda or bool(filled["hardware"]["gpu"]))
        dtype = filled["model"]["dtype"]
        if device == "cpu" and dtype not in CPU_DTYPES:
            raise ConfigError(
                f"config key model.dtype: found {dtype!r}, which a CPU does not compute natively; "
                f"take {' or '.join(CPU_DTYPES)}, or run on a CUDA device"
            )
        unknown = [name for name in filled["approaches"] if name not in known_approaches]
        if unknown:
            raise ConfigError(
                f"config key approaches: found {shown(unknown[0])}, which is no approach; "
                f"{suggestion(unknown[0], known_approaches)}"
            )
        if filled["workload"]["prompt_lengths"]:
            check_amounts(filled)
            check_lengths(filled)
        elif not filled["workload"]["prompts"]:
            raise ConfigError("config key workload.prompt_lengths: found []; must name at least one, or give prompts")
        return cls(config=filled, device=device)

    def with_lengths(self, lengths: Sequence[int]) -> Study:
        """The same study with the lengths of its own prompts. Raises ConfigError where they cannot be measured."""
        filled = {**self.config, "workload": {**self.config["workload"], "prompt_lengths": list(lengths)}}
        check_amounts(filled)
        check_lengths(filled)
        return Study(config=filled, device=self.device)

    def check_environments(self, known: Collection[str]) -> None:
        """Raise ConfigError for an interpreter that is not there, or of an environment that no approach has."""
        for name, settings in self.config["environments"].items():
            if name not in known:
                raise ConfigError(
                    f"config key environments: found {shown(name)}, in which no approach runs; "
                    f"{suggestion(name, known)}"
                )
            if not (Path(settings["python"]).is_file() and os.access(settings["python"], os.X_OK)):
                raise ConfigError(
                    f"config key environments.{name}.python: found {shown(settings['python'])}, which is no program "
                    f"here; give the path of a Python, or leave the key out and run make env-{name}"
                )

    @property
    def pythons(self) -> dict[str, str]:
        """The interpreters that the config gives, by environment."""
        return {name: str(settings["python"]) for name, settings in self.config["environments"].items()}

    def check_context(self, max_context: int) -> None:
        """Raise ConfigError where the longest prompt and its new tokens do not fit the model's context."""
        workload = self.config["workload"]
        longest = max(workload["prompt_lengths"])
        for experiment in self.config["experiments"]:
            spread = max(self.experiment_lengths(experiment), default=0)
            new_tokens = EXPERIMENT_TOKENS.get(experiment, workload["new_tokens"])
            if spread + new_tokens > max(max_context, longest + workload["new_tokens"]):
                raise ConfigError(
                    f"config key experiments: found {experiment}, which serves prompts of {spread} tokens and "
                    f"{new_tokens} new ones; the model's context has {max_context} positions; leave it out"
                )
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
        seen = set()
        for place, pair in enumerate(self.config["compare"]):
            if pair["a"] == pair["b"] or (pair["a"], pair["b"]) in seen:
                raise ConfigError(
                    f"config key compare[{place}]: found {pair['a']!r} and {pair['b']!r}, the same study or a pair "
                    "that stands there twice; name two studies, each pair once"
                )
            seen.add((pair["a"], pair["b"]))
            for side in ("a", "b"):
                if pair[side] not in finished and pair[side] != self.name:
                    raise ConfigError(
                        f"config key compare[{place}].{side}: found {shown(pair[side])}, which is no finished study; "
                        f"{suggestion(pair[side], finished)}"
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

    def experiment_lengths(self, experiment: str) -> list[int]:
        """The prompt lengths, in tokens, that an experiment serves; none where it needs no model."""
        lengths = self.config["workload"]["prompt_lengths"]
        if experiment in ("clients", "launches"):
            return [min(lengths)]
        number = {"pool_memory": 4 * self.config["graphs"]["pool_capacity"], "pool_misses": 8}.get(experiment, 0)
        step = max(1, max(lengths) // max(1, number))
        return [step * place - 1 for place in range(1, number + 1) if step * place > 1]

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
            "spin_us": self.config["ipc"]["spin_us"],
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


def check_amounts(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a study that would never end or fit on a disk, though each of its keys is in its range."""
    workload, logit_prompts = config["workload"], config["equivalence"]["prompts_per_length"]
    lengths, new_tokens = workload["prompt_lengths"], workload["new_tokens"]
    processes = workload["repeats"] * (len(config["approaches"]) + len(INSTRUMENT))
    requests = processes * workload["requests"] * len(lengths)
    pauses_days = requests * workload["pause_ms"] / 86_400_000
    prompt_tokens = workload["prompts_per_length"] * sum(lengths)
    positions = logit_prompts * len(lengths) * new_tokens
    for key, amount, most, what in (
        ("workload.repeats", processes, 2_000, "processes of all approaches"),
        ("workload.requests or workload.new_tokens", requests * new_tokens, 100_000_000, "tokens of all processes"),
        ("workload.pause_ms", pauses_days, 30, "days of pauses"),
        ("workload.prompts_per_length", prompt_tokens, 10_000_000, "tokens in all prompts"),
        ("equivalence.prompts_per_length", positions, 100_000, "positions whose logits are kept"),
    ):
        if amount > most:
            raise ConfigError(f"config key {key}: makes {amount:,.0f} {what}; must be at most {most:,}")
    if logit_prompts > workload["prompts_per_length"]:
        raise ConfigError(
            f"config key equivalence.prompts_per_length: found {logit_prompts}, but there are only "
            f"{workload['prompts_per_length']} prompts of each length; take at most workload.prompts_per_length"
        )


def check_lengths(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a prompt length that no prefill bucket serves: it would be measured without one."""
    lengths, buckets = config["workload"]["prompt_lengths"], config["graphs"]["prefill_buckets"]
    most = max(lengths) + config["workload"]["new_tokens"]
    for length in lengths:
        if buckets and not any(length <= bucket <= most for bucket in buckets):
            raise ConfigError(
                f"config key graphs.prefill_buckets: found {shown(buckets)}, none from {length} (a prompt length) to "
                f"{most} (longest prompt with its new tokens); add one"
            )


def finished_studies(results: Path) -> list[str]:
    """Names of the studies that are complete on disk; those that are shipped with a folder before their name."""
    found = [*results.glob("*/provenance.json"), *results.glob("reference/*/provenance.json")]
    return sorted(path.parent.relative_to(results).as_posix() for path in found)


def find_study(asked: str, results: Path, argument: str = "STUDY") -> Path:
    """The folder of a finished study: NAME, reference/NAME, either behind results/, or any path. Raises ValueError that
    names the `argument` and lists the finished studies where it is none."""
    for folder in (results / asked, results.parent / asked, Path(asked)):
        if (folder / "provenance.json").exists():
            return folder
    known = ", ".join(finished_studies(results)) or "none"
    raise ValueError(f"{argument}={asked!r} is no finished study; found in results/: {known}")


def resolve_device(asked: str, has_cuda: bool) -> Device:
    """`auto` takes CUDA where it is; `cuda` without it is an error, never a silent CPU run."""
    if asked == "cuda" and not has_cuda:
        raise ConfigError(
            "config key device: found 'cuda', but no CUDA device is visible here; set device: cpu, "
            "or hardware.gpu on a cluster"
        )
    return "cuda" if has_cuda and asked in ("auto", "cuda") else "cpu"

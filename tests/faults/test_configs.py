"""Seeded mutations of the default config: each is refused in one line, or is valid by what is written down here.

`FAULTS_CONFIGS` is the number of mutations of each of three seeds; `FAULTS_DRY_RUNS` that of dry runs.
"""

from __future__ import annotations

import copy
import datetime
import json
import math
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from firsttoken.plan import Plan
from firsttoken.preflight import check_study
from firsttoken.study.config import Study
from firsttoken.study.schema import load_schema, one_line
from firsttoken.yaml_files import read_yaml
from workflow.project import Project, fresh_clone

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("FAULTS_CONFIGS", "50"))
DRY_RUNS = int(os.environ.get("FAULTS_DRY_RUNS", "2"))
TEXT = (ROOT / "config" / "config.yaml").read_text(encoding="utf-8")
DEFAULT = yaml.safe_load(TEXT)
SCHEMA = load_schema(ROOT / "config" / "config.schema.yaml")
CPU_LIMIT_S = 5

VALUES: list[Any] = [
    None, "", "x" * 100_000, -1, 0, 1, 1.5, 2.0, 1e308, 10**30, 2**31, math.nan, math.inf, -math.inf, -0.0, [], {},
    [[[]]], {"a": {"b": [1, {"c": None}]}}, {"python": "/bin"}, "ünïcöde中", "../../x", "..", ".", "/etc/passwd",
    "/dev/zero", "a b;$(touch /tmp/x)'\"", "<script>alert(1)</script>", "{x}", "{wildcards.study}", True, False, "1",
    "-x", "~nobody/x", datetime.date(2024, 1, 1), b"\x00\xff", "tiny\n", "a\u0000b", "\u202eabc", [1, "a"],
    ["baseline", "baseline"], [5, 5.0], "models", "reference", "compare", "combine", "contributions", "a_vs_b",
    "n" * 300, 100_000, 10**12, [10**6], {"a": "x", "b": "x"}, [{"a": "embedded", "b": "embedded"}],
    ["config/corpus.txt"], ["config/config.yaml"], ["config"], ["/dev/zero"], {"temperature": math.nan}, {"top_p": 2},
    {"hidden_size": 10**8}, {"hidden_size": 7, "num_attention_heads": 7}, {"num_key_value_heads": 0},
    {"max_position_embeddings": 20}, {"rms_norm_eps": "x"}, "local", "huggingface", "llama",
    ["clients", "pool_memory"], 3, [7, 9], [16, 104], 2,
]  # fmt: skip

PAIRS = list(zip("abcdefghijklmnopq", "bcdefghijklmnopqr", strict=True))
SPECIAL: dict[str, bytes | str] = {
    "empty": "",
    "comment": "# x\n",
    "list": "- a\n",
    "scalar": "hello",
    "tab": "study:\tx\n\tmodel: 1",
    "unclosed": "a: [1",
    "not UTF-8": b"study: \xff\xfe\n",
    "UTF-16": TEXT.encode("utf-16"),
    "NUL": b"study: a\x00b\n",
    "BOM": b"\xef\xbb\xbf" + TEXT.encode(),
    "CRLF": TEXT.replace("\n", "\r\n"),
    "key twice": TEXT + "study: other\n",
    "section twice": TEXT + "workload: {seed: 1}\n",
    "nested key twice": TEXT.replace("  repeats: 5", "  repeats: 5\n  repeats: 6"),
    "python": TEXT + "hardware: !!python/name:os.system\n",
    "tuple": TEXT + "experiments: !!python/tuple [ipc]\n",
    "recursion": TEXT + "hardware: &h {gpu: *h}\n",
    "list recursion": TEXT + "compare: &c [*c]\n",
    "brackets": TEXT + "hardware: " + "[" * 3000 + "]" * 3000,
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in PAIRS),
    "mapping bomb": "a: &a {x: 1}\n" + "".join(f"{b}: &{b} {{k: *{a}, l: *{a}, m: *{a}, n: *{a}}}\n" for a, b in PAIRS),
    "two documents": TEXT + "---\nstudy: second\n",
    "merge": TEXT + "hardware: {<<: {gpu: a}}\n",
    "int key": TEXT + "1: 2\n",
    "null key": TEXT + "~: 2\n",
    "list key": TEXT + "? [a, b]\n: 2\n",
    "yes": TEXT + "yes: 2\n",
    "norway": TEXT.replace("embedded", "no"),
    "octal": TEXT.replace("embedded", "0123"),
    "date": TEXT.replace("embedded", "2024-01-01"),
    "no date": TEXT.replace("embedded", "2024-13-45"),
    "sexagesimal": TEXT.replace("requests: 80", "requests: 1:20"),
    "hexadecimal": TEXT.replace("requests: 80", "requests: 0x50"),
    "digits": TEXT.replace("requests: 80", "requests: " + "9" * 5000),
    "long comment": TEXT + "#" + "x" * 5_000_000,
    "templates": "__use_yte__: true\n" + TEXT.replace("requests: 80", "requests: ?40 + 40"),
}

# What an accepted config may hold, beside the schema and not made from it: type, least, most.
RANGES: dict[str, tuple[type, float, float]] = {
    "threads": (int, 1, 1024),
    "model.seed": (int, 0, 2**31 - 1),
    "workload.new_tokens": (int, 1, 100_000),
    "workload.requests": (int, 1, 1_000_000),
    "workload.repeats": (int, 1, 500),
    "workload.prompts_per_length": (int, 1, 10_000),
    "workload.pause_ms": (float, 0, 60_000),
    "workload.seed": (int, 0, 2**31 - 1),
    "graphs.pool_capacity": (int, 1, 256),
    "graphs.pool_max_mib": (int, 0, 2**20),
    "tensorrt_llm.host_memory_gib": (int, 1, 2**14),
    "equivalence.prompts_per_length": (int, 1, 1000),
}
CHOICES: dict[str, set[Any]] = {
    "device": {"auto", "cpu"},
    "on_unavailable": {"record", "fail"},
    "model.dtype": {"float32", "bfloat16"},
    "model.source": {"synthetic", "huggingface"},
    "jit.backend": {"inductor", "torchscript"},
    "tensorrt_llm.single_process": {True, False},
    "tensorrt_llm.gemm_plugin": {"auto", "float16", "float32", "bfloat16", "int32", "fp8", "nvfp4"},
    "equivalence.logit_gap": {None},
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def answer(file: Path) -> str | Study:
    """What `check_study` says of a config in the place of config/config.yaml: one line, or the study."""
    try:
        return check_study(read_yaml(file), ROOT / "config", Path("no results"))
    except ValueError as error:
        return one_line(str(error))


def wrong_line(line: str, keys: list[str], file: Path) -> str:
    """Why a refusal is none that a person can use, or ""."""
    if not 0 < len(f"firsttoken: {line}") <= 300 or not line.isprintable():
        return "no single printable line of at most 300 characters"
    if not any(key in line for key in [*keys, file.name]):
        return f"names none of {keys}"
    return "" if ";" in line else "says not what to do"


def nonsense(study: Study) -> str:
    """What is wrong in a config that was accepted, or ""."""
    config = study.config

    def at(path: str) -> Any:
        value: Any = config
        for key in path.split("."):
            value = value[key]
        return value

    for path, (kind, least, most) in RANGES.items():
        right = (int,) if kind is int else (int, float)
        if type(at(path)) not in right or not least <= at(path) <= most:
            return f"{path} is {at(path)!r:.60}"
    for path, choices in CHOICES.items():
        if at(path) not in choices:
            return f"{path} is {at(path)!r:.60}"
    if (
        not NAME.fullmatch(study.name)
        or "_vs_" in study.name
        or study.name in ("models", "reference", "compare", "combine", "contributions")
    ):
        return f"study is {study.name!r:.60}"
    if not NAME.fullmatch(config["model"]["name"]):
        return f"model.name is {config['model']['name']!r:.60}"
    workload = config["workload"]
    lengths, buckets = workload["prompt_lengths"], config["graphs"]["prefill_buckets"]
    if not 0 < len(set(lengths)) == len(lengths) <= 100 or not all(
        type(length) is int and 0 < length <= 100_000 for length in lengths
    ):
        return f"workload.prompt_lengths is {lengths!r:.60}"
    longest = max(lengths) + workload["new_tokens"]
    if config["model"]["source"] == "synthetic" and longest > 2**24:
        return f"a context of {longest}"
    if buckets and any(not any(length <= bucket <= longest for bucket in buckets) for length in lengths):
        return f"graphs.prefill_buckets is {buckets!r:.60}"
    processes = workload["repeats"] * (len(config["approaches"]) + 2)
    if processes > 2000 or processes * workload["requests"] * len(lengths) * workload["new_tokens"] > 1e8:
        return f"{processes} processes"
    if config["equivalence"]["prompts_per_length"] > workload["prompts_per_length"]:
        return "more prompts with logits than prompts"
    sampling = workload["sampling"]
    if sampling != "greedy" and not all(
        type(value) in (int, float) and 0 <= value <= 1e6 for value in sampling.values()
    ):
        return f"workload.sampling is {sampling!r:.60}"
    if any(pair["a"] == pair["b"] for pair in config["compare"]):
        return "a study compared with itself"
    json.dumps(config, allow_nan=False)
    msgspec.convert(study.plan(), Plan)
    return (
        ""
        if study.repeats and max(map(len, map(study.experiment_lengths, config["experiments"])), default=0) <= 1024
        else "lengths"
    )


def schema_keys(rule: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the config, by its path."""
    for key, inner in rule.get("properties", {}).items():
        yield (*path, key)
        yield from schema_keys(inner | inner.get("then", {}), (*path, key))


KEYS = list(schema_keys(SCHEMA))
KEYS += [
    ("model", "shape", key) for key in ("hidden_size", "num_attention_heads", "vocab_size", "num_hidden_layers", "x")
]


def changed(config: dict[str, Any], path: tuple[str, ...], change: str, value: Any) -> dict[str, Any]:
    """A copy in which one key has another value, is gone, or stands at another place."""
    config = copy.deepcopy(config)
    section: Any = config
    for key in path[:-1]:
        if not isinstance(section.get(key), dict):
            section[key] = {}
        section = section[key]
    old = section.pop(path[-1], None)
    if change == "set":
        section[path[-1]] = value
    elif change == "wrap":
        section[path[-1]] = value([old])
    elif change == "typo":
        section[path[-1] + "s"] = old
    elif change == "move":
        config[path[-1] + "_"] = old
    return config


def mutations(seed: int, count: int) -> Iterator[tuple[str, list[str], bytes]]:
    """A label, the names that a refusal may name, and the file's content."""
    generator = random.Random(seed)
    for _ in range(count):
        if generator.random() < 0.2:
            data = bytearray(TEXT.encode())
            for _ in range(generator.choice([1, 1, 3])):
                place = generator.randrange(len(data))
                kind = generator.randrange(4)
                if kind == 0:
                    data[place] = generator.randrange(256)
                elif kind == 1:
                    del data[place : place + generator.choice([1, 2, 30])]
                elif kind == 2:
                    data[place:place] = generator.choice(
                        [b"\t", b":", b"- ", b"\n", b"{", b"&a ", b"*a", b"!!", b"#", b"'", b"9", b".", b"e", b"\x00"]
                    )
                else:
                    lines = data.split(b"\n")
                    lines.insert(generator.randrange(len(lines)), generator.choice(lines))
                    data = bytearray(b"\n".join(lines))
            yield "text", [*{part for path in KEYS for part in path}, "config key"], bytes(data)
            continue
        config, label, names = DEFAULT, [], []
        for _ in range(generator.choice([1, 1, 1, 2])):
            path = generator.choice(KEYS)
            change = generator.choice(["set"] * 7 + ["drop", "wrap", "typo", "move"])
            value = generator.choice(VALUES) if change == "set" else generator.choice([list, lambda old: {"x": old}])
            config = changed(config, path, change, value)
            label.append(f"{change} {'.'.join(path)} {value!r:.50}")
            # A change may show in another key of the same sum, such as requests and repeats.
            names += [
                path[-1],
                *("config", "/dev/zero") * (path[0] == "claims"),
                *(("model", "path", "repo") if path[0] == "model" else ()),
                *(("workload", "prompt") if path[0] in ("workload", "graphs", "equivalence", "experiments") else ()),
            ]
        yield "; ".join(label), names, yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "surrogatepass")


def judge(content: bytes, keys: list[str], file: Path) -> tuple[str, str]:
    """The class of the answer, and what was said."""
    file.write_bytes(content)
    began = time.process_time()
    try:
        said = answer(file)
    except Exception as error:
        return "exception", f"{type(error).__name__}: {error}"[:200]
    if time.process_time() - began > CPU_LIMIT_S:
        return "slow", str(said)[:200]
    if isinstance(said, str):
        wrong = wrong_line(said, keys, file)
        return ("unclear", f"{wrong}: {said}") if wrong else ("refused", said)
    wrong = nonsense(said)
    return ("nonsense", wrong) if wrong else ("valid", "")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mutated_configs(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    counts: Counter[str] = Counter()
    wrong = []
    for label, keys, content in mutations(seed, COUNT):
        kind, said = judge(content, keys, tmp_path / "mutated.yaml")
        counts[kind] += 1
        if kind not in ("refused", "valid"):
            wrong.append(f"{kind} | {label} | {said}")
    print(f"seed {seed}: {dict(counts)}")
    assert not wrong, "\n".join([str(dict(counts)), *wrong])


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECIAL)
def test_files_that_are_no_config(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    content = SPECIAL[name]
    kind, said = judge(
        content if isinstance(content, bytes) else content.encode(), ["config key"], tmp_path / "special.yaml"
    )
    assert kind == ("valid" if name in ("BOM", "CRLF", "merge") else "refused"), said


@pytest.mark.slow
def test_the_same_line_in_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole workflow, with the mutation in config/config.yaml."""
    clone = fresh_clone(tmp_path / "clone")
    monkeypatch.chdir(clone)
    file = Path("config/config.yaml")
    contents = [SPECIAL["mapping bomb"], *(content for _, _, content in mutations(4, 20 * DRY_RUNS))]
    tried = 0
    for content in contents:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        line = answer(file)
        if isinstance(line, Study):
            continue
        result = Project(clone).run([sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--resources", "gpu=1"])
        assert f"firsttoken: {line}" in result.stderr.splitlines(), result.stderr
        assert result.returncode != 0
        assert "Traceback" not in result.stderr
        assert not Path("results").exists()
        tried += 1
        if tried == DRY_RUNS:
            return

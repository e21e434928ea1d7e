"""Each mistake ends the program before any job, with one line and a non-zero status."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from firsttoken.hardware import device_lock
from unit.inputs.fake_hub import REPO, REVISION, FakeHub, Faults
from unit.inputs.weights import Tensors, changed_copy, with_config
from unit.tiny_models import save_tiny_model
from workflow.project import Project, fresh_clone

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_clone(tmp_path_factory.mktemp("bad input"))


def complaint(clone: Path, config: str, env: dict[str, str] | None = None) -> str:
    """What a run with this config says; asserts that it is one line, that it fails and that nothing was made."""
    named = config if "study:" in config else f"study: bad\n{config}"
    (clone / "bad.yaml").write_text(named, encoding="utf-8")
    result = Project(clone, config="bad.yaml").snakemake(env=env)
    assert result.returncode != 0, result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("firsttoken: ")]
    noise = [
        line
        for line in result.stderr.splitlines()
        if line and not line.startswith(("firsttoken: ", "Using ", "Config file config/"))
    ]
    assert len(lines) == 1, result.stderr
    assert not noise, result.stderr
    assert not (clone / "results").exists()
    return lines[0]


# One for each place where a config is read: file, schema, study, model. tests/unit/test_check.py has more.
CASES = [
    ("threads: 1\nthreads: 2", "found key threads twice"),
    ("workload: {repeats: 0}", "workload.repeats"),
    ("on_unavailable: fail", "tensorrt_llm cannot run here"),
    ("model: {source: local, path: no/such/folder}", "no/such/folder"),
]


def test_a_study_without_a_name(clone: Path) -> None:
    """Its results would lie among those of the default study. Seen failing: it ran as `embedded`."""
    assert "bad.yaml: found no key study" in complaint(clone, "threads: 1  # no study: here")


@pytest.mark.parametrize(("config", "words"), CASES, ids=[case[0] for case in CASES])
def test_one_line(clone: Path, config: str, words: str) -> None:
    assert words in complaint(clone, config)


def test_a_local_model_that_is_only_a_pickle(clone: Path) -> None:
    folder = clone / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "safetensors" in complaint(clone, f"model: {{source: local, path: '{folder}'}}")


def quantised(tensors: Tensors) -> None:
    import torch

    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.float8_e4m3fn)


def test_a_local_model_with_other_weights(clone: Path, tmp_path: Path) -> None:
    """Told by a tensor's dtype alone, by the config alone, and by a file that is not whole."""
    plain = save_tiny_model("llama_gqa", tmp_path / "plain")
    (plain / "tokenizer.json").write_text("{}")
    folders = {
        "is stored as F8_E4M3": changed_copy(plain, tmp_path / "a", quantised),
        "has a quantization_config (bitsandbytes)": with_config(
            changed_copy(plain, tmp_path / "b", lambda tensors: None),
            quantization_config={"quant_method": "bitsandbytes"},
        ),
        "no whole safetensors file": changed_copy(plain, tmp_path / "c", lambda tensors: None),
    }
    os.truncate(tmp_path / "c" / "model.safetensors", 1000)
    for words, folder in folders.items():
        assert words in complaint(clone, f"model: {{source: local, path: '{folder}'}}")


def test_a_quantised_model_on_the_hub(clone: Path, tmp_path: Path) -> None:
    with FakeHub({"config.json": b'{"text_config": {"quantization_config": {"quant_method": "gptq"}}}'}) as hub:
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": "", "HF_HUB_OFFLINE": "0"}
        config = f"model: {{source: huggingface, repo: {REPO}, revision: '{REVISION}'}}"
        assert f"{REPO} at {REVISION}: config.json has a quantization_config" in complaint(clone, config, env)


@pytest.mark.parametrize("token", ["", "refused"], ids=["no token", "refused token"])
def test_a_gated_model_without_a_token_that_opens_it(clone: Path, tmp_path: Path, token: str) -> None:
    with FakeHub({"config.json": b"{}"}) as hub:
        hub.faults = Faults(gated=True)
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
        config = f"model: {{source: huggingface, repo: {REPO}, revision: '{REVISION}'}}"
        line = complaint(clone, config, env)
    assert f"{REPO} is gated; accept its licence at" in line
    assert "hf auth login" in line


BROKEN = {
    "workload: [1": "bad.yaml, line 1: not valid YAML (expected ',' or ']'",
    "study: x\nthreads: 1\nthreads: 2": "bad.yaml, line 3: not valid YAML (found key threads twice",
    "": "bad.yaml: found nothing",
    "study: reference": "config key study: found 'reference'",
}


def test_a_shell_that_changes_what_is_measured(project: Project) -> None:
    """Said before the first job; what measures nothing goes on."""
    shell = {"CUDA_LAUNCH_BLOCKING": "1"}
    result = project.snakemake("--forcerun", "record_environment", env=shell)
    assert result.returncode != 0
    assert "firsttoken: this shell has CUDA_LAUNCH_BLOCKING=1" in result.stderr
    assert result.stderr.rstrip().endswith("unset CUDA_LAUNCH_BLOCKING")
    assert project.snakemake("--dry-run", env=shell).returncode == 0


@pytest.mark.parametrize("config", BROKEN)
def test_make_run_says_the_same(clone: Path, config: str) -> None:
    """Its script reads the config first, to know the study's name."""
    (clone / "bad.yaml").write_text(config, encoding="utf-8")
    project = Project(clone, config="bad.yaml")
    result = project.run([sys.executable, "scripts/run.py", "--config", "bad.yaml"])
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert f"firsttoken: {BROKEN[config]}" in result.stderr
    if "twice" in BROKEN[config] or "key study" in BROKEN[config]:  # the others Snakemake itself cannot read
        assert result.stderr == f"{complaint(clone, config)}\n"


def test_a_default_config_that_is_no_yaml(tmp_path: Path) -> None:
    """Snakemake reads config/config.yaml after our check of it."""
    clone = fresh_clone(tmp_path)
    (clone / "config" / "config.yaml").write_text("workload: [1", encoding="utf-8")
    result = Project(clone).run([sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--resources", "gpu=1"])
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].startswith("firsttoken: config/config.yaml, line 1: not valid YAML")


def test_without_its_slot_a_measuring_job_refuses(project: Project) -> None:
    (project.folder / RUN).unlink()
    result = project.snakemake("--resources", "gpu=0", "--", RUN)
    assert result.returncode != 0
    assert "needs the resource gpu=1" in result.stdout + result.stderr


RUN = "results/tiny/raw/null/1.json"
CHECK = "results/tiny/model_check.json"


def flip_byte(project: Project) -> None:
    """The last byte of the weights, on the disk."""
    (weights,) = (project.folder / "results/models").glob("*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def test_a_byte_that_flips_before_the_first_measurement(project: Project) -> None:
    """Seen failing: all gates were green."""
    (project.folder / CHECK).unlink()
    (project.folder / RUN).unlink()
    flip_byte(project)
    result = project.snakemake("--", RUN)
    assert result.returncode != 0
    assert "model.safetensors: sha256 changed from " in result.stderr
    assert "and run again, which fetches it anew" in result.stderr
    assert not (project.folder / RUN).exists()


@pytest.mark.parametrize("rule", ["benchmark_approach", "make_reference"])
def test_a_byte_that_flips_later_stops_the_study(project: Project, rule: str) -> None:
    """Seen failing: all gates were green. It is no failed approach, and hashing again refuses it or goes on."""
    target = RUN if rule == "benchmark_approach" else "results/tiny/reference.safetensors"
    (project.folder / target).unlink()
    flip_byte(project)
    result = project.snakemake("--", target)
    assert result.returncode != 0
    line = next(line for line in result.stderr.splitlines() if line.startswith("firsttoken: "))
    assert re.search(r"model\.safetensors: mtime_ns changed from \d+ to \d+ since the model was hashed on ", line)
    assert f"`snakemake --forcerun check_model -- {CHECK}`, with the study's --configfile, hashes again" in line
    assert not (project.folder / target).exists()

    result = project.snakemake("--forcerun", "check_model", "--", CHECK)
    assert result.returncode != 0
    assert "model.safetensors: sha256 changed from " in result.stderr
    flip_byte(project)
    for wanted in (CHECK, target):
        result = project.snakemake("--", wanted)
        assert result.returncode == 0, result.stderr[-3000:]
    assert (project.folder / target).exists()


def test_the_same_bytes_hashed_again_leave_a_sound_study(project: Project) -> None:
    """Also where one job ran behind the new check and the others behind the old one."""
    flip_byte(project)
    flip_byte(project)
    (project.folder / RUN).unlink()
    result = project.snakemake("--forcerun", "check_model", "--", CHECK)
    assert result.returncode == 0, result.stderr[-3000:]
    result = project.snakemake("--", RUN)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stderr.count("Process ") == 1
    assert project.snakemake().returncode == 0
    verified = project.run([sys.executable, "scripts/verify.py", "tiny"])
    assert verified.returncode == 0, verified.stdout


def test_without_a_limit_measuring_jobs_still_run_one_at_a_time(project: Project) -> None:
    """The profile beside the Snakefile gives the limit that the command line lacks."""
    (project.folder / RUN).unlink()
    command = [sys.executable, "-m", "snakemake", RUN, "--cores", "2", "--configfile", project.config]
    result = project.run(command)
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search(r'Provided resources: gpu=(1|Resource\("gpu", 1\))', result.stdout + result.stderr), result.stderr


def test_without_the_profile_too_a_measuring_job_waits_for_the_device(project: Project) -> None:
    """Whoever holds the device: here this test, for as long as the job has not said that it waits."""
    (project.folder / RUN).unlink()
    log = project.folder / "results/tiny/logs/benchmark/null/1.log"
    log.unlink()
    command = [sys.executable, "-m", "snakemake", RUN, "--cores", "2", "--workflow-profile", "none"]
    command += ["--configfile", project.config]
    results = []
    with device_lock("cpu"):
        thread = threading.Thread(target=lambda: results.append(project.run(command)))
        thread.start()
        while thread.is_alive() and "waiting for cpu, held by" not in (log.read_text() if log.exists() else ""):
            thread.join(0.1)
        assert not (project.folder / RUN).exists()
        assert thread.is_alive()
    thread.join()
    assert results[0].returncode == 0, results[0].stderr[-3000:]
    assert (project.folder / RUN).exists()

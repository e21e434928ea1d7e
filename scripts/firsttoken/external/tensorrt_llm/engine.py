"""Building a TensorRT-LLM engine, and refusing one that was built for something else.

Runs in TensorRT-LLM's own environment (CPython 3.12, transformers 4.57), so nothing here needs the rest of our stack.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firsttoken.external.tensorrt_llm import settings
from firsttoken.external.tensorrt_llm.model import architecture_of, model_problem, read_config, readable_model
from firsttoken.files import read_json, sha256_file, write_json
from firsttoken.hardware import require_gpu
from firsttoken.plan import FileEntry, Plan, Unsupported
from firsttoken.progress import STATUS_WIDTH
from firsttoken.results import EngineManifest

BUILD_LOG = "build.log"


def manifest_path(engine_dir: Path) -> Path:
    """The manifest `{engine_dir}.json` beside the engine's folder."""
    return engine_dir.parent / f"{engine_dir.name}.json"


def require_environment() -> dict[str, str]:
    """The installed versions. Raises RuntimeError with one line where they are not those of TensorRT-LLM 1.2.1."""
    versions = settings.installed_versions()
    settings.require_versions(versions)
    return versions


# ---------------------------------------------------------------- building


def prepare_engine(model_dir: Path, plan: Plan, engine_dir: Path, manifest: Path) -> EngineManifest:
    """Build the engine that `plan` needs into `engine_dir` and write `manifest`.

    A model that cannot be built gives an empty folder and a manifest that says why. Raises RuntimeError in another
    environment or without a GPU, and whatever the builder raises; then `engine_dir` is removed.
    """
    os.environ.update(settings.process_environment(plan))
    versions = require_environment()
    gpu = require_gpu()
    config = read_config(model_dir)
    engine_dir.mkdir(parents=True, exist_ok=True)
    reason, build_s = "", 0.0
    begun = time.perf_counter()
    try:
        with copied_output(engine_dir / BUILD_LOG):
            _build(model_dir, config, plan, engine_dir)
        build_s = time.perf_counter() - begun
    except Unsupported as error:
        reason = str(error)
    except BaseException:
        shutil.rmtree(engine_dir, ignore_errors=True)
        raise
    record = EngineManifest(
        status="unavailable" if reason else "measured",
        reason=reason,
        architecture=architecture_of(config),
        dtype=plan.dtype,
        versions=versions,
        gpu=gpu,
        options={**settings.build_arguments(plan), **settings.plugin_settings(plan)},
        environment=settings.process_environment(plan),
        build_s=build_s,
        files=tuple(
            FileEntry(path=path.name, bytes=path.stat().st_size, sha256=sha256_file(path))
            for path in sorted(engine_dir.iterdir())
            if path.is_file()
        ),
    )
    write_json(manifest, record)
    return record


def _build(model_dir: Path, config: dict[str, Any], plan: Plan, engine_dir: Path) -> None:
    from tensorrt_llm import BuildConfig
    from tensorrt_llm._tensorrt_engine import LLM
    from tensorrt_llm.models import MODEL_MAP

    problem = model_problem(config, MODEL_MAP, plan)
    if problem:
        raise Unsupported(problem)
    # Neither class refuses a keyword that it does not know, so each name is looked for.
    build_config = BuildConfig(**settings.build_arguments(plan))
    require_fields(build_config, settings.build_arguments(plan))
    require_fields(build_config.plugin_config, settings.plugin_settings(plan))
    for name, value in settings.plugin_settings(plan).items():
        setattr(build_config.plugin_config, name, value)
    with readable_model(model_dir, plan.dtype) as folder:
        llm = LLM(
            model=str(folder),
            dtype=plan.dtype,
            skip_tokenizer_init=True,
            enable_tqdm=True,
            build_config=build_config,
            **settings.engine_arguments(plan, cuda_graphs=False),
        )
        try:
            llm.save(str(engine_dir))
        finally:
            llm.shutdown()
    for name in ("config.json", "rank0.engine"):
        if not (engine_dir / name).is_file():
            raise RuntimeError(f"TensorRT-LLM saved no {name} in {engine_dir}; its messages are above")


def require_fields(config: object, names: Iterable[str]) -> None:
    """Raise RuntimeError with one line where one of TensorRT-LLM's configs lacks a name that we set."""
    for name in names:
        if not hasattr(config, name):
            raise RuntimeError(f"TensorRT-LLM's {type(config).__name__} has no {name!r}; is this {settings.VERSION}?")


@contextmanager
def copied_output(log: Path) -> Iterator[None]:
    """Copy what this process, its C++ libraries and its workers print to `log` as well as to where it went; to the log
    alone in a run whose logger shows how far the study is."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    # Its copy goes to our stderr: Snakemake reads the job's stdout.
    shown = subprocess.DEVNULL if STATUS_WIDTH in os.environ else saved[1]
    copier = subprocess.Popen(["tee", "-a", str(log)], stdin=subprocess.PIPE, stdout=shown)
    assert copier.stdin is not None
    try:
        os.dup2(copier.stdin.fileno(), 1)
        os.dup2(copier.stdin.fileno(), 2)
        copier.stdin.close()
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in saved:
            os.close(descriptor)
        try:
            copier.wait(timeout=10)
        except subprocess.TimeoutExpired:  # somebody still holds the pipe: what was said so far is in the log
            copier.kill()
            copier.wait()


# ---------------------------------------------------------------- using


def check_engine(engine_dir: Path, plan: Plan) -> EngineManifest:
    """The manifest of an engine that serves `plan` on this GPU with this version.

    Raises `Unsupported` where it could not be built, and RuntimeError with one line where it is missing or was
    built for another GPU, version, dtype or size.
    """
    path = manifest_path(engine_dir)
    if not path.is_file():
        raise RuntimeError(f"no engine: {path} is missing; build it with the rule prepare_engine")
    manifest = read_json(path, EngineManifest)
    if manifest.status == "unavailable":
        raise Unsupported(manifest.reason)
    config_path = engine_dir / "config.json"
    if not config_path.is_file():
        raise RuntimeError(f"no engine: {config_path} is missing; remove {path} and build again")
    engine = json.loads(config_path.read_text(encoding="utf-8"))
    gpu, built_for, limits = require_gpu(), manifest.gpu, engine["build_config"]
    assert built_for is not None  # `prepare_engine` above needs one
    sizes = settings.engine_sizes(plan)
    found_and_wanted = [
        ("TensorRT-LLM", engine["version"], settings.VERSION),
        ("GPU", built_for.name, gpu.name),
        ("compute capability", built_for.compute_capability, gpu.compute_capability),
        ("dtype", engine["pretrained_config"]["dtype"], plan.dtype),
    ]
    for what, found, wanted in found_and_wanted:
        if found != wanted:
            raise RuntimeError(f"{engine_dir}: built for {what} {found}, this run has {wanted}; build it again")
    if limits["max_input_len"] < sizes.max_input_len or limits["max_seq_len"] < sizes.max_seq_len:
        raise RuntimeError(
            f"{engine_dir}: built for prompts of {limits['max_input_len']} and sequences of {limits['max_seq_len']} "
            f"tokens, the plan needs {sizes.max_input_len} and {sizes.max_seq_len}; build it again"
        )
    return manifest

"""The rule `prepare_engine` for llama.cpp: the model as a GGUF file in the plan's dtype."""

from __future__ import annotations

import json
import platform
import time
from importlib import metadata
from pathlib import Path

from firsttoken.external.llama_cpp.gguf_file import GGUF_TYPES, write_gguf
from firsttoken.files import atomic_path, read_json, sha256_file, write_json
from firsttoken.plan import FileEntry, Plan, Unsupported
from firsttoken.results import EngineManifest, Setting

GGUF_FILE = "model.gguf"


def manifest_path(engine_dir: Path) -> Path:
    """The manifest `{engine_dir}.json` beside the engine's folder."""
    return engine_dir.parent / f"{engine_dir.name}.json"


def prepare_engine(model_dir: Path, plan: Plan, engine_dir: Path, manifest: Path) -> EngineManifest:
    """Write `engine_dir/model.gguf` and `manifest`; of the plan only the dtype decides what is in them.

    A model that cannot be written gives an empty folder and a manifest that says why.
    """
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    engine_dir.mkdir(parents=True, exist_ok=True)
    reason, options, files = "", dict[str, Setting](gguf_type=GGUF_TYPES[plan.dtype]), tuple[FileEntry, ...]()
    begun = time.perf_counter()
    try:
        with atomic_path(engine_dir / GGUF_FILE) as temporary:
            shape = write_gguf(model_dir, plan.dtype, temporary)
        options |= {
            "architecture": shape.architecture,
            "layers": shape.layers,
            "rope": shape.rope.kind,
            "tied_embeddings": shape.tied,
            "attention_window": shape.window,
        }
        path = engine_dir / GGUF_FILE
        files = (FileEntry(path=path.name, bytes=path.stat().st_size, sha256=sha256_file(path)),)
    except Unsupported as error:
        reason = str(error)
    record = EngineManifest(
        status="unavailable" if reason else "measured",
        reason=reason,
        architecture=str((config.get("architectures") or ["(none named in config.json)"])[0]),
        dtype=plan.dtype,
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in ("gguf", "numpy")}},
        gpu=None,
        options=options,
        environment={},
        build_s=time.perf_counter() - begun,
        files=files,
    )
    write_json(manifest, record)
    return record


def find_gguf(plan: Plan) -> Path:
    """The GGUF file in `plan.engine_dir`, if it serves the plan.

    Raises `Unsupported` where the model could not be written or attends to a window shorter than the context, and
    RuntimeError with one line where the file is missing or has another dtype.
    """
    engine_dir = Path(plan.engine_dir)
    manifest_file, path = manifest_path(engine_dir), engine_dir / GGUF_FILE
    if not manifest_file.is_file():
        raise RuntimeError(f"no GGUF file: {manifest_file} is missing; make it with the rule prepare_engine")
    manifest = read_json(manifest_file, EngineManifest)
    if manifest.status == "unavailable":
        raise Unsupported(manifest.reason)
    if not path.is_file():
        raise RuntimeError(f"no GGUF file: {path} is missing; remove {manifest_file} and make it again")
    if manifest.dtype != plan.dtype:
        raise RuntimeError(f"{path} holds {manifest.dtype}, the plan asks for {plan.dtype}; make it again")
    window = manifest.options["attention_window"]
    if isinstance(window, int) and 0 < window < plan.max_context:
        raise Unsupported(
            f"the model attends to a window of {window} positions and the plan needs {plan.max_context}; "
            "llama.cpp has no window in this architecture"
        )
    return path

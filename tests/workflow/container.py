"""A stand-in for apptainer: it "pulls" an empty image and runs commands with a Python that has no packages at all.

What Snakemake would mount into the container is put where the mounts would be: in the job's script the mount points are
replaced by what they show.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

PROGRAM = """#!{python}
import ast, json, os, pathlib, pickle, re, sys

arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("apptainer version 1.3.4")
elif arguments[0] == "pull":
    pathlib.Path(arguments[arguments.index("--name") + 1]).touch()
else:
    command = arguments[-1]
    bound = [value for option, value in zip(arguments, arguments[1:]) if option == "--bind" and ":" in value]
    binds = dict(reversed(value.rsplit(":", 1)) for value in bound)
    script = pathlib.Path(re.search(r"(/[^'\\"]*/[.]snakemake/scripts/[^'\\"]+[.]py)", command).group(1))
    text = script.read_text()
    calls = [node for node in ast.walk(ast.parse(text.splitlines()[1])) if isinstance(node, ast.Call)]
    job = pickle.loads(next(node.args[0].value for node in calls if getattr(node.func, "attr", "") == "loads"))
    note = {{"nv": os.environ.get("APPTAINER_NV"), **{{name: job.resources.get(name) for name in ("gpu", "mem_mb")}}}}
    with open({record!r}, "a") as stream:
        stream.write(json.dumps(note) + "\\n")
    for inside, outside in sorted(binds.items(), key=lambda bind: -len(bind[0])):
        text = text.replace(repr(inside), repr(outside))
    assert "/mnt/snakemake" not in text.splitlines()[1], text.splitlines()[1]
    script.write_text(text)
    os.environ["PATH"] = {bare!r} + os.pathsep + os.environ["PATH"]
    os.execvp(arguments[-3], arguments[-3:])
"""


def install(folder: Path) -> tuple[dict[str, str], Path]:
    """Environment variables under which Snakemake finds it, and the file where it notes how it was called."""
    bare, record = folder / "bare", folder / "calls.jsonl"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    program = folder / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, record=str(record), bare=str(bare / "bin")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}, record


def calls(record: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in record.read_text().splitlines()]

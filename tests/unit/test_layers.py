"""Who may import whom: the layout is the architecture. The contracts are in pyproject.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
PACKAGE = SCRIPTS / "firsttoken"


def lint_imports(scripts: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts on the package in `scripts`."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    command = [sys.executable, "-P", "-c", code, str(ROOT / "pyproject.toml")]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(scripts)}, capture_output=True, text=True)


def test_imports_run_downwards() -> None:
    done = lint_imports(SCRIPTS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/clock.py", "import firsttoken.hf.load"),
        ("hf/masks.py", "import firsttoken.compiled.model"),
        ("hf/masks.py", "from firsttoken import engines"),
        ("compiled/__init__.py", "from firsttoken.server import protocol"),
        ("external/__init__.py", "import firsttoken.engine.graphs"),
        ("server/protocol.py", "import firsttoken.approaches.base"),
        ("measure/harness.py", "import firsttoken.approaches.null"),
        ("measure/harness.py", "import firsttoken.inputs.fetch"),
        ("analysis/gates.py", "import firsttoken.approaches.base"),
        ("analysis/gates.py", "import firsttoken.study.config"),
        ("report/formatting.py", "import firsttoken.study.config"),
        ("inputs/fetch.py", "import firsttoken.measure.clocks"),
        ("study/config.py", "import firsttoken.inputs.fetch"),
        ("plan.py", "import firsttoken.results"),
        ("process.py", "import firsttoken.hardware"),
        ("files.py", "import snakemake"),
    ],
)
def test_an_import_that_runs_upwards_is_noticed(file: str, line: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "firsttoken", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "firsttoken" / file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1 and "1 broken" in done.stdout, done.stdout + done.stderr


def test_every_part_of_the_package_stands_in_a_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    named = {module.removeprefix("firsttoken.") for contract in contracts for key in ("source_modules", "modules")
             for module in contract.get(key, ())}  # fmt: skip
    named |= {name for contract in contracts for layer in contract.get("layers", ()) for name in layer.split(" | ")}
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert parts - {"__init__"} <= named


def test_every_rule_has_a_script_of_its_name() -> None:
    """The gates share one."""
    text = "".join(path.read_text(encoding="utf-8") for path in (SCRIPTS.parent / "rules").glob("*.smk"))
    scripts = re.findall(r"^rule (\w+):\n(?:(?!^rule ).*\n)*?.*\"\.\./scripts/(\w+)\.py\"", text, re.MULTILINE)
    assert len(scripts) == len(re.findall(r"^rule ", text, re.MULTILINE))
    for rule, script in scripts:
        assert script == ("gate" if rule.startswith("gate_") else rule), f"rule {rule} runs {script}.py"
        assert (SCRIPTS / f"{script}.py").is_file()

"""Who may import whom: the layout is the architecture."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PACKAGE = SCRIPTS / "firsttoken"
FORBIDDEN = {
    "approaches": ("measure", "analysis", "report", "study", "inputs"),
    "server": ("approaches", "measure", "analysis", "report", "study", "inputs", "external"),
    "hf": ("approaches", "server", "compiled", "external", "measure", "analysis", "report", "study", "inputs"),
    "compiled": ("approaches", "server", "external", "measure", "analysis", "report", "study", "inputs"),
    "engine": (
        "approaches", "server", "hf", "compiled", "external", "measure", "analysis", "report", "study", "inputs",
    ),
    "external": ("approaches", "server", "compiled", "measure", "analysis", "report", "study", "inputs"),
    "measure": ("engine", "hf", "compiled", "server", "external", "analysis", "report", "study", "inputs"),
    "analysis": ("approaches", "engine", "hf", "compiled", "server", "external", "measure", "report", "study"),
    "report": ("approaches", "engine", "hf", "compiled", "server", "external", "measure", "study", "inputs"),
    "inputs": ("approaches", "engine", "hf", "compiled", "server", "external", "measure", "analysis", "study"),
    "study": ("approaches", "engine", "hf", "compiled", "server", "external", "measure", "analysis", "inputs"),
}  # fmt: skip


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


def test_each_layer_is_there() -> None:
    assert all(any((PACKAGE / layer).glob("*.py")) for layer in FORBIDDEN)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    found = imports(path)
    assert not any(name.split(".")[0] == "snakemake" for name in found), "the package never imports snakemake"
    for layer in (parts[0], "/".join(parts[:2])):
        for other in FORBIDDEN.get(layer, ()):
            assert not any(name.startswith(f"firsttoken.{other}") for name in found), f"{layer} must not import {other}"
    if parts[0] == "measure":
        doors = {name for name in found if name.startswith("firsttoken.approaches.")}
        assert all(name.startswith("firsttoken.approaches.base") for name in doors)


def test_every_rule_has_a_script_of_its_name() -> None:
    """The gates share one."""
    text = "".join(path.read_text(encoding="utf-8") for path in (SCRIPTS.parent / "rules").glob("*.smk"))
    scripts = re.findall(r"^rule (\w+):\n(?:(?!^rule ).*\n)*?.*\"\.\./scripts/(\w+)\.py\"", text, re.MULTILINE)
    assert len(scripts) == len(re.findall(r"^rule ", text, re.MULTILINE))
    for rule, script in scripts:
        assert script == ("gate" if rule.startswith("gate_") else rule), f"rule {rule} runs {script}.py"
        assert (SCRIPTS / f"{script}.py").is_file()

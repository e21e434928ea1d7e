"""A rule's `sources` cover all that its script imports from the package: else an edit there would rerun nothing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from firsttoken.study.sources import _imported_names, _module_files, package_sources

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
PACKAGE = SCRIPTS / "firsttoken"
RULES = {
    name: body
    for file in sorted((ROOT / "rules").glob("*.smk"))
    for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", file.read_text(encoding="utf-8"), re.S | re.M)
}
OUTPUTS = (ROOT / "rules" / "outputs.smk").read_text(encoding="utf-8")
FIGURE_INPUTS = OUTPUTS[OUTPUTS.index("def figure_inputs(") : OUTPUTS.index("def figure_outputs(")]
# A run is made of its approach and the harness: an edit of the glue around every job must not undo measurements.
OF_A_RUN = ("approaches/null.py", "measure/harness.py", "measure/environment.py", "hardware.py")
GLUE = {PACKAGE / name for name in ("study/job.py", "study/trace.py", "process.py")}


def behind(script: Path) -> set[Path]:
    """The package's files that a script depends on, `__init__.py` left out: those hold nothing but docstrings."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    modules = {file for name in _imported_names(tree) for file in _module_files(SCRIPTS, name)}
    found = {Path(path) for file in modules for path in package_sources(SCRIPTS, str(file.relative_to(PACKAGE)))}
    return {path for path in found if path.name != "__init__.py"}


@pytest.mark.parametrize("rule", RULES)
def test_sources_cover_the_scripts_imports(rule: str) -> None:
    body = RULES[rule]
    figure = re.search(r'figure_inputs\("(\w+)"\)', body)
    body += FIGURE_INPUTS.replace("{name}", figure.group(1)) if figure else ""
    script = re.search(r'script:\s*"\.\./scripts/(\w+\.py)"', body)
    assert script, f"rule {rule} has no script"
    of_a_run = "sources=approach_sources" in body
    named = [*OF_A_RUN] if of_a_run else []
    for call in re.findall(r"sources\(([^)]*)\)", body):
        named += re.findall(r'"([\w/]+\.py)"', call)
    covered = {Path(path) for module in named for path in package_sources(SCRIPTS, module)}
    missing = behind(SCRIPTS / script.group(1)) - covered - (GLUE if of_a_run else set())
    assert not missing, f"rule {rule} does not take {sorted(path.name for path in missing)} as inputs"

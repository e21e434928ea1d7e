"""The files behind a module: direct, transitive, inside functions, and modules started by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firsttoken.approaches.base import approach_class
from firsttoken.study.sources import CHOSEN, not_chosen, package_sources
from unit.tiny_models import save_tiny_model

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    package = tmp_path / "firsttoken"
    for folder in ("a", "b"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "a" / "top.py").write_text("import numpy\nfrom firsttoken.b import middle\n")
    (package / "b" / "middle.py").write_text("def f():\n    from firsttoken.b.leaf import x\n")
    (package / "b" / "leaf.py").write_text("MODULE = 'firsttoken.b.started'\nTEXT = 'firsttoken is a name'\n")
    (package / "b" / "started.py").write_text("from firsttoken.a import top\n")
    (package / "b" / "unrelated.py").write_text("")
    return tmp_path


def test_follows_all_imports_and_nothing_else(root: Path) -> None:
    found = {str(Path(path).relative_to(root / "firsttoken")) for path in package_sources(root, "a/top.py")}
    assert found == {
        "__init__.py", "a/__init__.py", "b/__init__.py", "a/top.py", "b/middle.py", "b/leaf.py", "b/started.py",
    }  # fmt: skip


def test_a_missing_module_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        package_sources(root, "a/nowhere.py")


def test_the_real_package_client_includes_its_generator() -> None:
    found = package_sources(SCRIPTS, "approaches/cuda_graph.py")
    assert any(path.endswith("server/server.py") for path in found)
    assert any(path.endswith("engines.py") for path in found)
    assert not any("/analysis/" in path for path in found)


def test_what_is_left_out_is_not_followed(root: Path) -> None:
    found = package_sources(root, "a/top.py", without=["b/leaf.py"])
    assert {Path(path).name for path in found} == {"__init__.py", "top.py", "middle.py"}


def test_the_modules_that_are_chosen_between_exist() -> None:
    assert [module for module in CHOSEN if not (SCRIPTS / "firsttoken" / module).is_file()] == []


# Each engine is built in a process of its own, forked when the large libraries are there.
WHAT_IS_LOADED = r"""
import os
import sys
from pathlib import Path
from typing import Any
import torch, torch._dynamo, transformers.models.llama.modeling_llama
folder, *approaches = sys.argv[1:]
for name in approaches:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    from firsttoken.approaches.base import approach_class
    from firsttoken.engines import build_engine
    from fakes.engines import make_spec
    kind = approach_class(name)
    spec = make_spec(Path(folder, "model"), kind.forward, kind.dynamic_operations, jit_backend="torchscript")
    build_engine(spec).close()
    modules = [module for module in sys.modules if module.startswith("firsttoken.")]
    Path(folder, name).write_text("\n".join(sys.modules[module].__file__ for module in modules))
    sys.exit()
"""
BUILT = ["eager_loop", "jit_only", "cuda_graph", "cuda_graph_published_ops", "jit_cuda", "compiled_graph", "null_2p"]


def test_what_an_approachs_engine_loads_is_among_its_sources(tmp_path: Path) -> None:
    save_tiny_model("llama_gqa", tmp_path / "model")
    result = subprocess.run(
        [sys.executable, "-c", WHAT_IS_LOADED, str(tmp_path), *BUILT],
        env=os.environ | {"PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for name in BUILT:
        kind: Any = approach_class(name)
        loaded = {Path(path) for path in (tmp_path / name).read_text().splitlines()}
        skipped = not_chosen(kind.forward, kind.dynamic_operations, kind.processes)
        sources = {Path(path) for path in package_sources(SCRIPTS, f"approaches/{name}.py", skipped)}
        assert {path for path in loaded - sources if path.name != "__init__.py"} == set(), name
        assert not {SCRIPTS / "firsttoken" / module for module in skipped} & sources, name


@pytest.mark.parametrize(
    "module",
    ["measure/ipc.py", "measure/experiments.py", "measure/harness.py", "experiment_tables.py", "server/server.py"],
)
def test_a_new_column_of_an_analysis_table_measures_nothing_again(module: str) -> None:
    """Nothing that measures, and no script that does, depends on a file of analysis."""
    files = {Path(path).relative_to(SCRIPTS / "firsttoken").parts[0] for path in package_sources(SCRIPTS, module)}
    assert "analysis" not in files


def test_no_measuring_script_imports_analysis() -> None:
    scripts = [path for path in SCRIPTS.glob("*.py") if path.name.startswith(("measure_", "benchmark_", "make_"))]
    assert len(scripts) > 4
    assert [path.name for path in scripts if "firsttoken.analysis" in path.read_text(encoding="utf-8")] == []


def test_experiments_and_analysis_tables_share_only_the_way_they_are_checked() -> None:
    tables, experiments = (
        {Path(path).name for path in package_sources(SCRIPTS, module)}
        for module in ("analysis/schemas.py", "experiment_tables.py")
    )
    assert tables & experiments == {"__init__.py", "csv_tables.py", "files.py"}

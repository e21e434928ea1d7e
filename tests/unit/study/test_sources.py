"""The files behind a module: direct, transitive, inside functions, and modules started by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from firsttoken.study.sources import package_sources


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
    scripts = Path(__file__).parents[3] / "scripts"
    found = package_sources(scripts, "approaches/cuda_graph.py")
    assert any(path.endswith("runtime/generator.py") for path in found)
    assert any(path.endswith("runtime/engine.py") for path in found)
    assert not any("/analysis/" in path for path in found)

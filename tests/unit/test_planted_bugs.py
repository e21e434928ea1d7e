"""Each planted bug has its one place in the code, and its test is there; running them takes what few machines have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from planted_bugs import BUGS, ROOT, Bug, plant


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_a_bug_has_its_place(bug: Bug, tmp_path: Path) -> None:
    (tmp_path / bug.file).parent.mkdir(parents=True)
    shutil.copy(ROOT / bug.file, tmp_path / bug.file)
    plant(bug, tmp_path)
    compile((tmp_path / bug.file).read_text(), bug.file, "exec")
    tests = (ROOT / bug.test).read_text()
    assert any(bug.select in line for line in tests.splitlines() if line.startswith("def test_")), bug.select

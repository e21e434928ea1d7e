"""What is made of pip-audit's report: a finding fails, an index without advisories does not."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

import audit_locks

CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD = {"name": "jinja2", "version": "3.1.3", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.4"], "aliases": []}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0)"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([CLEAN, UNKNOWN], 0, "0 vulnerabilities in 1 packages; 1 could not be looked up"),
        ([CLEAN, BAD], 1, "jinja2 3.1.3: PYSEC-1, mended in 3.1.4"),
        ([UNKNOWN], 0, "audit of requirements.lock: skipped, the package index here has no advisories"),
        (None, 0, "audit of requirements.lock: skipped, pip-audit did not run: ConnectionError: no route"),
    ],
)
def test_what_ci_does_with_a_report(
    packages: list[Any] | None,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})

    def run(command: list[Any], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, report, "Traceback\nConnectionError: no route\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(SystemExit) as ended:
        audit_locks.main()
    assert bool(ended.value.code) == bool(status)
    assert words in capsys.readouterr().out

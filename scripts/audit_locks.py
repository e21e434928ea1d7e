"""Known vulnerabilities of the packages in the locks, by pip-audit: `make audit`.

An index that has no advisories, or no network, is said and is no failure; a finding is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-torch-cuda.lock", *sorted(ROOT.glob("envs/*.lock")))
# In an environment of its own. The locks are complete and hashed, so that it need not ask pip to resolve them.
PIP_AUDIT = ("tool", "run", "--quiet", "pip-audit==2.10.1", "--require-hashes", "--disable-pip", "--format=json", "-r")


def findings(report: str) -> tuple[list[str], int, int]:
    """Of pip-audit's JSON: a line for each vulnerability, and how many packages were looked up and were not.

    Raises ValueError where it is no report.
    """
    packages = json.loads(report)["dependencies"]
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none'}"
        for package in packages
        for found in package.get("vulns", ())
    ]
    skipped = sum("skip_reason" in package for package in packages)
    return lines, len(packages) - skipped, skipped


def main() -> None:
    """Print what was found in each lock; the status is 1 for a vulnerability."""
    bad = False
    for lock in LOCKS:
        uv = Path(sys.executable).with_name("uv")
        run = subprocess.run([uv, *PIP_AUDIT, lock], capture_output=True, text=True)
        try:
            lines, known, skipped = findings(run.stdout)
        except ValueError:
            reason = (run.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            print(f"audit of {lock.name}: skipped, pip-audit did not run: {reason[:200]}")
            continue
        if not known:
            print(f"audit of {lock.name}: skipped, the package index here has no advisories")
            continue
        print(
            f"audit of {lock.name}: {len(lines)} vulnerabilities in {known} packages; {skipped} could not be looked up"
        )
        for line in lines:
            print(f"  {line}; make locks ARGS='--upgrade-package NAME'")
        bad = bad or bool(lines)
    sys.exit(bad)


if __name__ == "__main__":
    main()

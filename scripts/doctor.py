"""Is this machine ready to measure? `python scripts/doctor.py`; with `--version` the versions alone."""

from __future__ import annotations

import sys
from pathlib import Path

try:  # they take seconds
    from firsttoken.command_line import end_with
    from firsttoken.doctor import examine, versions
    from firsttoken.preflight import as_table
except KeyboardInterrupt:
    sys.exit(130)

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Print; 1 where something must be mended first."""
    if arguments == ["--version"]:
        print("\n".join(f"{name} {version}" for name, version in versions(ROOT).items()))
        return 0
    found = examine(ROOT)
    print(as_table(found))
    return int(any(finding.verdict == "no" for finding in found))


if __name__ == "__main__":
    end_with(lambda: main(sys.argv[1:]))

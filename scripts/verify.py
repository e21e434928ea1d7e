"""Check a study's files against its provenance: `python scripts/verify.py embedded` (or a folder, e.g.
results/reference/h200)."""

from __future__ import annotations

import sys
from pathlib import Path

try:  # they take seconds
    from firsttoken.command_line import end_with
    from firsttoken.study.config import find_study
    from firsttoken.study.schema import one_line
    from firsttoken.study.verification import verify
except KeyboardInterrupt:
    sys.exit(130)

ROOT = Path(__file__).resolve().parent.parent


def main(study: str) -> int:
    """Print what has changed or is missing; 0 when every result is as it was, and all that made it can be found."""
    try:
        provenance = find_study(study, ROOT / "results") / "provenance.json"
        verdict = verify(provenance, ROOT)
    except (ValueError, OSError) as error:
        print(f"firsttoken: {one_line(str(error))}", file=sys.stderr)
        return 2
    for line in (*verdict.changed, *verdict.missing, *verdict.not_checked, *verdict.earlier, *verdict.notes):
        print(line)
    print(
        f"{provenance}: {verdict.checked} files checked, {len(verdict.changed)} changed, "
        f"{len(verdict.missing)} missing, {len(verdict.not_checked)} that cannot be checked, "
        f"{len(verdict.earlier)} of earlier commits, {verdict.pooled} raw files in records.parquet by their hash, "
        f"{len(verdict.not_shipped)} not shipped (weights, logits)"
    )
    print(f"SHA-256 of provenance.json: {verdict.sha256}")
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    end_with(lambda: main(sys.argv[1]))

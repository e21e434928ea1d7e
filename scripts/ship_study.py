"""Copy a finished study to where it can be committed: `make ship STUDY=llama2-7b-shape` gives
results/reference/llama2-7b-shape/.

Left behind is what is too large to ship and can be made again: weights, logits, engine, compiled code. What goes along
is enough to check every hash (`make verify`) and to make the report again (`make report`), on a machine without a GPU.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_BEHIND = shutil.ignore_patterns("*.logits", "engine", ".cache", ".snakemake_timestamp", "report.html", "tests.xml")


def main(study: str) -> int:
    """Copy results/{study} and the model's manifest."""
    source = ROOT / "results" / study
    target = ROOT / "results" / "reference" / study
    if not (source / "provenance.json").exists():
        print(f"firsttoken: {source}/provenance.json: no such file; ship a finished study", file=sys.stderr)
        return 1
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=LEFT_BEHIND)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.1f} MB; commit it with: git add {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))

"""Copy a finished study to where it can be committed: `make ship STUDY=llama2-7b-shape` gives
results/reference/llama2-7b-shape/.

Only data ship: pooled samples and records, the table of positions that equality is judged by, experiments, machine,
config, prompts and provenance. `make verify` checks their hashes, and `make report` makes tables, figures and pages of
them, on a machine without a GPU. Raw files, logits and weights stay behind. results/reference/README.md lists the
SHA-256 of the study's provenance.json, which `make verify` compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from firsttoken.files import sha256_file
from firsttoken.study.shipping import HASH_LIST, ship

ROOT = Path(__file__).resolve().parent.parent


def main(study: str) -> None:
    """Copy the data of results/{study} and the model's manifest."""
    target = ROOT / "results" / "reference" / study
    try:
        ship(ROOT / "results" / study, target, ROOT)
    except ValueError as error:
        sys.exit(f"firsttoken: {error}")
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    commit = f"git add {target.relative_to(ROOT)} {target.parent.relative_to(ROOT) / HASH_LIST}"
    print(f"{target}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB; commit it with: {commit}")
    print(f"SHA-256 of provenance.json: {sha256_file(target / 'provenance.json')}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

"""Convert a shipped study of schema version 1 to version 2: `python scripts/convert_study.py llama2-7b-shape-short`.

Version 1 has raw files, tables, figures and pages. Version 2 has data only: the raw files pooled, each with its
SHA-256; the table of positions that equality is judged by; the model's manifest; and the provenance of what measured.
What was measured stays as it is. Added is what analysis needs and version 1 did not record:

- `ahead`, by how many steps an approach read its tokens late: graph approaches one, compiled_graph two, eager_loop and
  jit_only none, as the code of these studies had it;
- `layers`, the depth of the model, in the table of positions.

A study from before that table gets one from its tokens and the logits of the reference, for the prompts whose logits
the reference holds. The verdicts of the gate of its time stay beside, in equivalence_of_earlier_gate.csv.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors.numpy import load_file, save_file

from firsttoken import files
from firsttoken.analysis.equality_positions import compare_with_reference
from firsttoken.analysis.schemas import write_table
from firsttoken.plan import Record
from firsttoken.pooled_runs import RECORDS_SCHEMA, SCHEMA_VERSION, write_pooled
from firsttoken.results import RunRecord, TokensRecord
from firsttoken.study.provenance import Provenance, ship
from firsttoken.study.trace import Trace, digests

ROOT = Path(__file__).resolve().parent.parent
AHEAD = {
    "cuda_graph": 1,
    "jit_cuda": 1,
    "cuda_graph_1p": 1,
    "jit_cuda_1p": 1,
    "compiled_graph": 2,
    "eager_loop": 0,
    "jit_only": 0,
}
LAYERS = 32
# Rules that analyse and draw: their outputs do not ship any more.
MEASURING = ("benchmark", "measure", "make", "fetch", "check_model", "record", "build")


class OldProvenance(Record, frozen=True, kw_only=True):
    study: str
    jobs: tuple[Trace, ...]
    breaks: tuple[str, ...]


def main(name: str, manifest: str) -> None:
    """Replace results/reference/{name}; `manifest` is a file with the bytes of the model's manifest."""
    old = ROOT / "results" / "reference" / name
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / name
        shutil.copytree(old, new)
        pool(new)
        positions(new)
        write_provenance(old, new)
        shutil.copyfile(manifest, new / "model.json")
        ship(new, old, ROOT)


def pool(study: Path) -> None:
    """samples.parquet and records.parquet from the raw files."""
    rows, samples = [], []
    for path in sorted((study / "raw").glob("*/[0-9]*.parquet")):
        record_file, tokens_file = path.with_suffix(".json"), path.with_suffix(".tokens.json")
        record = json.loads(record_file.read_text(encoding="utf-8"))
        tokens = json.loads(tokens_file.read_text(encoding="utf-8"))
        record["ahead"] = AHEAD.get(record["approach"])
        for prompt in tokens["prompts"]:
            if "answers" not in prompt:  # before requests that differed were kept; here none did
                assert prompt.pop("differing_runs") == 0, tokens_file
                prompt["answers"] = [{"tokens": prompt.pop("tokens"), "requests": prompt.pop("runs")}]
        rows.append(
            {
                "approach": record["approach"],
                "repeat": record["repeat"],
                "record_json": text(msgspec.convert(record, RunRecord)),
                "tokens_json": text(msgspec.convert(tokens, TokensRecord)),
                "record_sha256": files.sha256_file(record_file),
                "tokens_sha256": files.sha256_file(tokens_file),
                "samples_sha256": files.sha256_file(path),
            }
        )
        samples.append(pq.read_table(path))
    before = pq.read_table(study / "samples.parquet").sort_by(SORT)
    pooled = pa.concat_tables(samples)
    assert pooled.sort_by(SORT).equals(before.cast(pooled.schema)), "other samples than those that were pooled before"
    write_pooled(pooled, study / "samples.parquet")
    write_pooled(pa.Table.from_pylist(rows, schema=RECORDS_SCHEMA), study / "records.parquet")


SORT = [(name, "ascending") for name in ("approach", "repeat", "request", "token_index")]


def text(record: Record) -> str:
    return msgspec.json.encode(record).decode()


def positions(study: Path) -> None:
    """equality_positions.csv with the column `layers`, or from tokens and reference alone."""
    path = study / "tables" / "equality_positions.csv"
    if path.exists():
        table = pd.read_csv(path, keep_default_na=False, dtype={"note": str})
        numbers = [name for name in table.columns if name not in ("approach", "note")]
        table[numbers] = table[numbers].apply(pd.to_numeric)
        table.insert(1, "layers", LAYERS)
        write_table(table, "equality_positions", path)
        return
    shutil.copyfile(study / "tables" / "equivalence.csv", study / "equivalence_of_earlier_gate.csv")
    tensors: dict[str, Any] = load_file(study / "reference.safetensors")
    keys = [name.removeprefix("logits/") for name in tensors if name.startswith("logits/")]
    kept = {
        f"{kind}/{key}": tensors[f"{kind}/{key}"] for kind in ("tokens", "top_tokens", "top_logits") for key in keys
    }
    for key in keys:
        logits = tensors[f"logits/{key}"].astype(np.float64)
        kept[f"spread/{key}"] = logits.std(axis=-1)
    reference = study / "with_spread.safetensors"
    save_file(kept, reference, metadata={"layers": str(LAYERS)})
    records = pq.read_table(study / "records.parquet").to_pylist()
    for row in records:  # no prompt that the reference cannot say the spread of, and no logits, which are not kept
        tokens = json.loads(row["tokens_json"])
        tokens["prompts"] = [
            prompt | {"logits_file": None}
            for prompt in tokens["prompts"]
            if f"{prompt['prompt_length']}/{prompt['prompt_index']}" in keys
        ]
        row["tokens_json"] = json.dumps(tokens)
    subset = study / "subset.parquet"
    write_pooled(pa.Table.from_pylist(records, schema=RECORDS_SCHEMA), subset)
    compare_with_reference(subset, [], reference, path)
    subset.unlink()


def write_provenance(old: Path, new: Path) -> None:
    """The jobs that measured, as they were, and this conversion."""
    found = files.read_json(old / "provenance.json", OldProvenance)
    kept = [job for job in found.jobs if job.rule.startswith(MEASURING)]
    home = f"results/{found.study}"
    read = {path: value for job in kept for path, value in job.outputs.items() if path.startswith(f"{home}/raw/")}
    for name in ("reference.safetensors", "tables/equality_positions.csv"):
        if (old / name).exists():
            read[f"{home}/{name}"] = files.sha256_file(old / name)
    outputs = {
        f"{home}/{name}": files.sha256_file(new / name)
        for name in ("samples.parquet", "records.parquet", "tables/equality_positions.csv")
    }
    read.pop(f"{home}/tables/equality_positions.csv", None)  # the same name, with a column less
    conversion = Trace(
        rule="convert_study",
        wildcards={"study": found.study},
        params={"ahead": AHEAD, "layers": LAYERS},
        code=digests([Path(__file__).resolve().relative_to(ROOT)]),
        inputs=read,
        outputs=outputs,
        started_at=time.time(),
        seconds=0.0,
    )
    config = yaml.safe_load((new / "config.yaml").read_text(encoding="utf-8"))
    assert config["study"] == found.study
    provenance = Provenance(
        study=found.study, schema_version=SCHEMA_VERSION, jobs=(*kept, conversion), breaks=found.breaks
    )
    files.write_json(new / "provenance.json", provenance)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Calibrates the bounds of the equality gate, and finds the smallest wrong function that it still notices.

    python benchmarks/equality.py calibrate OUT.csv [FOLDER ...] [--device cuda]
    python benchmarks/equality.py bounds CALIBRATION.csv ...     writes config/equality_bounds.csv
    python benchmarks/equality.py sensitivity OUT.csv [FOLDER ...] [--device cuda]
    python benchmarks/equality.py document                       writes the tables of docs/equality.md

A FOLDER holds a model; without one, all small models that the tests use are made. `calibrate` writes a row a model,
dtype and implementation with its largest errors in units in the last place; all are correct implementations, so that
their errors are rounding. `sensitivity` plants each bug of tests/fakes/equality_bugs.py and halves it until the gate
does not notice it. Both go on where an earlier call ended. Results are in results/reference/equality/.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from fakes.equality_bench import BOUNDS, DTYPES, EqualityBench  # noqa: E402
from fakes.equality_bugs import BUGS  # noqa: E402
from firsttoken.analysis.equality_bounds import HEADROOM, MEASURES, ULP  # noqa: E402
from firsttoken.analysis.equivalence import position_distances  # noqa: E402
from firsttoken.engine.base import DynamicOperations, Forward  # noqa: E402
from firsttoken.inputs.synthetic import SMALL_SHAPES, make_model  # noqa: E402
from firsttoken.plan import Unsupported  # noqa: E402
from unit.tiny_models import FAMILIES, save_tiny_model  # noqa: E402

DEPTHS = (2, 32)  # of the rows of the bounds: the small models; those of 30 and 32 layers
IMPLEMENTATIONS: dict[str, tuple[Forward, DynamicOperations]] = {
    "eager_loop": ("eager", "native"),
    "cuda_graph": ("graph", "native"),
    "compiled_graph": ("compiled", "captured"),
}
BUG_MODELS = ("tiny llama_gqa", "synthetic llama")  # with grouped KV heads, which one of the bugs needs
SMALL = ("tiny ", "synthetic ")
SHIPPED = ROOT / "results" / "reference" / "equality"
DOCUMENT = ROOT / "docs" / "equality.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("calibrate", "bounds", "sensitivity", "document"))
    parser.add_argument(
        "csv", type=Path, nargs="?", default=SHIPPED, help="where rows are added; for `bounds` the first file to read"
    )
    parser.add_argument("folders", type=Path, nargs="*", help="models; for `bounds` further files")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", default="", help="small models whose name holds this text")
    arguments = parser.parse_args()
    if arguments.task == "bounds":
        write_bounds([arguments.csv, *arguments.folders])
        return
    if arguments.task == "document":
        DOCUMENT.write_text(documented(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
        return
    task = calibrate if arguments.task == "calibrate" else sensitivity
    with tempfile.TemporaryDirectory() as place:
        for name, folder in models(arguments.folders, Path(place)):
            if arguments.only not in name:
                continue
            task(name, folder, Path(place), arguments.device, arguments.csv)


def models(folders: Sequence[Path], place: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder) of each model; without folders all small ones, made in `place`."""
    if folders:
        yield from ((folder.name, folder) for folder in folders)
        return
    for family in FAMILIES:
        yield f"tiny {family}", save_tiny_model(family, place / f"tiny-{family}")
    for architecture in SMALL_SHAPES:
        folder = place / architecture
        folder.mkdir()
        section = {"architecture": architecture, "shape": {}, "seed": 1, "dtype": "float32"}
        make_model(section, folder, ROOT / "config" / "corpus.txt")
        yield f"synthetic {architecture}", folder


def calibrate(name: str, folder: Path, place: Path, device: str, out: Path) -> None:
    """Add the rows of one model that `out` lacks."""
    prompts = 12 if name.startswith(SMALL) else 3  # errors of small vocabularies scatter more
    bench = EqualityBench(folder, place, device, lengths=(5, 20, 90), new_tokens=12, prompts_per_length=prompts)
    for dtype in DTYPES:
        baseline = bench.baseline(dtype)
        add_row(out, name, device, dtype, "baseline", bench, baseline, baseline)
        for implementation, (forward, operations) in IMPLEMENTATIONS.items():
            if done(out, model=name, device=device, dtype=dtype, implementation=implementation):
                continue
            if device == "cpu" and forward == "graph":
                continue  # there a graph is the same step run eagerly
            try:
                found = computed(bench, dtype, forward, operations)
            except Unsupported as error:
                print(f"{name}, {dtype}: {implementation} does not serve it: {error}", flush=True)
                continue
            add_row(out, name, device, dtype, implementation, bench, found, baseline)


def computed(bench: EqualityBench, dtype: str, forward: Forward, operations: DynamicOperations) -> pd.DataFrame:
    """Positions of an engine that is gone when this returns: two of a large model do not fit on a device."""
    with bench.engine(dtype, forward, operations) as engine:
        return bench.computed(engine)


def add_row(
    out: Path,
    name: str,
    device: str,
    dtype: str,
    implementation: str,
    bench: EqualityBench,
    found: pd.DataFrame,
    baseline: pd.DataFrame,
) -> None:
    """The largest distances in ulp, and how large the least bound must be for this implementation to pass."""
    if done(out, model=name, device=device, dtype=dtype, implementation=implementation):
        return
    mine, theirs = position_distances(found), position_distances(baseline)
    row: dict[str, object] = {"model": name, "device": device, "dtype": dtype, "implementation": implementation}
    row |= {"layers": bench.reference.layers, "positions": len(found)}
    row |= {f"{measure}_ulp": mine[measure].max() / ULP[dtype] for measure in MEASURES}
    lengths = found["prompt_length"].to_numpy()
    for measure in MEASURES:
        needed = 0.0
        for length in bench.lengths:
            values, base = mine[measure][lengths == length], theirs[measure][lengths == length]
            for reduce in (np.max, lambda each: np.sqrt(np.mean(each**2))):
                if reduce(values) > HEADROOM * reduce(base):
                    needed = max(needed, float(reduce(values)))
        row[f"least_{measure}_ulp"] = needed / ULP[dtype]
    write_row(out, row)


def sensitivity(name: str, folder: Path, place: Path, device: str, out: Path) -> None:
    """Add the smallest noticed size of each bug to `out`."""
    if name.startswith(SMALL) and name not in BUG_MODELS:
        return
    small = name in BUG_MODELS
    bench = EqualityBench(folder, place, device, new_tokens=8 if small else 4, prompts_per_length=2 if small else 1)
    for dtype in DTYPES:
        with bench.engine(dtype) as engine:
            for bug in BUGS:
                if done(out, model=name, device=device, dtype=dtype, bug=bug.name):
                    continue
                smallest = bench.smallest_noticed(engine, bug)
                whole = bench.sized(engine, bug).size
                row = {"model": name, "device": device, "dtype": dtype, "bug": bug.name, "size_of": bug.meaning}
                write_row(out, row | {"whole": whole, "smallest_noticed": "" if smallest is None else smallest})


def done(out: Path, **keys: str) -> bool:
    if not out.exists():
        return False
    with out.open(encoding="utf-8", newline="") as stream:
        return any(all(row[key] == value for key, value in keys.items()) for row in csv.DictReader(stream))


def write_row(out: Path, row: dict[str, object]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    new = not out.exists()
    with out.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.3g}" if isinstance(value, float) else value for key, value in row.items()})
    print(
        ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in row.items()),
        flush=True,
    )


def write_bounds(paths: Sequence[Path]) -> None:
    """config/equality_bounds.csv: for each dtype and depth the largest of everything that is not deeper; the least
    bounds as whole numbers of units."""
    rows = pd.concat([pd.read_csv(path) for path in paths])
    bounds = []
    for dtype in DTYPES:
        for depth in DEPTHS:
            chosen = rows[(rows["dtype"] == dtype) & (rows["layers"] <= depth)]
            bound: dict[str, object] = {"dtype": dtype, "layers": depth}
            bound |= {f"{measure}_ulp": round(float(chosen[f"{measure}_ulp"].max()), 2) for measure in MEASURES}
            # No study measures float16 on a CPU, so that two implementations never meet there.
            meeting = chosen[(chosen["device"] != "cpu") | (chosen["dtype"] != "float16")]
            for measure in MEASURES:
                needed = max(1.0, float(meeting[f"least_{measure}_ulp"].max()))
                bound[f"least_{measure}_ulp"] = math.ceil(needed)
            bounds.append(bound)
    pd.DataFrame(bounds).to_csv(BOUNDS, index=False, lineterminator="\n")
    print(BOUNDS.read_text(encoding="utf-8"))


def documented(text: str) -> str:
    """docs/equality.md with its tables made from the shipped results."""
    calibration = pd.concat([pd.read_csv(path) for path in sorted(SHIPPED.glob("calibration_*.csv"))])
    largest = calibration.groupby(["layers", "model", "device", "dtype"], sort=False)[
        ["rms_ulp", "kl_ulp", "slope_ulp"]
    ].max()
    rows = largest.reset_index().sort_values(["layers", "model", "device"], kind="stable")
    sensitivity = pd.concat([pd.read_csv(path) for path in sorted(SHIPPED.glob("sensitivity_*.csv"))])
    sizes = sensitivity.pivot_table("smallest_noticed", ["model", "bug", "size_of"], "dtype", sort=False)[list(DTYPES)]
    for name, table in (("bounds", pd.read_csv(BOUNDS)), ("calibration", rows), ("sensitivity", sizes.reset_index())):
        before, _, rest = text.partition(f"<!-- {name} -->")
        text = f"{before}<!-- {name} -->\n{markdown(table)}<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


def markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [
        [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.itertuples(index=False)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()

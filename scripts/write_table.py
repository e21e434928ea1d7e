"""In: the tables and records that one function of the package reads. Out: the file in `tables/` that it writes.

The inputs have the names of the function's parameters; the file is its `out_csv`, `out_txt` or `out_rst`.
"""

from importlib import import_module
from pathlib import Path

from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        inputs = {
            name: [*map(Path, found)] if isinstance(found, list) else Path(found)
            for name, found in snakemake.input.items()
        }
        out = Path(snakemake.output[0])
        module, function = snakemake.params.function.split(".py:")
        write = getattr(import_module(f"firsttoken.{module.replace('/', '.')}"), function)
        write(**inputs, **snakemake.params.arguments, **{f"out_{out.suffix[1:]}": out})

"""In: the traces that the study's jobs left. Out: provenance.json: every output's rule, inputs, code and params by
SHA-256."""

from pathlib import Path

from firsttoken.study.job import job, snakemake
from firsttoken.study.provenance import write_provenance

if __name__ == "__main__":
    with job(snakemake):
        write_provenance(
            study=snakemake.wildcards.study,
            results=[str(path) for path in snakemake.input.results],
            logs=[Path("results") / snakemake.wildcards.study / "logs", Path(snakemake.params.model_trace)],
            target=Path(snakemake.output.provenance),
        )

"""In: the config with all defaults. Out: the same as YAML beside the results."""

import yaml

from firsttoken.files import write_text
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        write_text(
            snakemake.output.config, yaml.safe_dump(snakemake.params.config, sort_keys=False, allow_unicode=True)
        )

"""Can a study run here? `python scripts/check.py [CONFIG]`: a table, and status 1 where it cannot start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

try:  # they take seconds
    from firsttoken.command_line import end_with
    from firsttoken.preflight import as_table, check_study, findings
    from firsttoken.study.config_file import find_config, require_name
    from firsttoken.study.schema import one_line
    from firsttoken.yaml_files import read_yaml
except KeyboardInterrupt:
    sys.exit(130)

ROOT = Path(__file__).resolve().parent.parent


def main(configs: list[str]) -> int:
    """Print what was found about the study of the default config with `configs` over it."""
    results = ROOT / "results"
    try:
        files = [find_config(name, ROOT) for name in configs]
        for file in files:
            require_name(read_yaml(os.path.relpath(file)), file)
        config = merged(ROOT / "config" / "config.yaml", *files)
        study = check_study(config, ROOT / "config", results)
        found = findings(study, results)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        print(f"firsttoken: {one_line(str(error))}", file=sys.stderr)
        return 1
    print(as_table(found))
    if any(finding.verdict == "no" for finding in found):
        print(f"firsttoken: the study {study.name} cannot run here", file=sys.stderr)
        return 1
    print(f"The study {study.name} can start. Whether its model loads in every approach shows when it runs.")
    return 0


def merged(*files: Path) -> dict[str, object]:
    """The files' mappings laid over one another, as Snakemake does it."""
    from snakemake.utils import update_config

    config: dict[str, object] = {}
    for file in files:
        update_config(config, read_yaml(os.path.relpath(file)))
    return config


if __name__ == "__main__":
    end_with(lambda: main(sys.argv[1:]))

"""The study file of one's own model, for `make run MODEL=...`: its path on stdout, its text on stderr."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:  # they take seconds
    from firsttoken.command_line import end_with
    from firsttoken.own_model import study_file
    from firsttoken.study.config_file import users_folder
    from firsttoken.study.schema import one_line
except KeyboardInterrupt:
    sys.exit(130)


def main() -> int:
    """Parse the options; 1 with one line where they name no study that can run."""
    parser = argparse.ArgumentParser(description="Write or find the study file of a model.")
    parser.add_argument("--model", required=True, help="a folder, or a hub id with --revision")
    for name in ("revision", "dtype", "lengths", "approaches"):
        parser.add_argument(f"--{name}", default="")
    options = vars(parser.parse_args())
    try:
        path, done = study_file(**options, base=users_folder(), config_folder=Path("config"))
    except (ValueError, OSError) as error:
        print(f"firsttoken: {one_line(str(error))}", file=sys.stderr)
        return 1
    print(f"firsttoken: {done} {path}:\n\n{path.read_text(encoding='utf-8')}", file=sys.stderr)
    print(path)
    return 0


if __name__ == "__main__":
    end_with(main)

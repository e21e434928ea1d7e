"""Snakemake as `make run` starts it, with Snakemake's own options: it finds firsttoken's logger beside this file, and
says in one line what is wrong with an option.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr

try:  # they take seconds
    from snakemake.cli import args_to_api, parse_args

    from firsttoken.study.schema import one_line
except KeyboardInterrupt:
    sys.exit(130)


def main() -> int:
    """Run Snakemake and give the exit status."""
    said = io.StringIO()  # which profile is used; of a wrong option, a list of all before the error
    try:
        with redirect_stderr(said):
            parser, options = parse_args(sys.argv[1:])
        return 0 if args_to_api(options, parser) else 1
    except SystemExit as error:
        if error.code == 2:  # argparse's
            sys.exit(f"firsttoken: Snakemake's options: {said.getvalue().rstrip().rpartition('error: ')[2]}")
        if error.code:
            sys.exit(f"firsttoken: {one_line(said.getvalue().strip()) or error.code}")
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(f"firsttoken: {one_line(str(error))}")


if __name__ == "__main__":
    sys.exit(main())

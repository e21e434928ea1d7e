"""Collect, as wheels, what an offline GPU host lacks: `make wheelhouse PYTHON=3.12`.

The host is expected to bring a CUDA build of PyTorch with transformers and the usual scientific packages. The lock's
other packages are fetched here for its version of Python, which need not be here, and for this platform. Where the host
differs, give it its own list: `pip freeze > host.txt` there, then `make wheelhouse PYTHON=3.12 HOST=host.txt` here.

On the host: make offline
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 60 * 10**6

# What images with a CUDA build of PyTorch usually hold, as `pip freeze` names it.
USUAL_HOST = """
annotated-doc anyio attrs certifi charset-normalizer click colorama contourpy cycler execnet filelock fonttools fsspec
h11 hf-xet httpcore httpx huggingface-hub hypothesis idna iniconfig jinja2 kiwisolver markdown markdown-it-py markupsafe
matplotlib mdurl mpmath mypy-extensions networkx numpy nvidia-ml-py packaging pandas pathspec pillow pluggy psutil
pyarrow pygments pyparsing pytest pytest-timeout pytest-xdist python-dateutil pyyaml regex requests rich safetensors
scipy seaborn setuptools shellingham six sortedcontainers sympy tabulate tokenizers torch tqdm transformers triton typer
typing-extensions typing-inspect tzdata urllib3 wrapt
"""
# Only `make test` needs these; the GPU tests do not.
TEST_ONLY = """
ast-serialize black greenlet grimp import-linter librt mypy pandas-stubs playwright pyee pytokens ruff shfmt-py snakefmt
types-jsonschema types-psutil types-pyyaml uv
"""


def canonical(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lacking(lock: str, host: set[str]) -> list[str]:
    """The lock's entries, hashes included, that the host does not bring, in the lock's order."""
    without = host | {canonical(name) for name in TEST_ONLY.split()}
    entries = re.findall(r"^\w.*(?:\n +--hash.*)*", lock, re.MULTILINE)
    return [entry for entry in entries if canonical(entry.split("==")[0]) not in without]


def main() -> None:
    """Build the wheels; the status is 1 when they are larger than an offline host should be asked to take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=f"3.{sys.version_info.minor}", help="the host's version, e.g. 3.12")
    parser.add_argument("--host", type=Path, help="the host's `pip freeze`")
    parser.add_argument("--out", type=Path, default=ROOT / "wheelhouse")
    options = parser.parse_args()
    if not re.fullmatch(r"3\.\d+", options.python):
        sys.exit(f"firsttoken: PYTHON={options.python}: is no version of Python; give the host's, e.g. PYTHON=3.12")
    names = options.host.read_text().splitlines() if options.host else USUAL_HOST.split()
    host = {canonical(re.split(r"[=@ ]", name)[0]) for name in names}
    wanted = lacking((ROOT / "requirements.lock").read_text(encoding="utf-8"), host)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip"]
    fetch = [*pip, "download", "--quiet", "--no-deps", "--require-hashes", "--python-version", options.python]
    fetch += ["--dest", str(options.out), "--requirement", "/dev/stdin"]
    fetched = subprocess.run(fetch, input="\n".join(wanted), text=True).returncode == 0
    # Some have no wheel. Those are plain Python, of which this version makes wheels for all.
    for archive in options.out.glob("*.tar.gz"):
        make = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(options.out), str(archive)]
        fetched &= subprocess.run(make).returncode == 0
        archive.unlink()
    if not fetched:
        sys.exit(f"firsttoken: pip could not get the wheels for Python {options.python}; its own words are above")
    wheels = list(options.out.iterdir())
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{options.out}: {len(wheels)} wheels, {size / 1e6:.1f} MB (limit {LIMIT_BYTES / 1e6:.0f} MB)")
    sys.exit(size > LIMIT_BYTES)


if __name__ == "__main__":
    main()

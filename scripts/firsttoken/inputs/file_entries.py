"""The files of a model with their sizes and hashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from firsttoken.files import sha256_file
from firsttoken.plan import FileEntry

THREADS = 8  # hashlib releases the interpreter's lock
LARGE_BYTES = 2**30  # from here on a file is worth a line of progress


def visible_files(folder: Path) -> list[Path]:
    """The files that count, by name: those that begin with a dot are Snakemake's or unfinished downloads."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def file_entries(folder: Path, progress: Callable[[str], None] | None = None) -> tuple[FileEntry, ...]:
    """Every visible file of the folder with its size and SHA-256; `progress` is told of the large ones."""
    from concurrent.futures import ThreadPoolExecutor, as_completed  # a measuring process imports this file, never this

    paths = visible_files(folder)
    sizes = {path: path.stat().st_size for path in paths}
    total, done = sum(sizes.values()), 0
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = {pool.submit(sha256_file, path): path for path in paths}
        for job in as_completed(jobs):
            done += sizes[jobs[job]]
            if progress and sizes[jobs[job]] >= LARGE_BYTES:
                progress(f"hashed {jobs[job].name}, {done / 2**30:.1f} of {total / 2**30:.1f} GiB")
    hashes = {path: job.result() for job, path in jobs.items()}
    return tuple(FileEntry(path=path.name, bytes=sizes[path], sha256=hashes[path]) for path in paths)

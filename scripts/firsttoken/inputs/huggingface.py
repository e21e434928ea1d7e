"""A model from the Hugging Face hub: a pinned revision, only the files needed, resumed, each hash checked.

Files come over plain HTTP with byte ranges through huggingface_hub's `http_get`. Its `hf_hub_download` keeps nothing
of a file whose download was interrupted, which for a 10 GB shard means starting again; here the part that has arrived
stays beside the others as `.{name}.incomplete`.
"""

from __future__ import annotations

import io
import math
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from firsttoken.files import sha256_file
from firsttoken.inputs.manifest import empty_model, served_context
from firsttoken.inputs.model_files import INDEX, check_names, model_files, small_files, weight_files
from firsttoken.inputs.weight_headers import check_stored, parse_object, read_config

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

PRE_CHECK_TIMEOUT_S = 3.0
SMALL_BYTES = 2**27  # of a config, a tokenizer or an index; the largest tokenizers have a quarter of it


def download_model(repo: str, revision: str, folder: Path) -> None:
    """Download into `folder`, which exists and may hold what an earlier call left. Raises ValueError in one line."""
    info = _model_info(repo, revision, files_metadata=True)
    if info.sha != revision:
        raise ValueError(f"model.revision: {repo} answers {info.sha} for {revision}; give the full commit hash")
    files = {file.rfilename: file for file in info.siblings or ()}
    with _named(f"{repo} at {revision}"):
        check_names(files)
        small = small_files(files) + ([INDEX] if INDEX in files else [])
        for name in small:
            _check_size(files[name], SMALL_BYTES)
            _download_file(repo, revision, files[name], folder)
        index = (folder / INDEX).read_bytes() if INDEX in files else None
        weights = [name for name in weight_files(files, index) if name != INDEX]
        for name in weights:
            _check_size(files[name], math.inf)
    config = read_config(folder / "config.json")
    served_context(empty_model(folder, f"{repo} at {revision}"))  # before the long download
    for name in weights:
        check_stored(f"{repo} at {revision}", config, _stored_dtypes(repo, revision, name))
    _check_space(repo, [files[name] for name in weights], folder)
    for name in weights:
        _download_file(repo, revision, files[name], folder)


class _Line(ValueError):
    """An error that already says where."""


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Put the place before the message of a ValueError that does not name one."""
    try:
        yield
    except _Line:
        raise
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def examine_remote(repo: str, revision: str) -> int | None:
    """The context in positions of a model on the hub; None where the hub does not answer. Raises ValueError for a model
    that cannot be had with the usual token, or that no study can use.

    Of the weights it looks at the first file's header, one request: quantised layers are in every file. The fetch looks
    at all headers before it downloads.
    """
    from huggingface_hub.errors import HfHubHTTPError

    place = f"{repo} at {revision}"
    try:
        content = _get_small(repo, revision, "config.json")
        config = parse_object(content, f"{place}: config.json")
        check_stored(place, config, {})
        check_stored(place, config, _first_dtypes(repo, revision))
    except _Line as error:
        refused = isinstance(error.__cause__, HfHubHTTPError) and error.__cause__.response.status_code < 500
        if refused:
            raise
        return None  # no network: the download itself will say so, if it is needed
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_bytes(content)
        return served_context(empty_model(Path(folder), place))


def cached_snapshot(repo: str, revision: str) -> Path | None:
    """The model's folder in the hub's cache where HF_HUB_OFFLINE forbids to ask the hub, else None.

    Raises ValueError where the cache does not have it.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if not constants.HF_HUB_OFFLINE:
        return None
    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    if not isinstance(found, str):
        raise ValueError(
            f"model.repo: HF_HUB_OFFLINE is set, and the hub's cache {constants.HF_HUB_CACHE} has no {repo} at "
            f"{revision[:12]}; unset it, or run `hf download {repo} --revision {revision}` where there is a network"
        )
    try:
        model_files(Path(found).parent)
    except ValueError as error:
        raise ValueError(f"model.repo: HF_HUB_OFFLINE is set, and in the hub's cache {error}") from error
    return Path(found).parent


def check_snapshot(folder: Path, names: Collection[str]) -> None:
    """Raise ValueError for a file that is not what the hub promised: the cache names each after its hash."""
    from huggingface_hub.utils.sha import git_hash

    for name in names:
        path = (folder / name).resolve()
        found = sha256_file(path) if len(path.name) == 64 else git_hash(path.read_bytes())
        if path.parent.name == "blobs" and found != path.name:
            raise ValueError(f"{folder}: {name} has hash {found}, the hub promised {path.name}; delete {path}")


def hub_config(repo: str, revision: str) -> dict[str, Any]:
    """The config.json of a commit. Raises ValueError in one line."""
    return parse_object(_get_small(repo, revision, "config.json"), f"{repo} at {revision}: config.json")


def newest_commit(repo: str) -> str:
    """The hash that the hub's default branch has now. Raises ValueError in one line."""
    return str(_model_info(repo, None, timeout=PRE_CHECK_TIMEOUT_S).sha)


def hub_parameters(repo: str, revision: str) -> int:
    """How many parameters the hub counts in the safetensors files; 0 where it does not. Raises ValueError in one
    line."""
    counted = _model_info(repo, revision, timeout=PRE_CHECK_TIMEOUT_S).safetensors
    return counted.total if counted else 0


def _model_info(repo: str, revision: str | None, **options: Any) -> ModelInfo:
    """What the hub says of a repository; without a revision, of its default branch."""
    from huggingface_hub import HfApi

    with hub_errors(repo, revision or "main"):
        return HfApi().model_info(repo, revision=revision, **options)


def _get_small(repo: str, revision: str, name: str) -> bytes:
    """The content of a small file, waiting for a moment only."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

    url = hf_hub_url(repo, name, revision=revision)
    content = bytearray()
    request = get_session().stream("GET", url, headers=build_hf_headers(), timeout=PRE_CHECK_TIMEOUT_S)
    with hub_errors(repo, revision), request as response:
        hf_raise_for_status(response)
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > SMALL_BYTES:
                raise ValueError(f"{repo} at {revision}: {name} is larger than {SMALL_BYTES} bytes")
    return bytes(content)


def _first_dtypes(repo: str, revision: str) -> dict[str, str]:
    """The stored dtypes of the first file of weights; raises ValueError where the repository has no whole model."""
    info = _model_info(repo, revision, timeout=PRE_CHECK_TIMEOUT_S)
    names = [file.rfilename for file in info.siblings or ()]
    with _named(f"{repo} at {revision}"):
        weights = weight_files(names, _get_small(repo, revision, INDEX) if INDEX in names else None)
    first = next(name for name in weights if name != INDEX)
    return _stored_dtypes(repo, revision, first, PRE_CHECK_TIMEOUT_S)


def _stored_dtypes(repo: str, revision: str, name: str, timeout: float = 10.0) -> dict[str, str]:
    """The dtypes of the tensors in a safetensors file on the hub, of which only the header is fetched."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import SafetensorsParsingError

    try:
        with hub_errors(repo, revision):
            header = HfApi().parse_safetensors_file_metadata(repo, name, revision=revision, timeout=timeout)
    except (SafetensorsParsingError, AttributeError, TypeError) as error:  # the latter: JSON of another form
        raise ValueError(f"{repo} at {revision}: {name}: {str(error).splitlines()[0][:200]}") from error
    return {tensor: info.dtype for tensor, info in header.tensors.items()}


@contextmanager
def hub_errors(repo: str, revision: str) -> Iterator[None]:
    """Turn what the hub client raises into one line that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise _Line(
            f"model.repo: {repo} is gated; accept its licence at https://huggingface.co/{repo}, "
            "then run `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise _Line(f"model.revision: {repo} has no commit {revision}; copy the full hash from its history") from error
    except errors.RepositoryNotFoundError as error:
        raise _Line(
            f"model.repo: {repo} is not on the hub, or private; check the name, and `hf auth login` where it is private"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = "check the token with `hf auth whoami`" if status in (401, 403) else "try again"
        raise _Line(f"model.repo: the hub answered {status} for {repo}; {hint}") from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # HTTPError: of the client's HTTP library
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise _Line(
            f"model.repo: the connection to the hub for {repo} broke ({first_line}); "
            "what has arrived is kept: run again to resume"
        ) from error


def _download_file(repo: str, revision: str, file: Any, folder: Path) -> None:
    """One file, resumed, under its name only when its hash is right. `file` is the hub's RepoSibling."""
    target = folder / file.rfilename
    partial = folder / f".{file.rfilename}.incomplete"
    if target.is_file():  # an earlier call's: it was right then
        target.replace(partial)
    if partial.exists() and partial.stat().st_size > file.size:
        partial.unlink()
    with hub_errors(repo, revision), _Part(partial, file.size) as stream:
        if stream.tell() < file.size:
            _get(repo, revision, file, stream)
    expected, found = _hashes(file, partial)
    if found != expected:
        partial.unlink()
        raise _Line(
            f"{repo}: {file.rfilename} arrived with hash {found}, the hub promises {expected}; "
            "it was deleted: run again"
        )
    partial.replace(target)


class _Part(io.BufferedWriter):
    """A file to append to, which takes no more than the bytes that the hub promised."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._path, self._limit = path, limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            raise _Line(f"{self._path}: more arrives than the {self._limit} bytes that the hub promised; run again")
        return super().write(data)


def _check_size(file: Any, limit: float) -> None:
    """Raise ValueError, without the place, for a size that no such file has."""
    if type(file.size) is not int or not 0 < file.size <= limit:
        raise ValueError(f"{file.rfilename} has {file.size} bytes, the hub says; 1 to {limit} were expected")


def _get(repo: str, revision: str, file: Any, stream: Any) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(repo, file.rfilename, revision=revision)
    location = get_hf_file_metadata(url).location
    headers = build_hf_headers()
    if urlparse(location).netloc != urlparse(url).netloc:
        headers.pop("authorization", None)  # a signed address elsewhere: the token is for the hub alone
    http_get(
        location,
        stream,
        resume_size=stream.tell(),
        headers=headers,
        expected_size=file.size,
        displayed_filename=file.rfilename,
    )


def _hashes(file: Any, path: Path) -> tuple[str, str]:
    """The hub's hash of a file and the one of what arrived: SHA-256 for large files, git's blob hash for small ones."""
    from huggingface_hub.utils.sha import git_hash

    if file.lfs is not None:
        return file.lfs.sha256, sha256_file(path)
    return file.blob_id, git_hash(path.read_bytes())


def _check_space(repo: str, files: list[Any], folder: Path) -> None:
    """Raise before a long download that cannot end."""
    missing = sum(file.size for file in files if not (folder / file.rfilename).is_file())
    here = sum(path.stat().st_size for path in folder.glob(".*.incomplete"))
    free = shutil.disk_usage(folder).free
    if missing - here > free:
        raise _Line(
            f"{repo}: {(missing - here) / 2**30:.1f} GiB are still to come, {folder} has "
            f"{free / 2**30:.1f} GiB free; make room"
        )

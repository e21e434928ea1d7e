"""A Hugging Face hub on loopback: the calls that huggingface_hub makes for one repository, with faults on request.

Large files are redirected to another host name, as the real hub sends them to a CDN; small ones to a relative address.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPO = "someone/tiny-llama"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Faults:
    """What goes wrong. `cut_after`: bytes of a large file's body after which the connection ends, `cuts` times."""

    gated: bool = False  # files need the header `Bearer allowed`: 401 without a token, 403 with another
    cut_after: int = 0
    cuts: int = 0
    stall: threading.Event | None = None  # at the cut, wait for this instead of closing
    spoil: str = ""  # the file that arrives with a wrong byte, its size and promised hash unchanged
    sizes: dict[str, Any] = field(default_factory=dict)  # what the hub says instead of a file's size
    endless: str = ""  # the file that comes without a length, with this many bytes after its end: `more`
    more: int = 0


@dataclass
class Request:
    method: str
    path: str
    range: str
    authorization: str


@dataclass
class FakeHub:
    """Serves `files` as REPO at REVISION; a context manager."""

    files: dict[str, bytes]
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> FakeHub:
        hub = self

        class Handler(_Handler):
            state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        if self.faults.stall:
            self.faults.stall.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def gets(self, name: str) -> list[Request]:
        """Downloads of one file's bytes, in order; a look at the first bytes is none."""
        return [
            request
            for request in self.requests
            if request.method == "GET" and request.path.endswith(f"/{name}") and not is_look(request.range)
        ]


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def is_look(asked: str) -> bool:
    """Whether a Range header has an end, as one for a safetensors header has: a download goes on to the last byte."""
    return bool(asked) and not asked.endswith("-")


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeHub

    def log_message(self, *arguments: Any) -> None:
        """Quiet: the test looks at `requests`."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        headers = self.headers
        self.state.requests.append(
            Request(self.command, path, headers.get("Range", ""), headers.get("Authorization", ""))
        )
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[5] if len(parts) > 5 else REVISION)
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3], parts[-1])
        elif parts[0] in ("cdn", "cache"):
            self._bytes(parts[-1])
        else:
            self._send(404, {})

    def _refused(self, repo: str, revision: str) -> bool:
        if repo != REPO:  # the hub does not tell strangers which repositories exist
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif revision != REVISION:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _api(self, repo: str, revision: str) -> None:
        if self._refused(repo, revision):
            return
        siblings = []
        for name, content in self.state.files.items():
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": self.state.faults.sizes.get(name, len(content)),
                "blobId": git_blob(content),
            }
            if is_large(name):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        body = {"id": REPO, "modelId": REPO, "sha": REVISION, "private": False, "siblings": siblings}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if self._refused(repo, revision):
            return
        if self.state.faults.gated and self.headers.get("Authorization") != "Bearer allowed":
            self._send(403 if "Authorization" in self.headers else 401, {"X-Error-Code": "GatedRepo"})
        elif name not in self.state.files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
        else:
            content = self.state.files[name]
            etag = hashlib.sha256(content).hexdigest() if is_large(name) else git_blob(content)
            place = f"http://localhost:{self.state.port}/cdn/{name}" if is_large(name) else f"/cache/{name}"
            headers = {"X-Repo-Commit": revision, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            self._send(302 if is_large(name) else 307, {**headers, "Location": place})

    def _bytes(self, name: str) -> None:
        faults, content = self.state.faults, self.state.files[name]
        etag = hashlib.sha256(content).hexdigest() if is_large(name) else git_blob(content)
        if faults.spoil == name:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        status, start, end = 200, 0, len(content)
        asked = self.headers.get("Range", "")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            status, start, end = 206, int(first), min(int(last) + 1, len(content)) if last else len(content)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        body = content[start:end]
        if self.command == "GET" and is_large(name) and faults.cuts > 0 and not is_look(asked):
            faults.cuts -= 1
            self._send(status, {**headers, "Content-Length": str(len(body))}, body[: faults.cut_after])
            self.wfile.flush()
            if faults.stall:
                faults.stall.wait(60)
            self.close_connection = True
            return
        if self.command == "GET" and faults.endless == name:
            self._send(status, {**headers, "Content-Length": None}, body + bytes(faults.more))
            self.close_connection = True
            return
        self._send(status, headers, body)

    def _send(self, status: int, headers: Mapping[str, str | None], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

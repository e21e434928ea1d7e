"""What client and generator say to each other: typed messages, one a SEQPACKET datagram, with a length limit.

A message is a msgpack array whose first element is its tag. Whatever else arrives is a `WireError`: its sender hears
why and loses the request, or the connection where no request can be told; nobody else loses anything. Tokens go one
way; nothing is acknowledged but the end of a request.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming
from firsttoken.transient import Transient

# One datagram must fit the socket buffer. Linux grants any user net.core.wmem_max (212,992 by default) and doubles it
# for its own bookkeeping, so that 256 KiB pass everywhere: a prompt of more than 50,000 ids.
MAX_MESSAGE_BYTES = 256 * 1024
_SEND_BUFFER_BYTES = 212_992
TIMINGS_PER_MESSAGE = 512  # a row is at most about 200 bytes

RequestId = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
ErrorKind = Literal["unsupported", "invalid", "transient", "engine"]


class WireError(Exception):
    """A message that breaks the rules: not msgpack, of no known type, out of range, or too long."""

    def __init__(self, reason: str, request: int | None = None) -> None:
        """`request`: its number, where that much can be read."""
        super().__init__(reason)
        self.request = request


class Disconnected(Exception):
    """The other side closed the connection, or its process ended."""


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all messages: a compact array, checked on receipt."""


# ---------------------------------------------------------------- client to generator


class Generate(Message, frozen=True, tag=1):
    """Generate `max_new_tokens` tokens, pushed one by one as `Token`, then `Timings` and `Done`."""

    request: RequestId
    prompt_ids: Annotated[list[TokenId], msgspec.Meta(min_length=1)]
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]


class SaveLogits(Message, frozen=True, tag=2):
    """Write teacher-forced logits to `path`, an absolute one; answered by `Saved`."""

    request: RequestId
    prompt_ids: Annotated[list[TokenId], msgspec.Meta(min_length=1)]
    continuation_ids: Annotated[list[TokenId], msgspec.Meta(min_length=1)]
    path: str


class Inspect(Message, frozen=True, tag=3):
    """Ask for memory, counters and facts; answered by `Inspection`."""

    request: RequestId


class Cancel(Message, frozen=True, tag=4):
    """Stop a request, waiting or running; it ends with `Done`, without `Timings`."""

    request: RequestId


ClientMessage = Generate | SaveLogits | Inspect | Cancel

# ---------------------------------------------------------------- generator to client


class Ready(Message, frozen=True, tag=16):
    """First message on a connection, once the engine is warm. `spin_us`: how long both sides poll before they block."""

    setup: SetupTimes
    spin_us: int


class Refused(Message, frozen=True, tag=17):
    """Last message on a connection that the generator closes, or its only one when there will be no engine.
    `unsupported`: it cannot serve this model or plan; `transient`: see `firsttoken.transient`; `engine`: it raised."""

    kind: ErrorKind
    reason: str


class Token(Message, frozen=True, tag=18):
    request: RequestId
    token: TokenId


class Timings(Message, frozen=True, tag=19):
    """When tokens were pushed, and the engine's split of their latency: a row a token, or none. Several if many."""

    request: RequestId
    pushed_ns: list[int]
    rows: list[TokenTiming]


class Done(Message, frozen=True, tag=20):
    """The end of a request. `received_ns`: read from the socket; `started_ns`: taken up by the engine thread."""

    request: RequestId
    received_ns: int
    started_ns: int


class RequestFailed(Message, frozen=True, tag=21):
    """The end of a request. `invalid`: it cannot be served (too long); `transient`, `engine`: the engine raised."""

    request: RequestId
    kind: ErrorKind
    reason: str


class Saved(Message, frozen=True, tag=22):
    request: RequestId
    offered: bool


class Inspection(Message, frozen=True, tag=23):
    request: RequestId
    memory: MemoryReport
    counters: dict[str, float]
    facts: Facts


class Heartbeat(Message, frozen=True, tag=24):
    """Sent while a client waits, so that a stopped or deadlocked generator differs from a long step."""


GeneratorMessage = Ready | Refused | Token | Timings | Done | RequestFailed | Saved | Inspection | Heartbeat

# ---------------------------------------------------------------- codec and sockets

_encoder = msgspec.msgpack.Encoder()
Received = TypeVar("Received")


def encode(message: Message) -> bytes:
    """One datagram. Raises `WireError` when it is longer than the limit."""
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"{type(message).__name__} is {len(data)} bytes long, the limit is {MAX_MESSAGE_BYTES}")
    return data


class _Head(msgspec.Struct, array_like=True):
    """What all requests begin with."""

    tag: Literal[1, 2, 3]
    request: RequestId


_decode_head = msgspec.msgpack.Decoder(_Head).decode


def _request_number(data: bytes | memoryview) -> int | None:
    try:
        return _decode_head(data).request
    except (msgspec.MsgspecError, RecursionError):  # the latter: arrays within arrays
        return None


class Decoder(Generic[Received]):
    """Bytes to one of the messages of one direction; anything else is a `WireError`."""

    def __init__(self, kind: Any) -> None:
        """`kind`: `ClientMessage` or `GeneratorMessage`."""
        self._decode: Callable[[bytes | memoryview], Received] = msgspec.msgpack.Decoder(kind).decode

    def __call__(self, data: bytes | memoryview) -> Received:
        if len(data) > MAX_MESSAGE_BYTES:
            raise WireError(f"message of more than {MAX_MESSAGE_BYTES} bytes")
        try:
            return self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WireError(f"message of {len(data)} bytes: {error}", _request_number(data)) from error


class Inbox(Generic[Received]):
    """The receiving end of one connection: one reused buffer, one thread."""

    def __init__(self, connection: socket.socket, decoder: Decoder[Received]) -> None:
        self._receive_into = connection.recv_into
        self._decoder = decoder
        self._buffer = bytearray(MAX_MESSAGE_BYTES + 1)  # one more, so that a longer datagram shows after truncation
        self._view = memoryview(self._buffer)

    def receive(self) -> Received:
        """Block for the next message. Raises `Disconnected`, `WireError`; BlockingIOError after the SO_RCVTIMEO."""
        try:
            try:
                size = self._receive_into(self._buffer)
            except ConnectionResetError:  # closed with messages of ours unread; what was said before is still there
                size = self._receive_into(self._buffer)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Disconnected(str(error)) from error
        if size == 0:  # end of file; an empty datagram reads the same and deserves no better
            raise Disconnected("end of file")
        return self._decoder(self._view[:size])


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, whose folder is the caller's to protect."""
    listener = _seqpacket()
    try:
        with _short_path(path) as address:
            listener.bind(address)
    except OSError as error:
        listener.close()
        raise Transient(f"no socket can be made in {path.parent}: {error.strerror}; set another TMPDIR") from None
    listener.listen(64)
    return listener


def connect(path: Path) -> socket.socket:
    """A connection to the generator that listens at `path`. Raises `Disconnected` when none does."""
    connection = _seqpacket()
    set_send_buffer(connection)
    try:
        with _short_path(path) as address:
            connection.connect(address)
    except OSError as error:
        connection.close()
        raise Disconnected(f"{path}: {error}") from error
    return connection


def set_send_buffer(connection: socket.socket) -> None:
    """Make room for the largest message."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)


def _seqpacket() -> socket.socket:
    """SEQPACKET keeps message borders and order, and says when the other side is gone."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name for `path` through its open folder: `sockaddr_un` has room for 107 bytes only."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

"""The wire: every message survives, and nothing that arrives can do more than raise its one error."""

from __future__ import annotations

import contextlib
import socket
import stat
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming
from firsttoken.server import protocol

ids = st.integers(0, 2**62 - 1)
tokens = st.integers(0, 2**31 - 1)
token_lists = st.lists(tokens, min_size=1, max_size=50)
stamps = st.integers(-(2**63), 2**63 - 1)
seconds = st.floats(allow_nan=False)
optional = st.none() | stamps
kinds = st.sampled_from(get_args(protocol.ErrorKind))
text = st.text(st.characters(exclude_categories=["Cs"]))
rows = st.builds(
    TokenTiming, device_ns=optional, launch_ns=optional, sampling_ns=optional, pool_hit=st.none() | st.booleans()
)

CLIENT_MESSAGES = {
    protocol.Generate: st.builds(protocol.Generate, ids, token_lists, st.integers(1, 2**31 - 1)),
    protocol.SaveLogits: st.builds(protocol.SaveLogits, ids, token_lists, token_lists, text),
    protocol.Inspect: st.builds(protocol.Inspect, ids),
    protocol.Cancel: st.builds(protocol.Cancel, ids),
}
GENERATOR_MESSAGES = {
    protocol.Ready: st.builds(protocol.Ready, st.builds(SetupTimes, imports_s=seconds, load_s=seconds), stamps),
    protocol.Refused: st.builds(protocol.Refused, kinds, text),
    protocol.Token: st.builds(protocol.Token, ids, tokens),
    protocol.Timings: st.builds(protocol.Timings, ids, st.lists(stamps, max_size=20), st.lists(rows, max_size=20)),
    protocol.Done: st.builds(protocol.Done, ids, stamps, stamps),
    protocol.RequestFailed: st.builds(protocol.RequestFailed, ids, kinds, text),
    protocol.Saved: st.builds(protocol.Saved, ids, st.booleans()),
    protocol.Inspection: st.builds(
        protocol.Inspection,
        ids,
        st.builds(MemoryReport, device_allocated_bytes=optional),
        st.dictionaries(text, seconds, max_size=5),
        st.builds(Facts, attention=text, ahead=st.none() | st.integers(0, 9)),
    ),
    protocol.Heartbeat: st.builds(protocol.Heartbeat),
}
DIRECTIONS: list[tuple[dict[Any, Any], Any]] = [
    (CLIENT_MESSAGES, protocol.Decoder(protocol.ClientMessage)),
    (GENERATOR_MESSAGES, protocol.Decoder(protocol.GeneratorMessage)),
]


def test_each_message_of_both_directions_is_in_these_tests() -> None:
    assert set(CLIENT_MESSAGES) == set(protocol.ClientMessage.__args__)
    assert set(GENERATOR_MESSAGES) == set(protocol.GeneratorMessage.__args__)


@pytest.mark.parametrize(("messages", "decode"), DIRECTIONS, ids=["client", "generator"])
@given(data=st.data())
def test_every_message_comes_back_as_it_was(messages: dict[type, Any], decode: Any, data: st.DataObject) -> None:
    message = data.draw(st.one_of(*messages.values()))
    assert decode(protocol.encode(message)) == message


@pytest.mark.parametrize("decode", [decode for _, decode in DIRECTIONS], ids=["client", "generator"])
@given(noise=st.binary(max_size=300))
def test_any_bytes_are_a_message_or_the_one_error(decode: Any, noise: bytes) -> None:
    with contextlib.suppress(protocol.WireError):
        assert isinstance(decode(noise), protocol.Message)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | text | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(tag=st.integers(0, 30), fields=st.lists(json_like, max_size=5))
def test_well_formed_msgpack_of_any_shape_is_a_message_or_the_one_error(tag: int, fields: list[Any]) -> None:
    data = msgspec.msgpack.encode([tag, *fields])
    for _, decode in DIRECTIONS:
        with contextlib.suppress(protocol.WireError):
            assert isinstance(decode(data), protocol.Message)


@given(message=st.one_of(*CLIENT_MESSAGES.values()), cut=st.integers(0, 400), flip=st.integers(0, 255))
def test_a_damaged_message_is_a_message_or_the_one_error(message: protocol.Message, cut: int, flip: int) -> None:
    whole = bytearray(protocol.encode(message))
    whole[cut % len(whole)] ^= flip
    for damaged in (bytes(whole), bytes(whole[: cut % len(whole)])):
        with contextlib.suppress(protocol.WireError):
            protocol.Decoder(protocol.ClientMessage)(damaged)


@pytest.mark.parametrize(
    "fields",
    [
        [1, -1, [1], 1],
        [1, 0, [], 1],
        [1, 0, [-1], 1],
        [1, 0, [2**31], 1],
        [1, 0, [1], 0],
        [1, 0, [1], 1, 5],
        [1, 0, [1]],
    ],
)
def test_values_out_of_range_are_refused(fields: list[Any]) -> None:
    with pytest.raises(protocol.WireError):
        protocol.Decoder(protocol.ClientMessage)(msgspec.msgpack.encode(fields))


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(protocol.WireError):
        protocol.Decoder(protocol.ClientMessage)(b"\x95\x02\x00\x91\x01\x91\x01\xa2\xff\xfe")


def test_deeply_nested_bytes_are_refused() -> None:
    with pytest.raises(protocol.WireError):
        protocol.Decoder(protocol.ClientMessage)(b"\x91" * 200_000)


def test_the_largest_message_passes_a_real_socket_and_a_larger_one_does_not(tmp_path: Path) -> None:
    room = protocol.MAX_MESSAGE_BYTES - len(protocol.encode(protocol.SaveLogits(0, [1], [1], "x" * 70_000))) + 70_000
    largest = protocol.SaveLogits(0, [1], [1], "x" * room)
    with protocol.listen(tmp_path / "s") as listener, protocol.connect(tmp_path / "s") as client:
        accepted, _ = listener.accept()
        with accepted:
            inbox: protocol.Inbox[Any] = protocol.Inbox(accepted, protocol.Decoder(protocol.ClientMessage))
            client.send(protocol.encode(largest))
            assert inbox.receive() == largest
            with pytest.raises(protocol.WireError, match="the limit is"):
                protocol.encode(protocol.SaveLogits(0, [1], [1], "x" * (room + 1)))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
            client.send(protocol.encode(largest) + b"x")
            with pytest.raises(protocol.WireError, match="more than"):
                inbox.receive()
            client.close()
            with pytest.raises(protocol.Disconnected):
                inbox.receive()


def test_a_path_longer_than_sun_path_works(tmp_path: Path) -> None:
    folder = tmp_path / ("a folder with spaces " * 8)
    folder.mkdir()
    path = folder / "socket"
    assert len(str(path)) > 108
    with protocol.listen(path) as listener, protocol.connect(path) as client:
        assert stat.S_ISSOCK(path.stat().st_mode)
        accepted, _ = listener.accept()
        with accepted:
            client.send(b"hello")
            assert accepted.recv(10) == b"hello"


def test_nobody_listening_is_a_disconnection_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(protocol.Disconnected, match="nowhere"):
        protocol.connect(tmp_path / "nowhere")

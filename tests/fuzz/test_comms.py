"""Whatever comes over the network: an error of our tree, never a crash."""

from __future__ import annotations

import asyncio
import contextlib
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.comms._mqtt5 import PacketStream, ProtocolError, mqtt5, read_packet
from skerry.comms.codec import decode, encode
from skerry.comms.connection import Connection
from skerry.comms.links import ALL_GRANTED, Grant
from skerry.comms.router import Router
from skerry.comms.sessions import Limits
from skerry.comms.topics import read_topic, write_topic
from skerry.core.errors import DataError

WILL = mqtt5.Will("w", payload=b"x", content_type="t", user_properties=[("k", "v")])
OPTIONS = mqtt5.TopicFilter("a/+", max_qos=mqtt5.QoS.AT_LEAST_ONCE)
CONNECT = mqtt5.ConnectPacket("c", username="u", password=b"p", will=WILL).write()
FRAMES = [
    CONNECT,
    mqtt5.ConnAckPacket(assigned_client_id="é", receive_max=5).write(),
    mqtt5.PublishPacket(
        "a/b",
        b"x",
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=3,
        retain=True,
        content_type="é",
        correlation_data=b"\xff",
        message_expiry_interval=9,
        user_properties=[("k", "v")],
    ).write(),
    mqtt5.PubAckPacket(3, reason_str="no").write(),
    mqtt5.SubscribePacket(1, [OPTIONS, OPTIONS], subscription_id=200).write(),
    mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]).write(),
    mqtt5.UnsubscribePacket(1, ["a/+", "b"]).write(),
    mqtt5.PingReqPacket().write(),
    mqtt5.DisconnectPacket(reason_str="bye").write(),
    mqtt5.AuthPacket(authentication_method="x").write(),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A packet with a few bytes changed, and maybe cut short."""
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    for _ in range(draw(st.integers(0, 4))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(1, len(frame)))])


CHUNKS = st.lists(st.binary(max_size=40) | damaged(), max_size=8)


@pytest.mark.parametrize("frame", FRAMES)
def test_good_packets_are_read(frame: bytes) -> None:
    """The check of the strings lets each kind of packet pass, and no cut one."""
    assert read_packet(frame).write() == frame
    for size_bytes in range(1, len(frame)):
        with pytest.raises(ProtocolError):
            read_packet(frame[:size_bytes])


@given(frame=st.binary(min_size=1, max_size=60) | damaged())
def test_any_packet_is_read_or_refused(frame: bytes) -> None:
    """The codec's panic on bad UTF-8 is never reached."""
    with (
        contextlib.suppress(ProtocolError),
        mock.patch.object(mqtt5, "read", side_effect=_read_without_panic),
    ):
        read_packet(frame)


_read = mqtt5.read


def _read_without_panic(view: memoryview) -> object:
    try:
        return _read(view)
    except Exception:
        raise
    except BaseException as error:  # noqa: BLE001 - a panic is no Exception
        pytest.fail(f"the codec panicked: {error}")


@given(chunks=CHUNKS)
def test_a_stream_of_anything_is_cut_or_refused(chunks: list[bytes]) -> None:
    """However it is cut into chunks."""
    stream = PacketStream(largest_bytes=1000)
    with contextlib.suppress(ProtocolError):
        for chunk in chunks:
            stream.feed(chunk)
            while stream.take() is not None:
                pass


class _Wire(asyncio.Transport):
    """Takes what is written, and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None: ...


@given(chunks=CHUNKS, is_connected=st.booleans())
def test_the_broker_survives_any_client(
    chunks: list[bytes],
    is_connected: bool,  # noqa: FBT001
) -> None:
    """A connection fed with anything ends or goes on, and is cleaned up."""

    async def authenticate(*_: object) -> Grant | None:
        return ALL_GRANTED

    async def case() -> None:
        router = Router(Limits())
        connection = Connection(
            router, authenticate, admit=lambda _: True, left=lambda _: None
        )
        wire = _Wire()
        connection.connection_made(wire)
        for chunk in [CONNECT, *chunks] if is_connected else chunks:
            if not wire.is_closed:
                connection.data_received(chunk)
                await asyncio.sleep(0)
        with mock.patch("skerry.comms.connection.log.exception") as failed:
            connection.connection_lost(None)
            await asyncio.sleep(0)
        assert not failed.called
        router.close()

    with mock.patch("skerry.comms.connection.log.exception") as failed:
        asyncio.run(case())
    assert not failed.called


@given(payload=st.binary(max_size=200))
def test_any_payload_is_a_message_or_refused(payload: bytes) -> None:
    """Nothing but DataError comes out."""
    with contextlib.suppress(DataError):
        decode(payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    change=st.dictionaries(
        st.sampled_from(["schema", "kind", "device", "seq", "epoch", "body", "x"]), JSON
    )
)
def test_any_envelope_is_a_message_or_refused(change: dict[str, object]) -> None:
    """What is read can be written again and is the same."""
    envelope = {
        "schema": "skerry.message/1",
        "kind": "event",
        "device": "a",
        "sent_at_ms": 1,
    }
    with contextlib.suppress(DataError):
        message = decode(msgspec.json.encode(envelope | change))
        assert decode(encode(message)) == message


@given(text=st.text(max_size=60))
def test_any_text_is_a_topic_or_refused(text: str) -> None:
    """What is read is written the same."""
    with contextlib.suppress(DataError):
        assert write_topic(read_topic(text)) == text

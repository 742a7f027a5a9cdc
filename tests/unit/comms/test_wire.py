"""Messages and their topics, as they travel."""

from __future__ import annotations

import json

import pytest

from skerry.comms.codec import decode, encode
from skerry.comms.topics import (
    Topic,
    device_pattern,
    fleet_pattern,
    read_topic,
    write_topic,
)
from skerry.core.errors import DataError, NewerSchemaError
from skerry.core.messages import LARGEST_MESSAGE_BYTES, Direction, Message, Up

MESSAGE = Message(
    kind=Up.EVENT,
    device="gate-1",
    epoch="e" * 32,
    seq=3,
    sent_at_ms=1_700_000_000_000,
    trace="t1",
    body={"name": "drift.found", "n": 2, "nested": {"x": [1.5, None, True]}},
    extra={"later": {"a": 1}},
)
WIRE = {
    "schema": "skerry.message/1",
    "kind": "event",
    "device": "gate-1",
    "sent_at_ms": 0,
}


def test_a_message_comes_back_as_it_was() -> None:
    """All of it, and what only a newer version knows; the bytes are canonical."""
    payload = encode(MESSAGE)
    assert decode(payload) == MESSAGE
    assert encode(decode(payload)) == payload


def test_a_message_without_a_number_is_short() -> None:
    """What is empty is not sent, and read as empty."""
    message = Message(kind="ping", device="a", sent_at_ms=5)
    assert decode(encode(message)) == message
    assert b"epoch" not in encode(message)


def test_an_extra_key_cannot_replace_a_known_one() -> None:
    """What a key of the envelope says stands."""
    message = Message(kind="ping", device="a", sent_at_ms=5, extra={"kind": "ack"})
    assert decode(encode(message)).kind == "ping"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"schema": "skerry.message/2"}, NewerSchemaError),
        ({"schema": "skerry.release/1"}, DataError),
        ({"kind": ""}, DataError),
        ({"kind": "k" * 65}, DataError),
        ({"device": "../etc"}, DataError),
        ({"seq": -1}, DataError),
        ({"seq": "1"}, DataError),
        ({"seq": 2**60}, DataError),
        ({"sent_at_ms": None}, DataError),
        ({"body": []}, DataError),
        ({"trace": "t" * 257}, DataError),
        ({"body": {"x": "y" * LARGEST_MESSAGE_BYTES}}, DataError),
    ],
)
def test_bad_messages_are_refused(
    change: dict[str, object], error: type[DataError]
) -> None:
    """Each is an error of our tree, and a newer schema is told apart."""
    assert decode(json.dumps(WIRE).encode()).device == "gate-1"
    with pytest.raises(error):
        decode(json.dumps(WIRE | change).encode())


def test_too_large_a_message_is_not_written() -> None:
    """The writer learns it, not the reader."""
    message = Message(kind="event", device="a", sent_at_ms=5, body={"x": "y" * 70_000})
    with pytest.raises(DataError, match="at most 65536"):
        encode(message)


def test_topics_come_back_as_they_were() -> None:
    """The topic of a message, and the patterns that match it."""
    topic = Topic(tenant="main", device="a", direction=Direction.DOWN, kind="desired")
    text = "skerry/1/main/a/down/desired"
    assert write_topic(topic) == text
    assert read_topic(text) == topic
    assert device_pattern("main", "a", Direction.DOWN) == "skerry/1/main/a/down/+"
    assert fleet_pattern(Direction.UP) == "skerry/1/+/+/up/+"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "skerry/2/main/a/up/event",
        "skerry/1/main/a/up",
        "skerry/1/main/a/up/event/more",
        "skerry/1/main/a/sideways/event",
        "skerry/1/Main/a/up/event",
        "skerry/1/main/+/up/event",
        "skerry/1/main/a/up/Event",
        "skerry/1/main/a/up/",
    ],
)
def test_what_is_no_topic_of_ours_is_refused(text: str) -> None:
    """Nothing else is read as one."""
    with pytest.raises(DataError):
        read_topic(text)


def test_no_name_gets_a_wildcard_into_a_topic() -> None:
    """A device named `+` would hear all."""
    with pytest.raises(DataError):
        device_pattern("main", "+", Direction.UP)
    with pytest.raises(DataError):
        write_topic(Topic(tenant="#", device="a", direction=Direction.UP, kind="x"))
    with pytest.raises(DataError):
        write_topic(Topic(tenant="t", device="a", direction=Direction.UP, kind="x/y"))


@pytest.mark.parametrize("epoch", ["\\u0000", "e ", "é", "e/f", "e" * 65, "e\\n"])
def test_an_epoch_is_a_plain_word(epoch: str) -> None:
    """It becomes a key of the hub's database: PostgreSQL refuses a null character."""
    payload = encode(MESSAGE).replace(b"e" * 32, epoch.encode())
    with pytest.raises(DataError, match="epoch"):
        decode(payload)

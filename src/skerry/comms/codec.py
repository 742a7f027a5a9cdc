"""Messages as bytes: canonical JSON of at most 64 KiB, unknown keys kept."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from skerry.core.documents import Json, from_json, parse_object, to_json
from skerry.core.errors import DataError, UsageError
from skerry.core.messages import LARGEST_MESSAGE_BYTES, MESSAGE_SCHEMA, Message
from skerry.core.names import check_name

_NAME = "a message"
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Envelope(msgspec.Struct, frozen=True):
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    device: str
    sent_at_ms: _Number
    epoch: str = ""
    seq: _Number = 0
    trace: Annotated[str, msgspec.Meta(max_length=256)] = ""
    body: dict[str, Json] = {}


_EPOCH = re.compile(r"[A-Za-z0-9_-]{0,64}")
_KNOWN_KEYS = {"schema", *_Envelope.__struct_fields__}


def encode(message: Message) -> bytes:
    """Write a message.

    Raises:
        DataError: It is larger than a message may be.
    """
    envelope = {
        **{key: message.extra[key] for key in message.extra if key not in _KNOWN_KEYS},
        "kind": message.kind,
        "device": message.device,
        "sent_at_ms": message.sent_at_ms,
        "body": message.body,
        **({"epoch": message.epoch, "seq": message.seq} if message.epoch else {}),
        **({"trace": message.trace} if message.trace else {}),
    }
    payload = to_json(envelope, schema=MESSAGE_SCHEMA)
    if len(payload) > LARGEST_MESSAGE_BYTES:
        raise DataError(
            f"a message of kind {message.kind!r} has {len(payload)} bytes, at most "
            f"{LARGEST_MESSAGE_BYTES} expected",
            hint="Send large things as blobs.",
        )
    return payload


def decode(payload: bytes) -> Message:
    """Read a message from outside.

    Raises:
        NewerSchemaError: Only a newer Skerry reads it.
        DataError: It is too large, not JSON, or no message.
    """
    envelope = from_json(
        _Envelope,
        payload,
        schema=MESSAGE_SCHEMA,
        name=_NAME,
        largest_bytes=LARGEST_MESSAGE_BYTES,
    )
    try:
        check_name(envelope.device, kind="device")
    except UsageError as error:
        raise DataError(f"{_NAME}: {error.what}", hint=error.hint) from error
    if not is_epoch(envelope.epoch):
        raise DataError(
            f"{_NAME} has the epoch {envelope.epoch[:80]!r}",
            hint="Use at most 64 letters, digits, hyphens and underscores.",
        )
    fields = parse_object(payload, name=_NAME, largest_bytes=LARGEST_MESSAGE_BYTES)
    return Message(
        kind=envelope.kind,
        device=envelope.device,
        epoch=envelope.epoch,
        seq=envelope.seq,
        sent_at_ms=envelope.sent_at_ms,
        trace=envelope.trace,
        body=envelope.body,
        extra={key: fields[key] for key in fields if key not in _KNOWN_KEYS},
    )


def is_epoch(text: str) -> bool:
    """Whether a text can name an outbox: it becomes a key of the hub's database."""
    return _EPOCH.fullmatch(text) is not None

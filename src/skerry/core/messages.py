"""What travels between a gateway and the hub: an envelope, its topic, its kinds.

Topics are `skerry/1/{tenant}/{device}/{up|down}/{kind}`. A message that must not be
lost carries the `epoch` of its sender's outbox and a `seq` from 1 up; the hub drops
what it has seen and answers with `ack`, the highest `seq` below which nothing is
missing. A kind that the receiver does not know is counted and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.core.documents import Json

MESSAGE_SCHEMA = "skerry.message/1"
LARGEST_MESSAGE_BYTES = 64 * 1024
"""Most bytes of a message; larger things travel as blobs."""

TOPIC_ROOT = "skerry/1"


class Direction(StrEnum):
    """Which way a message goes, seen from the device."""

    UP = "up"
    DOWN = "down"


class Up(StrEnum):
    """Kinds that a device sends."""

    REPORTED = "reported"
    """`{"patch": …}`: a merge patch of the reported side of its shadow."""
    EVENT = "event"
    """`{"name": …, "at_ms": …, …}`: one line of its log."""
    SAMPLE = "sample"
    """One field sample worth a label."""
    STATUS = "status"
    """`{"is_online": …, "boot": …}`: retained; the broker sends the last will, without
    the random name of this start. Not sequenced."""
    PONG = "pong"
    """`{"id": …}`: the answer to a ping. Not sequenced."""
    PROFILED = "profiled"
    """`{"id": …, "profile": {…}}`, or `error` instead of it. Not sequenced."""


class Down(StrEnum):
    """Kinds that the hub sends."""

    DESIRED = "desired"
    """`{"version": …, "desired": {…}}`: the whole desired side. Retained."""
    ACK = "ack"
    """`{"epoch": …, "seq": …}`: all up to `seq` is in the hub's database."""
    RESEND = "resend"
    """`{"epoch": …, "after": …}`: send again what comes after this `seq`."""
    REJECTED = "rejected"
    """`{"epoch": …, "seq": …, "code": …, "what": …}`: why a message was not taken."""
    PING = "ping"
    """`{"id": …}`: answer at once."""
    PROFILE = "profile"
    """`{"id": …, "sha256": …, "repeats": …, "threads": …}`: profile a model that is
    installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The envelope.

    Attributes:
        kind: What it is; a `Down`, an `Up`, or what only a newer version knows.
        device: The device that sends or gets it.
        epoch: Which outbox `seq` counts in; empty where it is not sequenced.
        seq: Its number in the outbox, from 1 up; 0 where it is not sequenced.
        sent_at_ms: The sender's clock, milliseconds since 1970.
        trace: What it belongs to, from the command line to the device, or empty.
        body: What it says.
        extra: Keys of the envelope that this version does not know, kept.
    """

    kind: str
    device: str
    epoch: str = ""
    seq: int = 0
    sent_at_ms: int
    trace: str = ""
    body: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)

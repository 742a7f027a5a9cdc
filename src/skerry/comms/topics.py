"""Topics: `skerry/1/{tenant}/{device}/{up|down}/{kind}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from skerry.core.errors import DataError, UsageError
from skerry.core.messages import TOPIC_ROOT, Direction
from skerry.core.names import check_name

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LEVELS_BEFORE_TENANT = TOPIC_ROOT.count("/") + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """Where a message goes.

    Attributes:
        tenant: Whose device it is.
        device: The device that sends or gets it.
        direction: Up to the hub or down to the device.
        kind: The kind of message; maybe one that this version does not know.
    """

    tenant: str
    device: str
    direction: Direction
    kind: str


def write_topic(topic: Topic) -> str:
    """Write a topic.

    Raises:
        DataError: A part of it cannot stand in a topic.

    Example:
        >>> write_topic(
        ...     Topic(tenant="main", device="a", direction=Direction.UP, kind="event")
        ... )
        'skerry/1/main/a/up/event'
    """
    _check(topic.tenant, "tenant")
    _check(topic.device, "device")
    _check_kind(topic.kind)
    return f"{TOPIC_ROOT}/{topic.tenant}/{topic.device}/{topic.direction}/{topic.kind}"


def read_topic(text: str) -> Topic:
    """Read a topic from outside.

    Raises:
        DataError: It is none of ours.
    """
    levels = text.split("/")
    root = "/".join(levels[:_LEVELS_BEFORE_TENANT])
    if root != TOPIC_ROOT or len(levels) != _LEVELS_BEFORE_TENANT + 4:
        raise DataError(
            f"{text[:80]!r} is no topic of ours",
            hint=f"Topics are {TOPIC_ROOT}/TENANT/DEVICE/up|down/KIND.",
        )
    tenant, device, direction, kind = levels[_LEVELS_BEFORE_TENANT:]
    if direction not in set(Direction):
        raise DataError(
            f"{text[:80]!r} goes neither up nor down", hint="Write up or down."
        )
    return Topic(
        tenant=_check(tenant, "tenant"),
        device=_check(device, "device"),
        direction=Direction(direction),
        kind=_check_kind(kind),
    )


def device_pattern(tenant: str, device: str, direction: Direction) -> str:
    """The pattern of all that goes one way between one device and the hub.

    Raises:
        DataError: A name cannot be one.
    """
    _check(tenant, "tenant")
    _check(device, "device")
    return f"{TOPIC_ROOT}/{tenant}/{device}/{direction}/+"


def fleet_pattern(direction: Direction) -> str:
    """The pattern of all that goes one way between any device and the hub."""
    return f"{TOPIC_ROOT}/+/+/{direction}/+"


def _check(name: str, kind: str) -> str:
    try:
        return check_name(name, kind=kind)
    except UsageError as error:
        raise DataError(error.what, hint=error.hint) from error


def _check_kind(kind: str) -> str:
    if not _KIND.fullmatch(kind):
        raise DataError(
            f"{kind[:80]!r} cannot be the kind of a message",
            hint="A kind is a lower-case word of at most 63 characters.",
        )
    return kind

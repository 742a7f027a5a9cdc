"""What every link has in common: topics, patterns, grants and the last will.

Rules of names and patterns are those of MQTT 5.0 (OASIS, 2019), section 4.7.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.core.errors import DataError
from skerry.core.messages import LARGEST_MESSAGE_BYTES

LARGEST_TOPIC_BYTES = 512
"""Most bytes of a topic or a pattern, in UTF-8."""

MOST_LEVELS = 16
"""Most levels of a topic or a pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """The message that the broker sends when a link breaks without a goodbye.

    Attributes:
        topic: Where it goes.
        payload: What it says.
        retain: Whether the broker keeps it for who subscribes later.
    """

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one user may do on the broker.

    Attributes:
        publish: Patterns of the topics that it may publish to.
        subscribe: Patterns that it may subscribe to, or to what they cover.
        retained: Most topics on which it may leave a retained message, or None for as
            many as the broker holds.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    retained: int | None = None

    def may_publish(self, topic: str) -> bool:
        """Whether a message may be sent to this topic."""
        return any(topic_matches(pattern, topic) for pattern in self.publish)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether all that this pattern can match may be read."""
        return any(pattern_covers(granted, pattern) for granted in self.subscribe)


ALL_GRANTED = Grant(publish=("#",), subscribe=("#",))
"""Everything but the topics that begin with `$`, which belong to the broker."""


def check_topic(topic: str) -> str:
    """Check the name of a topic to publish to.

    Raises:
        DataError: It cannot be one.
    """
    _check_levels(topic, kind="topic")
    if "+" in topic or "#" in topic:
        raise DataError(
            f"the topic {topic[:80]!r} holds a wildcard",
            hint="Wildcards stand in patterns only.",
        )
    return topic


def check_pattern(pattern: str) -> str:
    """Check a pattern to subscribe to.

    Raises:
        DataError: It cannot be one.
    """
    _check_levels(pattern, kind="pattern")
    levels = pattern.split("/")
    for level in levels:
        if ("+" in level or "#" in level) and len(level) > 1:
            raise DataError(
                f"the pattern {pattern[:80]!r} has a wildcard within a level",
                hint="A wildcard stands for a whole level: a/+/c.",
            )
    if "#" in levels[:-1]:
        raise DataError(
            f"the pattern {pattern[:80]!r} goes on after '#'",
            hint="'#' stands for all levels that follow: it comes last.",
        )
    return pattern


def check_payload(payload: bytes) -> bytes:
    """Check that a payload is small enough for a message.

    Raises:
        DataError: It is not.
    """
    if len(payload) > LARGEST_MESSAGE_BYTES:
        raise DataError(
            f"the message has {len(payload)} bytes, at most {LARGEST_MESSAGE_BYTES} "
            "expected",
            hint="Send large things as blobs.",
        )
    return payload


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether a pattern matches a topic; both are well formed.

    Example:
        >>> topic_matches("a/+/c", "a/b/c"), topic_matches("a/#", "a")
        (True, True)
    """
    if topic.startswith("$") and pattern[:1] in {"+", "#"}:
        return False
    return pattern_covers(pattern, topic)


def pattern_covers(wide: str, narrow: str) -> bool:
    """Whether a pattern matches all that another one matches.

    Example:
        >>> pattern_covers("a/#", "a/+/c"), pattern_covers("a/+", "a/#")
        (True, False)
    """
    wide_levels, narrow_levels = wide.split("/"), narrow.split("/")
    for index, level in enumerate(wide_levels):
        if level == "#":
            return True
        if index >= len(narrow_levels):
            return False
        got = narrow_levels[index]
        if got == "#" or level not in {"+", got}:
            return False
    return len(wide_levels) == len(narrow_levels)


def _check_levels(name: str, *, kind: str) -> None:
    size_bytes = len(name.encode(errors="replace"))
    levels = name.count("/") + 1
    if not name or size_bytes > LARGEST_TOPIC_BYTES or levels > MOST_LEVELS:
        raise DataError(
            f"a {kind} has {size_bytes} bytes and {levels} levels",
            hint=f"It has 1–{LARGEST_TOPIC_BYTES} bytes, at most {MOST_LEVELS} levels.",
        )
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in name):
        raise DataError(
            f"the {kind} {name[:80]!r} holds a control character",
            hint="Use printable characters.",
        )

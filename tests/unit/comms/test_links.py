from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from skerry.comms.broker import Broker
from skerry.comms.links import (
    Grant,
    Will,
    check_pattern,
    pattern_covers,
    topic_matches,
)
from skerry.comms.memory import MemoryBroker
from skerry.core.errors import DataError
from skerry.core.seams import Link
from tests.links import GRANTS, LinkSuite, MqttSuite, MqttWorld, Open


class MemoryWorld:
    """The broker in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.links: list[Link] = []

    async def link(self, username: str, *, will: Will | None = None) -> Link:
        link = self.broker.link(username, will=will, grant=GRANTS[username])
        self.links.append(link)
        return link

    async def cut(self, username: str) -> None:
        self.broker.cut(username)
        self.broker.join(username)

    async def stop(self) -> None:
        self.broker.stop()

    async def start(self) -> None:
        self.broker.start()


class BrokerWorld(MqttWorld):
    """The hub's own broker."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(self.authenticate)

    async def authenticate(
        self, client_id: str, username: str, password: bytes
    ) -> Grant | None:
        assert client_id.startswith(username)
        is_known = password == f"{username}-password".encode()
        return GRANTS.get(username) if is_known else None

    async def start(self) -> None:
        await self.broker.start()
        self.port = self.broker.port

    async def stop(self) -> None:
        await self.broker.stop()


@asynccontextmanager
async def memory_world() -> AsyncIterator[MemoryWorld]:
    """Open one; close its links at the end."""
    world = MemoryWorld()
    yield world
    for link in world.links:
        await link.close()


class TestMemoryLink(LinkSuite):
    """The suite in memory."""

    @pytest.fixture
    def world(self) -> Open:
        return memory_world


class TestMqttLink(MqttSuite):
    """The suite over MQTT, on the hub's own broker."""

    @pytest.fixture
    def world(self) -> Open:
        return lambda: BrokerWorld().running()


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/+", "a/", True),
        ("+/+", "/a", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/a", False),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
    ],
)
def test_patterns_match_as_the_standard_says(
    pattern: str,
    topic: str,
    matches: bool,  # noqa: FBT001
) -> None:
    """The examples of MQTT 5.0, section 4.7, among others."""
    assert topic_matches(pattern, topic) == matches


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("a/+", "a/+", True),
        ("a/#", "a/+/b", True),
        ("a/#", "a/#", True),
        ("#", "a/#", True),
        ("a/+", "a/#", False),
        ("a/b", "a/+", False),
        ("a/+/c", "a/b/+", False),
        ("a/+/c", "a/#", False),
    ],
)
def test_a_grant_covers_patterns(
    wide: str,
    narrow: str,
    covers: bool,  # noqa: FBT001
) -> None:
    """A pattern may be subscribed to if all that it matches may be read."""
    assert pattern_covers(wide, narrow) == covers
    assert Grant(publish=(), subscribe=(wide,)).may_subscribe(narrow) == covers


@pytest.mark.parametrize("pattern", ["a+", "a/b#", "#/a", "a/\x01", "x" * 600])
def test_bad_patterns_are_refused(pattern: str) -> None:
    """A wildcard is a whole level, and `#` the last one."""
    with pytest.raises(DataError):
        check_pattern(pattern)


def test_retained_messages_outlive_a_restart_only_if_told() -> None:
    """A broker in memory forgets them, or keeps them as one with a disk does."""
    broker = MemoryBroker()
    for keep in (True, False):
        broker.route("a", b"x", retain=True)
        broker.stop()
        broker.start(keep_retained=keep)
        assert bool(broker.retained("a")) == keep

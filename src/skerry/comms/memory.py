"""A broker and its links in memory: for tests, the simulator and single processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from skerry.comms.links import (
    ALL_GRANTED,
    Grant,
    Will,
    check_pattern,
    check_payload,
    check_topic,
)
from skerry.comms.topic_tree import TopicTree
from skerry.core.errors import LinkError, TrustError
from skerry.core.seams import Link, Receive

log = logging.getLogger(__name__)


class MemoryBroker:
    """Carries messages between the links it made, all in one event loop.

    It behaves as an MQTT broker does towards clients that start clean: what is sent
    while a link is cut is lost to it, but for retained messages.

    Example:
        >>> async def hello() -> list[bytes]:
        ...     broker, got = MemoryBroker(), []
        ...     link = broker.link("a")
        ...
        ...     async def receive(topic: str, payload: bytes) -> None:
        ...         got.append(payload)
        ...
        ...     await link.subscribe("greetings/+", receive)
        ...     await link.publish("greetings/world", b"hello")
        ...     await asyncio.sleep(0)
        ...     await link.close()
        ...     return got
        >>> asyncio.run(hello())
        [b'hello']
    """

    def __init__(self) -> None:
        self._links: list[MemoryLink] = []
        self._cut: set[str] = set()
        self._retained: TopicTree[tuple[str, bytes]] = TopicTree()
        self._subscribed: TopicTree[tuple[str, list[MemoryLink]]] = TopicTree()
        self._is_up = True

    def link(
        self, username: str, *, will: Will | None = None, grant: Grant | None = None
    ) -> Link:
        """Make a link; it stands at once, if the broker is up and the user not cut.

        Args:
            username: Who it is.
            will: What is sent when the link is cut.
            grant: What it may do; all, if None.
        """
        link = MemoryLink(self, username, will, grant or ALL_GRANTED)
        self._links.append(link)
        link.refresh()
        return link

    def stop(self) -> None:
        """Go down: every link is lost, and no last will is sent."""
        self._is_up = False
        self._refresh()

    def start(self, *, keep_retained: bool = False) -> None:
        """Come up: the links come back by themselves.

        Args:
            keep_retained: Whether retained messages outlived the restart.
        """
        if not keep_retained:
            self._retained = TopicTree()
        self._is_up = True
        self._refresh()

    def cut(self, username: str) -> None:
        """Break the links of a user without a goodbye: their last wills are sent."""
        if username in self._cut:
            return
        mine = [link for link in self._links if link.username == username]
        wills = [link.will for link in mine if link.will and link.is_connected]
        self._cut.add(username)
        self._refresh()
        for will in wills:
            self.route(will.topic, will.payload, retain=will.retain)

    def join(self, username: str) -> None:
        """Let the links of a user come back."""
        self._cut.discard(username)
        self._refresh()

    def carries(self, username: str) -> bool:
        """Whether a link of this user can stand."""
        return self._is_up and username not in self._cut

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Give a message to each link that subscribed to its topic."""
        if retain and payload:
            self._retained.put(topic, (topic, payload))
        elif retain:
            self._retained.pop(topic)
        for pattern, links in self._subscribed.whose_pattern_matches(topic):
            for link in links:
                link.take(pattern, topic, payload)

    def retained(self, pattern: str) -> list[tuple[str, bytes]]:
        """The retained messages whose topics match a pattern."""
        return list(self._retained.whose_topic_matches(pattern))

    def subscribe(self, pattern: str, link: MemoryLink) -> None:
        """Have a link given what matches a pattern, once however often it asks."""
        there = self._subscribed.get(pattern)
        if there is None:
            self._subscribed.put(pattern, (pattern, [link]))
        elif link not in there[1]:
            there[1].append(link)

    def forget(self, link: MemoryLink, patterns: Iterable[str]) -> None:
        """Let go of a closed link and what it subscribed to."""
        if link not in self._links:
            return
        self._links.remove(link)
        for pattern in patterns:
            _, links = self._subscribed.get(pattern) or (pattern, [link])
            links.remove(link)
            if not links:
                self._subscribed.pop(pattern)

    def _refresh(self) -> None:
        for link in self._links:
            link.refresh()


class MemoryLink:
    """A link of a `MemoryBroker`; `MemoryBroker.link` makes it."""

    def __init__(
        self, broker: MemoryBroker, username: str, will: Will | None, grant: Grant
    ) -> None:
        self.username = username
        self.will = will
        self._broker = broker
        self._grant = grant
        self._subscriptions: dict[str, Receive] = {}
        self._waiting: asyncio.Queue[tuple[Receive, str, bytes]] = asyncio.Queue()
        self._delivery: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._is_closed = False

    @property
    def is_connected(self) -> bool:
        """Whether the link stands."""
        return self._connected.is_set()

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        """Hand one message to the broker.

        Raises:
            LinkError: There is no connection.
            TrustError: The broker forbids it.
            DataError: The topic is none, or the payload is too large.
        """
        check_topic(topic)
        check_payload(payload)
        if not self.is_connected:
            raise LinkError(
                f"{self.username} has no connection to the broker in memory",
                hint="Try again when it is back.",
            )
        if not self._grant.may_publish(topic):
            raise TrustError(
                f"{self.username} may not publish to {topic}",
                hint="Publish to topics of its own.",
            )
        self._broker.route(topic, payload, retain=retain)
        await asyncio.sleep(0)

    async def subscribe(self, pattern: str, receive: Receive) -> None:
        """Have messages given to `receive`, one after the other.

        Raises:
            TrustError: The broker forbids it.
            DataError: The pattern is none.
        """
        check_pattern(pattern)
        if not self._grant.may_subscribe(pattern):
            raise TrustError(
                f"{self.username} may not subscribe to {pattern}",
                hint="Subscribe to topics of its own.",
            )
        self._subscriptions[pattern] = receive
        self._broker.subscribe(pattern, self)
        if self._delivery is None:
            self._delivery = asyncio.create_task(self._deliver())
        if self.is_connected:
            self._take_retained(pattern)

    async def wait_connected(self) -> None:
        """Return as soon as the connection stands."""
        await self._connected.wait()

    async def close(self) -> None:
        """Leave, quietly."""
        self._is_closed = True
        self._connected.clear()
        self._broker.forget(self, self._subscriptions)
        delivery, self._delivery = self._delivery, None
        if delivery is not None and delivery is not asyncio.current_task():
            delivery.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await delivery

    def refresh(self) -> None:
        """Connect or lose the connection, as the broker has it."""
        is_up = self._broker.carries(self.username) and not self._is_closed
        if not is_up:
            self._connected.clear()
        elif not self.is_connected:
            self._connected.set()
            for pattern in self._subscriptions:
                self._take_retained(pattern)

    def take(self, pattern: str, topic: str, payload: bytes) -> None:
        """Keep a message for who subscribed to this pattern."""
        if self.is_connected:
            self._waiting.put_nowait((self._subscriptions[pattern], topic, payload))

    def _take_retained(self, pattern: str) -> None:
        receive = self._subscriptions[pattern]
        for topic, payload in self._broker.retained(pattern):
            self._waiting.put_nowait((receive, topic, payload))

    async def _deliver(self) -> None:
        while not self._is_closed:
            receive, topic, payload = await self._waiting.get()
            try:
                await receive(topic, payload)
            except Exception:
                log.exception("link.receiver.failed", extra={"topic": topic})

"""What the broker remembers: sessions with their queues, and retained messages.

Behaviour and section numbers are those of MQTT 5.0 (OASIS, 2019).
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from skerry.comms._mqtt5 import mqtt5
from skerry.comms.links import Grant
from skerry.comms.topic_tree import TopicTree

_MOST_PACKET_IDS = 65_535
_PROPERTY_BYTES = 128
"""About how much memory a user property takes beside its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the broker takes on.

    Attributes:
        connections: Most connections.
        connections_per_user: Most sessions of one user, with or without a connection.
        connect_timeout_s: How long a connection may take to say who it is, in seconds.
        keep_alive_s: Longest keep-alive that is granted, in seconds.
        connect_packet_bytes: Most bytes of a CONNECT, from who is not yet known.
        packet_bytes: Most bytes of a packet.
        receive_max: Most QoS 1 messages on the way to a client.
        queue_messages: Most messages that wait for a client.
        queue_bytes: Most bytes of messages that wait for a client.
        session_expiry_s: Longest life of a session without a connection, in seconds.
        subscriptions: Most subscriptions of a session.
        retained_messages: Most retained messages.
        retained_bytes: Most bytes of all retained messages.
    """

    connections: int = 15_000
    connections_per_user: int = 8
    connect_timeout_s: float = 10.0
    keep_alive_s: int = 300
    connect_packet_bytes: int = 16 << 10
    packet_bytes: int = 128 << 10
    receive_max: int = 256
    queue_messages: int = 10_000
    queue_bytes: int = 32 << 20
    session_expiry_s: int = 3_600
    subscriptions: int = 64
    retained_messages: int = 50_000
    retained_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subscription:
    """One pattern that a session subscribed to."""

    pattern: str
    options: mqtt5.TopicFilter
    identifier: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Published:
    """A message that the broker took.

    Attributes:
        packet: As it came.
        expires_at_s: When it is no longer worth delivering, on the loop's clock.
    """

    packet: mqtt5.PublishPacket
    expires_at_s: float | None = None

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes: its properties may outweigh its payload."""
        packet = self.packet
        properties = packet.user_properties
        texts = (
            packet.topic,
            packet.content_type or "",
            packet.response_topic or "",
            *itertools.chain.from_iterable(properties),
        )
        size_bytes = len(packet.payload) + len(packet.correlation_data or b"")
        return size_bytes + sum(map(len, texts)) + len(properties) * _PROPERTY_BYTES

    def is_expired(self, now_s: float) -> bool:
        """Whether it is too old to deliver."""
        return self.expires_at_s is not None and now_s >= self.expires_at_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outgoing:
    """A message on its way to one client."""

    published: Published
    qos: mqtt5.QoS
    retain: bool
    identifiers: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return self.published.size_bytes

    def packet(
        self, packet_id: int | None, now_s: float, *, is_again: bool
    ) -> mqtt5.PublishPacket:
        """Make the packet to send; what the publisher said of it goes along."""
        source, expires_at_s = self.published.packet, self.published.expires_at_s
        return mqtt5.PublishPacket(
            source.topic,
            source.payload,
            qos=self.qos,
            retain=self.retain,
            packet_id=packet_id,
            duplicate=is_again,
            payload_format_indicator=source.payload_format_indicator,
            message_expiry_interval=(
                None if expires_at_s is None else max(1, round(expires_at_s - now_s))
            ),
            content_type=source.content_type,
            response_topic=source.response_topic,
            correlation_data=source.correlation_data,
            subscription_ids=list(self.identifiers),
            user_properties=source.user_properties,
        )


class Session:
    """What is kept for a client, while it is connected and for a while after.

    Args:
        username: Whose it is: nobody else can take it over.
        client_id: The client's own name for it.
        limits: How much may wait in it.
    """

    def __init__(self, username: str, client_id: str, limits: Limits) -> None:
        self.username = username
        self.client_id = client_id
        self.subscriptions: dict[str, Subscription] = {}
        self.expiry_s = 0
        self.will: mqtt5.Will | None = None
        self.grant = Grant(publish=(), subscribe=())
        self.dropped = 0
        self._limits = limits
        self._queue: deque[Outgoing] = deque()
        self._queue_bytes = 0
        self._inflight: dict[int, Outgoing] = {}
        self._again: deque[int] = deque()
        self._last_packet_id = 0
        self._receive_max = limits.receive_max
        self._largest_bytes = limits.packet_bytes
        self._send: Callable[[bytes], bool] | None = None
        self._can_take = False

    @property
    def is_connected(self) -> bool:
        """Whether a client is there."""
        return self._send is not None

    @property
    def waiting(self) -> int:
        """How many messages it has to deliver."""
        return len(self._queue) + len(self._inflight)

    def attach(
        self,
        send: Callable[[bytes], bool],
        *,
        receive_max: int,
        largest_bytes: int | None,
        grant: Grant,
    ) -> list[str]:
        """Let a client take it up; what it may no longer read is let go of.

        Args:
            send: Writes to the client; tells whether it can take more for now.
            receive_max: Most messages that the client takes before it acknowledges.
            largest_bytes: Most bytes of a packet that the client takes.
            grant: What the client may do.

        Returns:
            The patterns that it is no longer subscribed to.
        """
        self.grant = grant
        self._send = send
        self._can_take = True
        self._receive_max = min(receive_max, self._limits.receive_max)
        self._largest_bytes = largest_bytes or self._limits.packet_bytes
        self._again = deque(self._inflight)
        gone = [name for name in self.subscriptions if not grant.may_subscribe(name)]
        if gone:
            for name in gone:
                del self.subscriptions[name]
            self._again.clear()
            self._inflight.clear()
            self._queue.clear()
            self._queue_bytes = 0
        return gone

    def detach(self) -> None:
        """Note that the client has left."""
        self._send = None

    def offer(self, outgoing: Outgoing, now_s: float) -> bool:
        """Have a message delivered.

        Returns:
            False if it was dropped: too much waits, or nobody will come for it.
        """
        is_kept = self.is_connected or outgoing.qos != mqtt5.QoS.AT_MOST_ONCE
        if (
            not is_kept
            or len(self._queue) >= self._limits.queue_messages
            or self._queue_bytes + outgoing.size_bytes > self._limits.queue_bytes
        ):
            self.dropped += 1
            return False
        self._queue.append(outgoing)
        self._queue_bytes += outgoing.size_bytes
        self.pump(now_s)
        return True

    def acknowledge(self, packet_id: int, now_s: float) -> None:
        """Take the client's PUBACK, whatever its reason."""
        if self._inflight.pop(packet_id, None) is not None:
            self.pump(now_s)

    def resume(self, now_s: float) -> None:
        """Go on, as the client can take more."""
        self._can_take = True
        self.pump(now_s)

    def pump(self, now_s: float) -> None:
        """Send what waits, as far as the client takes it; in order (section 4.6)."""
        while self._send and self._can_take and self._again:
            packet_id = self._again.popleft()
            if packet_id in self._inflight:
                outgoing = self._inflight[packet_id]
                self._write(outgoing, packet_id, now_s, is_again=True)
        while self._send and self._can_take and self._queue:
            needs_id = self._queue[0].qos != mqtt5.QoS.AT_MOST_ONCE
            if needs_id and len(self._inflight) >= self._receive_max:
                return
            outgoing = self._queue.popleft()
            self._queue_bytes -= outgoing.size_bytes
            if not outgoing.published.is_expired(now_s):
                packet_id_or_none = self._next_packet_id() if needs_id else None
                self._write(outgoing, packet_id_or_none, now_s)

    def _write(
        self,
        outgoing: Outgoing,
        packet_id: int | None,
        now_s: float,
        *,
        is_again: bool = False,
    ) -> None:
        frame = outgoing.packet(packet_id, now_s, is_again=is_again).write()
        if len(frame) > self._largest_bytes or self._send is None:
            # Section 3.1.2.11.4: it is as if it had been sent.
            self._inflight.pop(packet_id or 0, None)
            self.dropped += 1
            return
        if packet_id is not None:
            self._inflight[packet_id] = outgoing
        self._can_take = self._send(frame)

    def _next_packet_id(self) -> int:
        while True:
            self._last_packet_id = self._last_packet_id % _MOST_PACKET_IDS + 1
            if self._last_packet_id not in self._inflight:
                return self._last_packet_id


class Subscriptions:
    """Who subscribed to what, by pattern."""

    def __init__(self) -> None:
        self._tree: TopicTree[dict[Session, Subscription]] = TopicTree()

    def add(self, session: Session, subscription: Subscription) -> bool:
        """Subscribe; return whether the session had not yet subscribed to it."""
        is_new = subscription.pattern not in session.subscriptions
        session.subscriptions[subscription.pattern] = subscription
        subscribers = self._tree.get(subscription.pattern)
        if subscribers is None:
            subscribers = {}
            self._tree.put(subscription.pattern, subscribers)
        subscribers[session] = subscription
        return is_new

    def remove(self, session: Session, pattern: str) -> bool:
        """Unsubscribe; return whether there was a subscription."""
        session.subscriptions.pop(pattern, None)
        subscribers = self._tree.get(pattern) or {}
        was_there = subscribers.pop(session, None) is not None
        if was_there and not subscribers:
            self._tree.pop(pattern)
        return was_there

    def of(self, topic: str) -> dict[Session, list[Subscription]]:
        """Each session with its subscriptions that match a topic."""
        found: dict[Session, list[Subscription]] = {}
        for subscribers in self._tree.whose_pattern_matches(topic):
            for session, subscription in subscribers.items():
                found.setdefault(session, []).append(subscription)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    published: Published
    owner: str


class Retained:
    """The last retained message of each topic (section 3.3.1.3), bounded."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tree: TopicTree[_Kept] = TopicTree()
        self._size_bytes = 0
        self._topics_of: Counter[str] = Counter()

    def keep(
        self, published: Published, owner: str, *, most_topics: int | None
    ) -> bool:
        """Keep a message in place of the topic's last; an empty one removes it.

        Args:
            published: The message.
            owner: Who sent it.
            most_topics: On how many topics the owner may have one; None for any.

        Returns:
            False if there is no room for it; what was kept stays.
        """
        packet = published.packet
        before = self._tree.get(packet.topic)
        if not packet.payload:
            self._forget(packet.topic)
            return True
        before_bytes = before.published.size_bytes if before else 0
        size_bytes = self._size_bytes - before_bytes + published.size_bytes
        is_own = before is not None and before.owner == owner
        topics = self._topics_of[owner] + (0 if is_own else 1)
        if (
            size_bytes > self._limits.retained_bytes
            or (before is None and self._count() >= self._limits.retained_messages)
            or (most_topics is not None and topics > most_topics)
        ):
            return False
        self._forget(packet.topic)
        self._tree.put(packet.topic, _Kept(published=published, owner=owner))
        self._size_bytes += published.size_bytes
        self._topics_of[owner] += 1
        return True

    def of(self, pattern: str, now_s: float) -> Iterator[Published]:
        """The messages kept on topics that a pattern matches."""
        expired = []
        for kept in self._tree.whose_topic_matches(pattern):
            if kept.published.is_expired(now_s):
                expired.append(kept.published.packet.topic)
            else:
                yield kept.published
        for topic in expired:
            self._forget(topic)

    def _count(self) -> int:
        return self._topics_of.total()

    def _forget(self, topic: str) -> None:
        kept = self._tree.pop(topic)
        if kept is None:
            return
        self._size_bytes -= kept.published.size_bytes
        self._topics_of[kept.owner] -= 1
        if not self._topics_of[kept.owner]:
            del self._topics_of[kept.owner]

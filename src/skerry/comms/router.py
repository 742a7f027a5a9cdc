"""The broker without its sockets: sessions, subscriptions, wills, who gets what.

Section numbers are those of MQTT 5.0 (OASIS, 2019).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from functools import reduce

from skerry.comms._mqtt5 import Reason, higher, lower, mqtt5
from skerry.comms.links import Grant, check_topic
from skerry.comms.sessions import (
    Limits,
    Outgoing,
    Published,
    Retained,
    Session,
    Subscription,
    Subscriptions,
)
from skerry.core.errors import DataError

log = logging.getLogger(__name__)

_Code = mqtt5.PubAckReasonCode
_QoS = mqtt5.QoS


class Router:
    """Carries messages between sessions.

    Args:
        limits: How much it takes on.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.subscriptions = Subscriptions()
        self.retained = Retained(limits)
        self._sessions: dict[tuple[str, str], Session] = {}
        self._sessions_of: Counter[str] = Counter()
        self._ends: dict[Session, Callable[[Reason], None]] = {}
        self._timers: dict[Session, asyncio.TimerHandle] = {}

    def open_session(
        self,
        packet: mqtt5.ConnectPacket,
        grant: Grant,
        *,
        client_id: str,
        send: Callable[[bytes], bool],
        end: Callable[[Reason], None],
    ) -> tuple[Session, bool] | None:
        """Begin or take up the session of a client that has shown who it is.

        A session is found by user name and client id, so that nobody takes over what
        is another user's (section 3.1.4 knows the client id alone).

        Args:
            packet: What the client said of itself.
            grant: What it may do.
            client_id: Its own name, or the one it was given.
            send: Writes to it; tells whether it can take more for now.
            end: Ends its connection.

        Returns:
            The session, and whether it had been there; None where the user has too
            many.
        """
        username = packet.username or ""
        key = (username, client_id)
        session = self._sessions.get(key)
        if session is not None:
            self._take_over(session)
            if packet.clean_start or key not in self._sessions:
                self._discard(session)
                session = None
        is_present = session is not None
        if session is None:
            if self._sessions_of[username] >= self.limits.connections_per_user:
                return None
            session = Session(username, client_id, self.limits)
            self._sessions[key] = session
            self._sessions_of[username] += 1
        self._cancel_timer(session)
        session.will = packet.will
        session.expiry_s = min(
            packet.session_expiry_interval, self.limits.session_expiry_s
        )
        self._ends[session] = end
        gone = session.attach(
            send,
            receive_max=packet.receive_max,
            largest_bytes=packet.max_packet_size,
            grant=grant,
        )
        for pattern in gone:
            self.subscriptions.remove(session, pattern)
        return session, is_present

    def close_session(self, session: Session, *, is_quiet: bool) -> None:
        """Note that a client has left; the last will is sent unless it left quietly."""
        self._ends.pop(session, None)
        session.detach()
        will, session.will = session.will, None
        if will is not None and not is_quiet:
            delay_s = min(will.will_delay_interval, session.expiry_s)
            if delay_s:
                session.will = will
                self._set_timer(session, delay_s, self._late_will)
                return
            self._send_will(session, will)
        self._let_expire(session, session.expiry_s)

    def publish(
        self, packet: mqtt5.PublishPacket, session: Session
    ) -> mqtt5.PubAckReasonCode:
        """Give a message to all who subscribed to its topic.

        Args:
            packet: The message.
            session: Who sent it.

        Returns:
            The reason to acknowledge it with.
        """
        try:
            check_topic(packet.topic)
        except DataError:
            return _Code.TOPIC_NAME_INVALID
        if not session.grant.may_publish(packet.topic):
            return _Code.NOT_AUTHORIZED
        now_s = asyncio.get_running_loop().time()
        expiry_s = packet.message_expiry_interval
        published = Published(
            packet=packet, expires_at_s=None if expiry_s is None else now_s + expiry_s
        )
        if packet.retain and not self._keep(published, session):
            log.warning("broker.retained.full", extra={"user": session.username})
            return _Code.QUOTA_EXCEEDED
        subscribers = self.subscriptions.of(packet.topic)
        is_taken = True
        for reader, subscriptions in subscribers.items():
            heard = [
                subscription
                for subscription in subscriptions
                if not (subscription.options.no_local and reader is session)
            ]
            if heard and not self._offer(reader, published, heard, now_s):
                # Who is there and slow is worth a second try; who is away is not.
                is_taken &= not reader.is_connected
        if not is_taken:
            return _Code.QUOTA_EXCEEDED
        return _Code.SUCCESS if subscribers else _Code.NO_MATCHING_SUBSCRIBERS

    def forget_user(self, username: str) -> None:
        """End the connections of a user and forget its sessions and wills."""
        for session in [s for s in self._sessions.values() if s.username == username]:
            end = self._ends.get(session)
            if end is not None:
                end(Reason.ADMINISTRATIVE_ACTION)
            self._discard(session)

    def close(self) -> None:
        """Stop the timers; nothing is routed after."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def deliver_retained(self, session: Session, subscription: Subscription) -> None:
        """Give a new subscriber what is retained on the topics of its pattern."""
        now_s = asyncio.get_running_loop().time()
        for published in list(self.retained.of(subscription.pattern, now_s)):
            outgoing = Outgoing(
                published=published,
                qos=lower(published.packet.qos, subscription.options.max_qos),
                retain=True,
                identifiers=_identifiers([subscription]),
            )
            session.offer(outgoing, now_s)

    def _offer(
        self,
        reader: Session,
        published: Published,
        heard: list[Subscription],
        now_s: float,
    ) -> bool:
        packet = published.packet
        is_first_drop = not reader.dropped
        outgoing = Outgoing(
            published=published,
            qos=lower(
                packet.qos, reduce(higher, (one.options.max_qos for one in heard))
            ),
            retain=packet.retain and any(o.options.retain_as_published for o in heard),
            identifiers=_identifiers(heard),
        )
        is_taken = reader.offer(outgoing, now_s)
        if not is_taken and is_first_drop:
            log.warning("broker.queue.full", extra={"user": reader.username})
        return is_taken

    def _take_over(self, session: Session) -> None:
        end = self._ends.get(session)
        if end is not None:
            end(Reason.SESSION_TAKEN_OVER)

    def _late_will(self, session: Session) -> None:
        will, session.will = session.will, None
        if will is not None:
            self._send_will(session, will)
            self._let_expire(session, session.expiry_s - will.will_delay_interval)

    def _keep(self, published: Published, session: Session) -> bool:
        limit = session.grant.retained
        return self.retained.keep(published, session.username, most_topics=limit)

    def _send_will(self, session: Session, will: mqtt5.Will) -> None:
        packet = mqtt5.PublishPacket(
            will.topic,
            will.payload or b"",
            qos=will.qos,
            packet_id=1 if will.qos == _QoS.AT_LEAST_ONCE else None,
            retain=will.retain,
            payload_format_indicator=will.payload_format_indicator,
            message_expiry_interval=will.message_expiry_interval,
            content_type=will.content_type,
            response_topic=will.response_topic,
            correlation_data=will.correlation_data,
            user_properties=will.user_properties,
        )
        self.publish(packet, session)

    def _let_expire(self, session: Session, delay_s: float) -> None:
        if delay_s > 0:
            self._set_timer(session, delay_s, self._discard)
        else:
            self._discard(session)

    def _set_timer(
        self, session: Session, delay_s: float, due: Callable[[Session], None]
    ) -> None:
        self._cancel_timer(session)
        loop = asyncio.get_running_loop()
        self._timers[session] = loop.call_later(delay_s, due, session)

    def _cancel_timer(self, session: Session) -> None:
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _discard(self, session: Session) -> None:
        self._cancel_timer(session)
        will, session.will = session.will, None
        if will is not None:
            # Delayed, and its session ends first (section 3.1.3.2.2).
            self._send_will(session, will)
        for pattern in list(session.subscriptions):
            self.subscriptions.remove(session, pattern)
        key = (session.username, session.client_id)
        if self._sessions.get(key) is session:
            del self._sessions[key]
            self._sessions_of[session.username] -= 1
            if not self._sessions_of[session.username]:
                del self._sessions_of[session.username]


def _identifiers(subscriptions: list[Subscription]) -> tuple[int, ...]:
    return tuple(
        subscription.identifier
        for subscription in subscriptions
        if subscription.identifier is not None
    )

"""One client's connection to the broker: what it may say, and when it must end.

Section numbers are those of MQTT 5.0 (OASIS, 2019).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from skerry.comms._mqtt5 import (
    Packet,
    PacketStream,
    ProtocolError,
    Reason,
    lower,
    mqtt5,
)
from skerry.comms.links import Grant, check_pattern
from skerry.comms.router import Router
from skerry.comms.sessions import Session, Subscription
from skerry.core.errors import DataError

log = logging.getLogger(__name__)

Authenticate = Callable[[str, str, bytes], Awaitable[Grant | None]]
"""Takes client id, user name and password; gives what it may do, or None."""

_GOODBYE_S = 2.0
"""How long a closed connection may take to read what is left for it."""

_WRITE_BUFFER_BYTES = 256 << 10
_LONGEST_CLIENT_ID = 128

_Code = mqtt5.PubAckReasonCode
_ConnAck = mqtt5.ConnAckReasonCode
_SubAck = mqtt5.SubAckReasonCode
_QoS = mqtt5.QoS


class Connection(asyncio.Protocol):
    """One client's connection; the broker makes it.

    Args:
        router: Takes the client's messages and keeps its session.
        authenticate: Says who the client is allowed to be.
        admit: Told of the connection at its begin; False turns it away.
        left: Told of it at its end.
    """

    def __init__(
        self,
        router: Router,
        authenticate: Authenticate,
        *,
        admit: Callable[[Connection], bool],
        left: Callable[[Connection], None],
    ) -> None:
        self._router = router
        self._authenticate = authenticate
        self._admit = admit
        self._left = left
        self._loop = asyncio.get_running_loop()
        limits = router.limits
        self._stream = PacketStream(largest_bytes=limits.connect_packet_bytes)
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._grant = Grant(publish=(), subscribe=())
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive_s = 0
        self._heard_at_s = self._loop.time()
        self._can_take = True
        self._is_quiet = False
        self._is_ended = False
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the CONNECT packet."""
        if not isinstance(transport, asyncio.Transport) or not self._admit(self):
            transport.close()
            return
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport = transport
        timeout_s = self._router.limits.connect_timeout_s
        self._timer = self._loop.call_later(timeout_s, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up; the last will is sent if the client did not say goodbye."""
        del exc
        self._is_ended = True
        self._transport = None
        self._leave()
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._left(self)
        self._lost.set()

    def data_received(self, chunk: bytes) -> None:
        """Take what came."""
        if not self._is_ended:
            self._heard_at_s = self._loop.time()
            self._stream.feed(chunk)
            self._work()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._can_take = False
        if self._transport is not None and not self._is_ended:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on, as the client reads again."""
        self._can_take = True
        if self._transport is None or self._is_ended:
            return
        if self._connecting is None:
            self._transport.resume_reading()
        if self._session is not None:
            self._session.resume(self._loop.time())

    def send(self, frame: bytes) -> bool:
        """Write; return whether the client can take more for now."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(frame)
        return self._can_take

    def end(self, reason: Reason) -> None:
        """Close the connection and say why."""
        if self._is_ended:
            return
        self._is_ended = True
        self._is_quiet = reason == Reason.SERVER_SHUTTING_DOWN
        if self._session is not None:
            self.send(mqtt5.DisconnectPacket(reason_code=reason).write())
        else:
            # Before a CONNACK there is no DISCONNECT (section 3.14).
            self._refuse(_refusal_code(reason))
        if reason != Reason.NORMAL_DISCONNECTION:
            user = self._session.username if self._session else ""
            log.info("broker.ended", extra={"why": reason.name, "user": user})
        self._leave()
        self._close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_lost(self) -> None:
        """Return as soon as the connection is gone."""
        await self._lost.wait()

    def _work(self) -> None:
        """Take each packet that is whole, until one needs time."""
        try:
            while not self._is_ended and self._connecting is None:
                packet = self._stream.take()
                if packet is None:
                    return
                self._take(packet)
        except ProtocolError as error:
            log.info("broker.malformed", extra={"why": error.what})
            self.end(error.reason)
        except Exception:
            log.exception("broker.failed")
            self.end(Reason.UNSPECIFIED_ERROR)

    def _take(self, packet: Packet) -> None:
        session = self._session
        if session is None:
            self._take_first(packet)
        elif isinstance(packet, mqtt5.PublishPacket):
            self._take_publish(packet, session)
        elif isinstance(packet, mqtt5.PubAckPacket):
            session.acknowledge(packet.packet_id, self._loop.time())
        elif isinstance(packet, mqtt5.SubscribePacket):
            self._take_subscribe(packet, session)
        elif isinstance(packet, mqtt5.UnsubscribePacket):
            self._take_unsubscribe(packet, session)
        elif isinstance(packet, mqtt5.PingReqPacket):
            self.send(mqtt5.PingRespPacket().write())
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self._take_disconnect(packet, session)
        else:
            self.end(Reason.PROTOCOL_ERROR)

    def _take_first(self, packet: Packet) -> None:
        if not isinstance(packet, mqtt5.ConnectPacket):
            self.abort()
            return
        if self._transport is not None:
            self._transport.pause_reading()
        self._connecting = self._loop.create_task(self._connect(packet))

    async def _connect(self, packet: mqtt5.ConnectPacket) -> None:
        """Find out who it is, and answer (section 3.2)."""
        try:
            refused = await self._check(packet)
        except Exception:
            log.exception("broker.authentication.failed")
            refused = _ConnAck.SERVER_UNAVAILABLE
        if self._is_ended or self._transport is None:
            return
        opened = None
        if refused is None:
            assigned_id = None if packet.client_id else secrets.token_hex(16)
            opened = self._router.open_session(
                packet,
                self._grant,
                client_id=assigned_id or packet.client_id,
                send=self.send,
                end=self.end,
            )
            refused = None if opened else _ConnAck.QUOTA_EXCEEDED
        if opened is None:
            log.info(
                "broker.refused",
                extra={"user": (packet.username or "")[:80], "why": str(refused)},
            )
            self._is_ended = True
            self._refuse(refused or _ConnAck.UNSPECIFIED_ERROR)
            self._close()
            return
        self._session, is_present = opened
        self._welcome(packet, assigned_id, is_present=is_present)

    async def _check(
        self, packet: mqtt5.ConnectPacket
    ) -> mqtt5.ConnAckReasonCode | None:
        """Why the client is refused, or None."""
        if packet.authentication_method is not None:
            return _ConnAck.BAD_AUTHENTICATION_METHOD
        if len(packet.client_id) > _LONGEST_CLIENT_ID:
            return _ConnAck.CLIENT_ID_NOT_VALID
        grant = await self._authenticate(
            packet.client_id, packet.username or "", packet.password or b""
        )
        if grant is None:
            return _ConnAck.BAD_USER_NAME_OR_PASSWORD
        self._grant = grant
        will = packet.will
        if will is None:
            return None
        if will.qos == _QoS.EXACTLY_ONCE:
            return _ConnAck.QUALITY_NOT_SUPPORTED
        return None if grant.may_publish(will.topic) else _ConnAck.NOT_AUTHORIZED

    def _welcome(
        self,
        packet: mqtt5.ConnectPacket,
        assigned_id: str | None,
        *,
        is_present: bool,
    ) -> None:
        limits = self._router.limits
        self._stream.largest_bytes = limits.packet_bytes
        session = self._session
        asked_s = packet.keep_alive
        self._keep_alive_s = min(asked_s or limits.keep_alive_s, limits.keep_alive_s)
        self.send(
            mqtt5.ConnAckPacket(
                session_present=is_present,
                session_expiry_interval=session.expiry_s if session else 0,
                assigned_client_id=assigned_id,
                server_keep_alive=(
                    None if self._keep_alive_s == asked_s else self._keep_alive_s
                ),
                receive_max=limits.receive_max,
                max_qos=_QoS.AT_LEAST_ONCE,
                max_packet_size=limits.packet_bytes,
                shared_subscription_available=False,
            ).write()
        )
        if self._timer is not None:
            self._timer.cancel()
        self._check_keep_alive()
        self._connecting = None
        if self._transport is not None and self._can_take:
            self._transport.resume_reading()
        if session is not None:
            session.pump(self._loop.time())
        self._work()

    def _check_keep_alive(self) -> None:
        """End a connection that was silent for too long (section 3.1.2.10)."""
        due_s = self._heard_at_s + 1.5 * self._keep_alive_s
        if self._loop.time() >= due_s:
            self.end(Reason.KEEP_ALIVE_TIMEOUT)
        else:
            self._timer = self._loop.call_at(due_s, self._check_keep_alive)

    def _take_publish(self, packet: mqtt5.PublishPacket, session: Session) -> None:
        if packet.qos == _QoS.EXACTLY_ONCE:
            self.end(Reason.QOS_NOT_SUPPORTED)
        elif packet.topic_alias is not None:
            self.end(Reason.TOPIC_ALIAS_INVALID)
        elif packet.subscription_ids:
            self.end(Reason.PROTOCOL_ERROR)
        else:
            code = self._router.publish(packet, session)
            if code == _Code.NOT_AUTHORIZED:
                extra = {"user": session.username, "topic": packet.topic[:200]}
                log.warning("broker.publish.refused", extra=extra)
            if packet.packet_id is not None:
                acknowledged = mqtt5.PubAckPacket(packet.packet_id, reason_code=code)
                self.send(acknowledged.write())

    def _take_subscribe(self, packet: mqtt5.SubscribePacket, session: Session) -> None:
        codes, fresh = [], []
        for options in packet.topic_filters:
            code = self._may_subscribe(options.pattern, session)
            if code is None:
                subscription = Subscription(
                    pattern=options.pattern,
                    options=options,
                    identifier=packet.subscription_id,
                )
                is_new = self._router.subscriptions.add(session, subscription)
                if _wants_retained(options, is_new=is_new):
                    fresh.append(subscription)
                code = _SubAck(lower(options.max_qos, _QoS.AT_LEAST_ONCE).value)
            codes.append(code)
        self.send(mqtt5.SubAckPacket(packet.packet_id, codes).write())
        for subscription in fresh:
            self._router.deliver_retained(session, subscription)

    def _may_subscribe(
        self, pattern: str, session: Session
    ) -> mqtt5.SubAckReasonCode | None:
        """Why a subscription is refused, or None."""
        try:
            check_pattern(pattern)
        except DataError:
            return _SubAck.TOPIC_FILTER_INVALID
        if pattern.startswith("$share/"):
            return _SubAck.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if not self._grant.may_subscribe(pattern):
            extra = {"user": session.username, "pattern": pattern[:200]}
            log.warning("broker.subscribe.refused", extra=extra)
            return _SubAck.NOT_AUTHORIZED
        is_new = pattern not in session.subscriptions
        if is_new and len(session.subscriptions) >= self._router.limits.subscriptions:
            return _SubAck.QUOTA_EXCEEDED
        return None

    def _take_unsubscribe(
        self, packet: mqtt5.UnsubscribePacket, session: Session
    ) -> None:
        codes = [
            mqtt5.UnsubAckReasonCode.SUCCESS
            if self._router.subscriptions.remove(session, pattern)
            else mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED
            for pattern in packet.patterns
        ]
        self.send(mqtt5.UnsubAckPacket(packet.packet_id, codes).write())

    def _take_disconnect(
        self, packet: mqtt5.DisconnectPacket, session: Session
    ) -> None:
        self._is_quiet = packet.reason_code == Reason.NORMAL_DISCONNECTION
        if packet.session_expiry_interval is not None and session.expiry_s:
            session.expiry_s = min(
                packet.session_expiry_interval, self._router.limits.session_expiry_s
            )
        self._is_ended = True
        self._leave()
        self._close()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._router.close_session(session, is_quiet=self._is_quiet)

    def _refuse(self, code: mqtt5.ConnAckReasonCode) -> None:
        self.send(mqtt5.ConnAckPacket(reason_code=code).write())

    def _close(self) -> None:
        """Close once the client has read what is left; do not wait for ever."""
        if self._transport is not None:
            self._transport.close()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(_GOODBYE_S, self.abort)


def _wants_retained(options: mqtt5.TopicFilter, *, is_new: bool) -> bool:
    if options.retain_handling == mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS:
        return is_new
    return options.retain_handling == mqtt5.RetainHandling.SEND_ALWAYS


def _refusal_code(reason: Reason) -> mqtt5.ConnAckReasonCode:
    try:
        return _ConnAck(reason.value)
    except ValueError:
        return _ConnAck.UNSPECIFIED_ERROR

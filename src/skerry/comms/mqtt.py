"""A link over MQTT 5.0: QoS 1, and a publish that returns what the broker said of it.

Neither gmqtt 0.8 nor aiomqtt 2.5 gives the reason of a PUBACK, without which a message
that the broker forbids is lost in silence; so the client is written on the codec that
the broker uses (docs/adr/0007). Section numbers are those of MQTT 5.0 (OASIS, 2019).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from skerry.comms._mqtt5 import (
    LARGEST_PACKET_BYTES,
    Packet,
    PacketStream,
    ProtocolError,
    is_failure,
    mqtt5,
)
from skerry.comms.links import (
    Will,
    check_pattern,
    check_payload,
    check_topic,
    topic_matches,
)
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import LinkError, TrustError, UsageError
from skerry.core.seams import Link, Receive

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 20.0
"""How long the broker may take to connect, or to acknowledge."""

FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 30.0
"""Between two attempts to connect: doubled each time, times a random half to one."""

_RECEIVE_MAX = 512
_MOST_ARRIVED = 2 * _RECEIVE_MAX
"""Most messages that wait to be delivered: of this connection and the one before."""

_MOST_PACKET_IDS = 65_535
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """Where a broker is, and who asks.

    Attributes:
        host: The broker's host.
        port: Its port.
        client_id: The client's name, unique among those of its user.
        username: Who it is.
        password: What only it knows.
        keepalive_s: Seconds of silence after which the connection is tested.
        tls_ca: With it the connection is encrypted, and the broker must show a
            certificate that was signed by one in this file (PEM).
        will: What the broker sends when the link breaks without a goodbye.
    """

    host: str
    port: int
    client_id: str
    username: str
    password: str = field(repr=False)
    keepalive_s: int = 30
    tls_ca: Path | None = None
    will: Will | None = None


async def open_mqtt(settings: MqttSettings, *, clock: Clock | None = None) -> Link:
    """Open a link; it connects in the background, and again whenever it breaks.

    Args:
        settings: Where, and who.
        clock: Measures the time between two attempts.

    Raises:
        UsageError: The certificates cannot be read.
    """
    link = MqttLink(settings, clock or SystemClock())
    link.start()
    return link


class MqttLink:
    """A link over MQTT; `open_mqtt` makes it."""

    def __init__(self, settings: MqttSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._tls = _tls_context(settings.tls_ca)
        self._subscriptions: dict[int, _Subscription] = {}
        self._connection: _Connection | None = None
        self._connected = asyncio.Event()
        self._arrived: asyncio.Queue[_Arrival] = asyncio.Queue(_MOST_ARRIVED)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closed = False
        self._why_down = "it has not connected yet"

    def start(self) -> None:
        """Begin to connect."""
        self._tasks = [
            asyncio.create_task(self._run(), name="mqtt link"),
            asyncio.create_task(self._deliver(), name="mqtt delivery"),
        ]

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        """Hand one message to the broker, at least once.

        Raises:
            LinkError: There is no connection, or the broker did not take it in time.
            TrustError: The broker forbids it.
            DataError: The topic is none, or the payload is too large.
        """
        check_topic(topic)
        check_payload(payload)
        connection = self._connection
        if connection is None:
            raise self._down()
        code = await connection.publish(topic, payload, retain=retain)
        if code == mqtt5.PubAckReasonCode.NOT_AUTHORIZED:
            raise TrustError(
                f"the broker forbids {self._settings.username} to publish to {topic}",
                hint="Publish to topics of its own.",
            )
        if is_failure(code):
            raise LinkError(
                f"the broker did not take a message to {topic}: {_words(code.name)}",
                hint="Try again later.",
            )

    async def subscribe(self, pattern: str, receive: Receive) -> None:
        """Have messages given to `receive`, one after the other.

        While there is no connection it returns at once and holds from the next one on.

        Raises:
            TrustError: The broker forbids it.
            DataError: The pattern is none.
        """
        check_pattern(pattern)
        known = [i for i, s in self._subscriptions.items() if s.pattern == pattern]
        number = known[0] if known else len(self._subscriptions) + 1
        subscription = _Subscription(pattern=pattern, receive=receive)
        self._subscriptions[number] = subscription
        connection = self._connection
        if connection is None:
            return
        try:
            code = await connection.subscribe(pattern, number)
        except LinkError:
            return  # it is made with the next connection
        if is_failure(code):
            self._subscriptions[number] = _Subscription(pattern=pattern, receive=None)
            raise TrustError(
                f"the broker forbids {self._settings.username} to subscribe to "
                f"{pattern}: {_words(code.name)}",
                hint="Subscribe to topics of its own.",
            )

    async def wait_connected(self) -> None:
        """Return as soon as the connection stands and the subscriptions hold."""
        await self._connected.wait()

    async def close(self) -> None:
        """Leave, quietly; the last will is not sent."""
        self._is_closed = True
        tasks, self._tasks = self._tasks, []
        if self._connection is not None:
            self._connection.say_goodbye()
        self._connection = None
        self._why_down = "it was closed"
        others = [task for task in tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            began_s = self._clock.wall_s()
            try:
                await self._connect_once()
            except (LinkError, OSError) as error:
                self._why_down = str(error) or type(error).__name__
                log.info("link.down", extra={"why": self._why_down})
            except Exception:
                self._why_down = "it failed"
                log.exception("link.failed")
            if self._clock.wall_s() - began_s > LONGEST_BACKOFF_S:
                backoff_s = FIRST_BACKOFF_S
            # All devices of a fleet lose a broker at once: chance spreads them.
            share = 0.5 + secrets.randbelow(1 << 16) / (2 << 16)
            await self._clock.sleep(backoff_s * share)
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    async def _connect_once(self) -> None:
        """Connect, restore the subscriptions, and stay until it breaks."""
        settings = self._settings
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                settings.host, settings.port, ssl=self._tls, limit=_CHUNK_BYTES
            )
        connection = _Connection(reader, writer, self._arrived)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await connection.greet(settings)
            reading = asyncio.create_task(connection.read())
            try:
                await self._restore(connection)
                self._connection = connection
                self._connected.set()
                log.info("link.up", extra={"host": settings.host})
                await reading
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            self._connected.clear()
            self._connection = None
            await connection.close()

    async def _restore(self, connection: _Connection) -> None:
        for number, subscription in list(self._subscriptions.items()):
            if subscription.receive is None:
                continue
            code = await connection.subscribe(subscription.pattern, number)
            if is_failure(code):
                extra = {"pattern": subscription.pattern, "why": _words(code.name)}
                log.error("link.subscription.refused", extra=extra)

    async def _deliver(self) -> None:
        """Give messages to their receivers, and acknowledge them only then."""
        while not self._is_closed:
            arrival = await self._arrived.get()
            packet = arrival.packet
            for subscription in self._subscribed(packet):
                if subscription.receive is None:
                    continue
                try:
                    await subscription.receive(packet.topic, packet.payload)
                except Exception:
                    log.exception("link.receiver.failed", extra={"topic": packet.topic})
            arrival.connection.acknowledge(packet)

    def _subscribed(self, packet: mqtt5.PublishPacket) -> list[_Subscription]:
        if packet.subscription_ids:
            numbers = dict.fromkeys(packet.subscription_ids)
            return [
                self._subscriptions[number]
                for number in numbers
                if number in self._subscriptions
            ]
        return [
            subscription
            for subscription in self._subscriptions.values()
            if topic_matches(subscription.pattern, packet.topic)
        ]

    def _down(self) -> LinkError:
        settings = self._settings
        return LinkError(
            f"no connection to the broker at {settings.host}:{settings.port}: "
            f"{self._why_down}",
            hint="It is tried again by itself.",
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Subscription:
    pattern: str
    receive: Receive | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Arrival:
    packet: mqtt5.PublishPacket
    connection: _Connection


class _Connection:
    """One connection, from its CONNECT to its end."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        arrived: asyncio.Queue[_Arrival],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._arrived = arrived
        self._stream = PacketStream(largest_bytes=LARGEST_PACKET_BYTES)
        self._waiting: dict[int, asyncio.Future[Packet]] = {}
        self._last_packet_id = 0
        self._window = asyncio.Semaphore(1)
        self._largest_bytes = LARGEST_PACKET_BYTES
        self._keep_alive_s = 0.0
        self._sent_at_s = 0.0
        self._is_over = False

    async def greet(self, settings: MqttSettings) -> None:
        """Say who is there (section 3.1).

        Raises:
            LinkError: The broker refuses.
        """
        will = settings.will
        self._send(
            mqtt5.ConnectPacket(
                settings.client_id,
                username=settings.username,
                password=settings.password.encode(),
                clean_start=True,
                keep_alive=settings.keepalive_s,
                receive_max=_RECEIVE_MAX,
                max_packet_size=LARGEST_PACKET_BYTES,
                will=None
                if will is None
                else mqtt5.Will(
                    will.topic,
                    payload=will.payload,
                    qos=mqtt5.QoS.AT_LEAST_ONCE,
                    retain=will.retain,
                ),
            )
        )
        answer = await self._first_packet()
        if not isinstance(answer, mqtt5.ConnAckPacket):
            raise ProtocolError(f"the broker answered with {type(answer).__name__}")
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise LinkError(
                f"the broker refused {settings.username}: "
                f"{_words(answer.reason_code.name)}",
                hint="Check the credentials; the device may have to enrol again.",
            )
        self._window = asyncio.Semaphore(min(answer.receive_max, _RECEIVE_MAX))
        self._largest_bytes = answer.max_packet_size or LARGEST_PACKET_BYTES
        self._keep_alive_s = answer.server_keep_alive or settings.keepalive_s

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool
    ) -> mqtt5.PubAckReasonCode:
        """Send a message and wait for what the broker says of it.

        Raises:
            LinkError: The connection broke, or the broker did not answer in time.
        """
        # A slot is given back by the answer, not by who waits: it may be cancelled.
        await self._window.acquire()
        if self._is_over:
            self._window.release()  # for the next in line, to learn it too
        packet_id, waiting = self._expect()
        frame = mqtt5.PublishPacket(
            topic,
            payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain=retain,
            packet_id=packet_id,
        )
        self._send(frame)
        answer = await self._answer(waiting)
        if not isinstance(answer, mqtt5.PubAckPacket):
            raise ProtocolError(f"the broker answered with {type(answer).__name__}")
        return answer.reason_code

    async def subscribe(self, pattern: str, number: int) -> mqtt5.SubAckReasonCode:
        """Subscribe to one pattern and wait for what the broker says of it.

        Raises:
            LinkError: The connection broke, or the broker did not answer in time.
        """
        packet_id, waiting = self._expect()
        options = mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        self._send(mqtt5.SubscribePacket(packet_id, [options], subscription_id=number))
        answer = await self._answer(waiting)
        if not isinstance(answer, mqtt5.SubAckPacket) or len(answer.reason_codes) != 1:
            raise ProtocolError(f"the broker answered with {type(answer).__name__}")
        return answer.reason_codes[0]

    def acknowledge(self, packet: mqtt5.PublishPacket) -> None:
        """Tell the broker that a message has been taken."""
        if packet.packet_id is not None and not self._is_over:
            self._send(mqtt5.PubAckPacket(packet.packet_id))

    async def read(self) -> None:
        """Take what the broker sends, and test the connection when it is silent.

        Raises:
            LinkError: The broker closed the connection, is silent, or talks nonsense.
        """
        try:
            await self._read()
        finally:
            self._let_go()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        silences = 0
        for packet in self._packets():
            self._take(packet)
        while True:
            try:
                async with asyncio.timeout(self._keep_alive_s / 2):
                    chunk = await self._reader.read(_CHUNK_BYTES)
            except TimeoutError:
                chunk = None
            if chunk == b"":
                raise LinkError(
                    "the broker closed the connection", hint="It may be back."
                )
            silences = silences + 1 if chunk is None else 0
            if silences > 2:
                raise LinkError("the broker is silent", hint="It may be back.")
            self._stream.feed(chunk or b"")
            for packet in self._packets():
                self._take(packet)
            if silences or loop.time() - self._sent_at_s > self._keep_alive_s / 2:
                self._send(mqtt5.PingReqPacket())

    def say_goodbye(self) -> None:
        """Tell the broker that this is no fault: the last will is dropped."""
        with contextlib.suppress(OSError):
            self._send(mqtt5.DisconnectPacket())

    async def close(self) -> None:
        """Close."""
        self._let_go()
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    def _let_go(self) -> None:
        """Let nobody wait for an answer any more."""
        self._is_over = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_broken())
                waiting.exception()  # it may be that nobody waits
            self._window.release()
        self._waiting.clear()

    async def _first_packet(self) -> Packet:
        while True:
            for packet in self._packets():
                return packet
            chunk = await self._reader.read(_CHUNK_BYTES)
            if not chunk:
                raise LinkError(
                    "the broker closed the connection", hint="It may be back."
                )
            self._stream.feed(chunk)

    def _packets(self) -> Iterator[Packet]:
        while (packet := self._stream.take()) is not None:
            yield packet

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, mqtt5.PublishPacket):
            self._take_publish(packet)
        elif isinstance(packet, mqtt5.PubAckPacket | mqtt5.SubAckPacket):
            waiting = self._waiting.pop(packet.packet_id, None)
            if isinstance(packet, mqtt5.PubAckPacket) and waiting is not None:
                self._window.release()
            if waiting is not None and not waiting.done():
                waiting.set_result(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise LinkError(
                f"the broker closed the connection: {_words(packet.reason_code.name)}",
                hint="It may be back.",
            )
        elif not isinstance(packet, mqtt5.PingRespPacket):
            raise ProtocolError(f"the broker sent {type(packet).__name__}")

    def _take_publish(self, packet: mqtt5.PublishPacket) -> None:
        try:
            self._arrived.put_nowait(_Arrival(packet=packet, connection=self))
        except asyncio.QueueFull as error:
            if packet.packet_id is not None:
                raise ProtocolError(
                    f"the broker sends more than {_RECEIVE_MAX} messages at once"
                ) from error
            # One of QoS 0 is delivered at most once: it may be dropped.

    def _expect(self) -> tuple[int, asyncio.Future[Packet]]:
        if self._is_over:
            raise _broken()
        waiting: asyncio.Future[Packet] = asyncio.get_running_loop().create_future()
        while True:
            self._last_packet_id = self._last_packet_id % _MOST_PACKET_IDS + 1
            if self._last_packet_id not in self._waiting:
                break
        self._waiting[self._last_packet_id] = waiting
        return self._last_packet_id, waiting

    async def _answer(self, waiting: asyncio.Future[Packet]) -> Packet:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await waiting
        except TimeoutError as error:
            raise LinkError(
                f"the broker did not answer within {ANSWER_TIMEOUT_S:g} s",
                hint="Try again later.",
            ) from error

    def _send(self, packet: Packet) -> None:
        self._sent_at_s = asyncio.get_running_loop().time()
        self._writer.write(packet.write())


def _broken() -> LinkError:
    return LinkError(
        "the connection to the broker broke before it answered",
        hint="Send it again: it may or may not have arrived.",
    )


def _closed() -> LinkError:
    return LinkError("the broker closed the connection", hint="It may be back.")


def _tls_context(authority: Path | None) -> ssl.SSLContext | None:
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"cannot read the certificates in {authority}: {error}",
            hint="Give a PEM file of the authority that signed the broker's.",
        ) from error


def _words(name: str) -> str:
    return name.lower().replace("_", " ")

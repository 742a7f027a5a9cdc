"""The link over MQTT against brokers that do not behave."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from skerry.comms import mqtt as mqtt_module
from skerry.comms._mqtt5 import mqtt5
from skerry.comms.broker import Broker
from skerry.comms.links import Grant
from skerry.comms.mqtt import MqttLink, MqttSettings, open_mqtt
from skerry.comms.sessions import Limits
from skerry.core.errors import LinkError, TrustError
from skerry.core.seams import Link
from tests.links import Inbox, run

WELCOME = mqtt5.ConnAckPacket().write()


@asynccontextmanager
async def linked(port: int, *, keepalive_s: int = 30) -> AsyncIterator[Link]:
    """A link to a port of this machine."""
    settings = MqttSettings(
        host="127.0.0.1",
        port=port,
        client_id="a",
        username="a",
        password="p",  # noqa: S106
        keepalive_s=keepalive_s,
    )
    link = await open_mqtt(settings)
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def says(answer: bytes) -> AsyncIterator[tuple[int, list[int]]]:
    """A broker that always says the same; its port, and how often it was called."""
    calls: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(1)
        await reader.read(1000)
        writer.write(answer)
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], calls
    finally:
        server.close()
        await server.wait_closed()


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"\xff" * 50, "more than four bytes"),
        (b"\x20\xff\xff\xff\x7f", "at most 131072"),
        (b"HTTP/1.1 400 Bad Request\r\n" * 9, "malformed|longer|at most"),
        (mqtt5.PingRespPacket().write(), "answered with PingRespPacket"),
        (
            mqtt5.ConnAckPacket(
                reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY
            ).write(),
            "server busy",
        ),
        (WELCOME + mqtt5.PingReqPacket().write(), "sent PingReqPacket"),
        (
            WELCOME
            + mqtt5.DisconnectPacket(
                reason_code=mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN
            ).write(),
            "server shutting down",
        ),
    ],
)
def test_a_broker_that_talks_nonsense_is_tried_again(answer: bytes, why: str) -> None:
    """The link says what was wrong, and goes on trying, ever more slowly."""

    async def case() -> None:
        async with says(answer) as (port, calls), linked(port) as link:
            assert isinstance(link, MqttLink)
            await eventually(lambda: len(calls) >= 2)
            said = ""
            while not re.search(why, said):  # between two tries it may say less
                with pytest.raises(LinkError) as caught:
                    await link.publish("a", b"")
                said = str(caught.value)
                await asyncio.sleep(0.01)

    run(case())


def test_a_silent_broker_is_given_up() -> None:
    """Three halves of the keep-alive without a word, and it connects anew."""

    async def case() -> None:
        async with says(WELCOME) as (port, calls), linked(port, keepalive_s=1) as link:
            await link.wait_connected()
            with pytest.raises(LinkError, match="broke before it answered"):
                await link.publish("a", b"")
            await eventually(lambda: len(calls) >= 2)

    run(case())


def test_a_broker_that_never_acknowledges_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A publish ends with LinkError after a time."""
    monkeypatch.setattr(mqtt_module, "ANSWER_TIMEOUT_S", 0.1)

    async def case() -> None:
        async with says(WELCOME) as (port, _), linked(port) as link:
            await link.wait_connected()
            with pytest.raises(LinkError, match="did not answer within"):
                await link.publish("a", b"")
            inbox = Inbox()
            await link.subscribe("a", inbox.receive)

    run(case())


def on_broker(
    case: Callable[[Broker, Link], Awaitable[None]],
    *,
    grant: Grant,
    limits: Limits | None = None,
) -> None:
    """Run a case on our broker."""

    async def authenticate(*_: object) -> Grant | None:
        return grant

    async def whole() -> None:
        broker = Broker(authenticate, limits=limits)
        await broker.start()
        try:
            async with linked(broker.port) as link:
                await link.wait_connected()
                await case(broker, link)
        finally:
            await broker.stop()

    run(whole())


def test_a_forbidden_subscription_is_refused_and_forgotten() -> None:
    """TrustError; it is not asked for again at the next connection."""

    async def case(broker: Broker, link: Link) -> None:
        inbox = Inbox()
        with pytest.raises(TrustError, match="forbids a to subscribe to theirs"):
            await link.subscribe("theirs", inbox.receive)
        await link.subscribe("mine", inbox.receive)
        await broker.stop()
        await broker.start()
        async with asyncio.timeout(10):
            while not inbox.got:
                await link.wait_connected()
                try:
                    await link.publish("mine", b"x")
                except LinkError:
                    await asyncio.sleep(0.05)

    on_broker(case, grant=Grant(publish=("#",), subscribe=("mine",)))


def test_a_subscription_of_a_pattern_is_made_once() -> None:
    """The later receiver takes the place of the first."""

    async def case(_: Broker, link: Link) -> None:
        first, second = Inbox(), Inbox()
        await link.subscribe("t", first.receive)
        await link.subscribe("t", second.receive)
        await link.publish("t", b"x")
        assert await second.wait(1) == [b"x"]
        assert not first.got

    on_broker(case, grant=Grant(publish=("#",), subscribe=("#",)))


def test_a_broker_without_room_is_a_link_error() -> None:
    """It may have room later."""

    async def case(_: Broker, link: Link) -> None:
        with pytest.raises(LinkError, match="quota exceeded"):
            await link.publish("t", b"x", retain=True)

    limits = Limits(retained_messages=0)
    on_broker(case, grant=Grant(publish=("#",), subscribe=()), limits=limits)


def test_a_receiver_may_close_its_link() -> None:
    """It does not wait for itself."""

    async def case(_: Broker, link: Link) -> None:
        closed = asyncio.Event()

        async def close(topic: str, payload: bytes) -> None:
            del topic, payload
            await link.close()
            closed.set()

        await link.subscribe("t", close)
        with pytest.raises(LinkError):
            await asyncio.gather(link.publish("t", b"x"), _fail_when(closed, link))

    on_broker(case, grant=Grant(publish=("#",), subscribe=("#",)))


async def _fail_when(closed: asyncio.Event, link: Link) -> None:
    async with asyncio.timeout(10):
        await closed.wait()
    await link.publish("t", b"y")


@pytest.mark.parametrize("qos", [0, 1])
def test_a_broker_that_floods_does_not_fill_the_memory(
    qos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What need not arrive is dropped; of what must, no more is taken than agreed."""
    monkeypatch.setattr(mqtt_module, "_MOST_ARRIVED", 3)
    level = {"qos": mqtt5.QoS.AT_LEAST_ONCE, "packet_id": 1} if qos else {}
    flood = mqtt5.PublishPacket("a", b"x", **level).write() * 9

    async def case() -> None:
        held = asyncio.Event()
        got: list[bytes] = []

        async def receive(_: str, payload: bytes) -> None:
            got.append(payload)
            await held.wait()

        async with says(WELCOME + flood) as (port, calls), linked(port) as link:
            assert isinstance(link, MqttLink)
            link._subscriptions[1] = mqtt_module._Subscription(
                pattern="a", receive=receive
            )
            await eventually(lambda: bool(got))
            if qos:
                await eventually(lambda: len(calls) >= 2)
            assert link._arrived.qsize() <= 3
            held.set()

    run(case())

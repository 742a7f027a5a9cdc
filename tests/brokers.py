"""A broker under test, and a client of it that says what no proper client says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from skerry.comms._mqtt5 import Packet, PacketStream, mqtt5
from skerry.comms.broker import Broker
from skerry.comms.links import ALL_GRANTED, Grant
from skerry.comms.sessions import Limits
from tests.links import run

QOS1 = mqtt5.QoS.AT_LEAST_ONCE


class Client:
    """Speaks packets, so that a test can say what no proper client says."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer
        self.stream = PacketStream()

    def send(self, packet: Packet | bytes) -> None:
        self.writer.write(packet if isinstance(packet, bytes) else packet.write())

    async def take(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(5):
            while (packet := self.stream.take()) is None:
                chunk = await self.reader.read(65536)
                assert chunk, f"closed; {kind.__name__} expected"
                self.stream.feed(chunk)
        assert isinstance(packet, kind), packet
        return packet

    async def closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


class Bench:
    """A broker, and clients that are closed at the end."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.clients: list[Client] = []

    async def socket(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.broker.port))
        self.clients.append(client)
        return client

    async def connect(
        self, name: str = "a", *, user: str | None = None, **options: Any
    ) -> Client:
        client, answer = await self.try_connect(name, user=user, **options)
        assert answer.reason_code == mqtt5.ConnAckReasonCode.SUCCESS, answer
        return client

    async def try_connect(
        self, name: str = "a", *, user: str | None = None, **options: Any
    ) -> tuple[Client, mqtt5.ConnAckPacket]:
        client = await self.socket()
        client.send(
            mqtt5.ConnectPacket(name, username=user or name, password=b"p", **options)
        )
        return client, await client.take(mqtt5.ConnAckPacket)


async def subscribe(client: Client, *patterns: str, **options: Any) -> list[Any]:
    """Subscribe with QoS 1 and give the reason codes."""
    options = {"max_qos": QOS1, **options}
    client.send(
        mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(p, **options) for p in patterns])
    )
    codes: list[Any] = (await client.take(mqtt5.SubAckPacket)).reason_codes
    return codes


async def publish(client: Client, topic: str, payload: bytes, **options: Any) -> Any:
    """Publish with QoS 1 and give the reason code."""
    options = {"qos": QOS1, "packet_id": 7, **options}
    client.send(mqtt5.PublishPacket(topic, payload, **options))
    return (await client.take(mqtt5.PubAckPacket)).reason_code


def on_bench(
    case: Callable[[Bench], Awaitable[None]],
    *,
    grant: Grant | None = ALL_GRANTED,
    **limits: Any,
) -> None:
    """Run a case with a broker of these limits."""

    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        async def authenticate(*_: object) -> Grant | None:
            return grant

        made = Bench(Broker(authenticate, limits=replace(Limits(), **limits)))
        await made.broker.start()
        try:
            yield made
        finally:
            for client in made.clients:
                await client.close()
            await made.broker.stop()

    async def whole() -> None:
        async with bench() as made:
            await case(made)

    run(whole())

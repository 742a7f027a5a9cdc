"""A hub on a broker in memory, and the other end of its wire, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from skerry.cloud.deltas import Pack
from skerry.cloud.hub import HUB_USER, Hub, HubSettings
from skerry.cloud.packing import pack as pack_in_child
from skerry.comms.codec import decode, encode
from skerry.comms.memory import MemoryBroker
from skerry.comms.topics import Topic, write_topic
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.messages import Direction, Message

ROOT_SHA256 = "0" * 64
PATIENCE_S = 5.0


class Wire:
    """A device as the hub sees it: what it sends, what it is sent."""

    def __init__(
        self, broker: MemoryBroker, name: str, *, tenant: str = "main"
    ) -> None:
        self.name = name
        self.tenant = tenant
        self.link = broker.link(f"{tenant}/{name}")
        self.got: list[Message] = []

    async def join(self) -> Wire:
        """Subscribe to all that comes down."""
        await self.link.subscribe(
            f"skerry/1/{self.tenant}/{self.name}/down/+", self._receive
        )
        return self

    async def send(
        self,
        kind: str,
        body: Mapping[str, Json],
        *,
        seq: int = 0,
        epoch: str = "e",
        trace: str = "",
    ) -> None:
        """Send a message as a gateway does."""
        message = Message(
            kind=kind,
            device=self.name,
            epoch=epoch if seq else "",
            seq=seq,
            sent_at_ms=1,
            trace=trace,
            body=body,
        )
        await self.send_bytes(kind, encode(message))

    async def send_bytes(self, kind: str, payload: bytes) -> None:
        """Send anything."""
        topic = Topic(
            tenant=self.tenant, device=self.name, direction=Direction.UP, kind=kind
        )
        await self.link.publish(write_topic(topic), payload)

    def bodies(self, kind: str) -> list[Mapping[str, Json]]:
        """What came down of a kind, oldest first."""
        return [message.body for message in self.got if message.kind == kind]

    async def wait_for(self, kind: str, **expected: Json) -> Mapping[str, Json]:
        """Wait for a message with these members in its body."""

        def found() -> list[Mapping[str, Json]]:
            return [
                body
                for body in self.bodies(kind)
                if all(body.get(key) == value for key, value in expected.items())
            ]

        await wait_until(lambda: bool(found()))
        return found()[-1]

    async def _receive(self, _: str, payload: bytes) -> None:
        self.got.append(decode(payload))


@asynccontextmanager
async def running_hub(
    folder: Path,
    *names: str,
    clock: Clock | None = None,
    pack: Pack = pack_in_child,
) -> AsyncIterator[tuple[Hub, MemoryBroker]]:
    """A started hub with devices of these names, and its broker."""
    broker = MemoryBroker()
    settings = HubSettings(folder=folder)
    hub = Hub(settings, clock=clock, link=broker.link(HUB_USER), pack=pack)
    await hub.start()
    try:
        for name in names:
            await hub.devices.create(name, root_sha256=ROOT_SHA256)
        yield hub, broker
    finally:
        await hub.stop()
        await hub.link.close()


async def wait_until(holds: Callable[[], bool]) -> None:
    """Let the event loop go on until something holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "waited in vain"
        await asyncio.sleep(0.002)

"""What every link must do: one suite, run on each kind of link and broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

from skerry.comms.links import Grant, Will
from skerry.comms.mqtt import MqttLink, MqttSettings, open_mqtt
from skerry.comms.topics import device_pattern, fleet_pattern
from skerry.core.errors import DataError, LinkError, TrustError
from skerry.core.messages import LARGEST_MESSAGE_BYTES, Direction
from skerry.core.seams import Link

GRANTS = {
    "hub": Grant(
        publish=(fleet_pattern(Direction.DOWN),),
        subscribe=(fleet_pattern(Direction.UP),),
    )
} | {
    name: Grant(
        publish=(device_pattern("main", name, Direction.UP),),
        subscribe=(device_pattern("main", name, Direction.DOWN),),
    )
    for name in ("a", "b")
}
"""A hub and two devices."""

UP, DOWN = "skerry/1/main/a/up/event", "skerry/1/main/a/down/desired"
ALL_UP = fleet_pattern(Direction.UP)


class World(Protocol):
    """A broker, and links to it."""

    async def link(self, username: str, *, will: Will | None = None) -> Link: ...
    async def cut(self, username: str) -> None: ...
    async def stop(self) -> None: ...
    async def start(self) -> None: ...


Open = Callable[[], AbstractAsyncContextManager[World]]


class Inbox:
    """Receives, and waits for what should come."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._came = asyncio.Event()

    async def receive(self, topic: str, payload: bytes) -> None:
        self.got.append((topic, payload))
        self._came.set()

    async def wait(self, n: int) -> list[bytes]:
        async with asyncio.timeout(15):
            while len(self.got) < n:
                self._came.clear()
                await self._came.wait()
        return [payload for _, payload in self.got]


def run(case: Coroutine[Any, Any, None]) -> None:
    """Run one case; what it leaves running is a fault."""

    async def whole() -> None:
        await case
        await asyncio.sleep(0.01)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(whole())


async def restored(link: Link, publish: Callable[[], Awaitable[None]]) -> None:
    """Publish as soon as the link is back."""
    async with asyncio.timeout(15):
        while True:
            await link.wait_connected()
            try:
                await publish()
            except LinkError:
                await asyncio.sleep(0.05)
            else:
                return


class LinkSuite:
    """The suite; a subclass has a fixture `world` that opens a `World`."""

    def test_messages_arrive_once_and_in_order(self, world: Open) -> None:
        """300 messages handed over at once arrive in the order of the calls."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                await hub.subscribe(ALL_UP, inbox.receive)
                sent = [b"%d" % number for number in range(300)]
                await asyncio.gather(*(device.publish(UP, one) for one in sent))
                assert await inbox.wait(300) == sent
                assert {topic for topic, _ in inbox.got} == {UP}

        run(case())

    def test_a_retained_message_waits_for_who_subscribes_later(
        self, world: Open
    ) -> None:
        """The last one is given; once an empty one was sent there is none."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                for payload in (b"1", b"2"):
                    await hub.publish(DOWN, payload, retain=True)
                await device.subscribe("skerry/1/main/a/down/+", inbox.receive)
                assert await inbox.wait(1) == [b"2"]
                await hub.publish(DOWN, b"", retain=True)
                await inbox.wait(2)
                again, late = await net.link("a"), Inbox()
                await again.subscribe(DOWN, late.receive)
                await hub.publish(DOWN, b"3")
                assert await late.wait(1) == [b"3"]

        run(case())

    def test_the_last_will_is_sent_for_who_breaks_off(self, world: Open) -> None:
        """A cut link's will is sent, and retained; that of a closed link is not."""

        async def case() -> None:
            async with world() as net:
                hub, inbox = await net.link("hub"), Inbox()
                await hub.subscribe(ALL_UP, inbox.receive)
                for name in ("a", "b"):
                    topic = f"skerry/1/main/{name}/up/status"
                    will = Will(topic=topic, payload=b"gone", retain=True)
                    link = await net.link(name, will=will)
                    if name == "a":
                        await link.close()
                await net.cut("b")
                await inbox.wait(1)
                assert inbox.got == [("skerry/1/main/b/up/status", b"gone")]
                second, late = await net.link("hub"), Inbox()
                await second.subscribe(ALL_UP, late.receive)
                assert await late.wait(1) == [b"gone"]

        run(case())

    def test_subscriptions_hold_after_the_broker_restarts(self, world: Open) -> None:
        """Links come back by themselves, subscribed as before."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                await hub.subscribe(ALL_UP, inbox.receive)
                await net.stop()
                await net.start()
                async with asyncio.timeout(15):
                    while not inbox.got:  # the device may be back before the hub
                        await restored(device, lambda: device.publish(UP, b"after"))
                        await asyncio.sleep(0.02)
                assert set(await inbox.wait(1)) == {b"after"}

        run(case())

    def test_publishing_without_a_connection_fails_at_once(self, world: Open) -> None:
        """LinkError says that there is none; a subscription made then still holds."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                await net.stop()
                await asyncio.sleep(0.05)
                began = time.monotonic()
                with pytest.raises(LinkError, match="no connection"):
                    await device.publish(UP, b"lost")
                assert time.monotonic() - began < 0.5
                await hub.subscribe(ALL_UP, inbox.receive)
                await net.start()
                await hub.wait_connected()
                await restored(device, lambda: device.publish(UP, b"found"))
                assert await inbox.wait(1) == [b"found"]

        run(case())

    def test_a_forbidden_publish_is_refused(self, world: Open) -> None:
        """The sender learns it, and the link goes on."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                await hub.subscribe(ALL_UP, inbox.receive)
                for topic in (DOWN, "skerry/1/main/b/up/event", "elsewhere"):
                    with pytest.raises(TrustError, match="publish"):
                        await device.publish(topic, b"x")
                await device.publish(UP, b"mine")
                assert await inbox.wait(1) == [b"mine"]

        run(case())

    def test_a_device_hears_only_what_is_for_it(self, world: Open) -> None:
        """Whatever it subscribes to, nothing of another device's comes."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                for pattern in ("#", "skerry/1/+/+/down/+", "skerry/1/main/b/down/+"):
                    # Mosquitto accepts it and delivers nothing; we refuse it.
                    try:
                        await device.subscribe(pattern, inbox.receive)
                    except TrustError:
                        continue
                await device.subscribe(DOWN, inbox.receive)
                await hub.publish("skerry/1/main/b/down/desired", b"for b")
                await hub.publish(DOWN, b"for a")
                assert set(await inbox.wait(1)) == {b"for a"}

        run(case())

    def test_a_message_has_a_largest_size(self, world: Open) -> None:
        """The largest one arrives; one byte more is refused before it is sent."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                await hub.subscribe(ALL_UP, inbox.receive)
                with pytest.raises(DataError, match="at most 65536"):
                    await device.publish(UP, bytes(LARGEST_MESSAGE_BYTES + 1))
                await device.publish(UP, bytes(LARGEST_MESSAGE_BYTES))
                assert await inbox.wait(1) == [bytes(LARGEST_MESSAGE_BYTES)]

        run(case())

    def test_a_receiver_that_fails_stops_nothing(self, world: Open) -> None:
        """Its fault is logged and the next message is given."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()

                async def fail_once(topic: str, payload: bytes) -> None:
                    await inbox.receive(topic, payload)
                    if payload == b"1":
                        raise RuntimeError(payload)

                await hub.subscribe(ALL_UP, fail_once)
                for payload in (b"1", b"2"):
                    await device.publish(UP, payload)
                assert await inbox.wait(2) == [b"1", b"2"]

        run(case())

    def test_a_receiver_may_answer(self, world: Open) -> None:
        """Publishing from within a receiver waits for nothing that waits for it."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()

                async def answer(topic: str, payload: bytes) -> None:
                    await hub.publish(DOWN, topic.encode() + payload)

                await hub.subscribe(ALL_UP, answer)
                await device.subscribe(DOWN, inbox.receive)
                await device.publish(UP, b"?")
                assert await inbox.wait(1) == [UP.encode() + b"?"]

        run(case())

    @pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0b", "/".join("a" * 40)])
    def test_impossible_topics_are_refused(self, world: Open, topic: str) -> None:
        """A topic that cannot be one is the caller's fault, and nothing breaks."""

        async def case() -> None:
            async with world() as net:
                device = await net.link("a")
                with pytest.raises(DataError):
                    await device.publish(topic, b"")
                with pytest.raises(DataError):
                    await device.subscribe(topic + "/#/x", Inbox().receive)
                await device.publish(UP, b"")

        run(case())


class MqttWorld:
    """Links over MQTT; a subclass has the broker."""

    port: int

    def __init__(self) -> None:
        self.links: list[tuple[str, Link]] = []

    async def stop(self) -> None:
        """Stop the broker."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the broker."""
        raise NotImplementedError

    async def open(
        self, username: str, *, password: str | None = None, will: Will | None = None
    ) -> Link:
        """Open a link that may never connect."""
        settings = MqttSettings(
            host="127.0.0.1",
            port=self.port,
            client_id=f"{username}-{len(self.links)}",
            username=username,
            password=password or f"{username}-password",
            will=will,
        )
        link = await open_mqtt(settings)
        self.links.append((username, link))
        return link

    async def link(self, username: str, *, will: Will | None = None) -> Link:
        """Open a link and wait until it stands."""
        link = await self.open(username, will=will)
        async with asyncio.timeout(15):
            await link.wait_connected()
        return link

    async def cut(self, username: str) -> None:
        """Break the connections of a user."""
        for name, link in self.links:
            if name == username:
                assert isinstance(link, MqttLink)
                assert link._connection is not None
                link._connection._writer.transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MqttWorld]:
        """Start; close every link and stop at the end."""
        await self.start()
        try:
            yield self
        finally:
            for _, link in self.links:
                await link.close()
            await self.stop()


class MqttSuite(LinkSuite):
    """What only a link over MQTT must do."""

    def test_a_wrong_password_never_connects(self, world: Open) -> None:
        """Publishing says why; it is asked for again, but not at once."""

        async def case() -> None:
            async with world() as net:
                assert isinstance(net, MqttWorld)
                link = await net.open("a", password="guessed")  # noqa: S106
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await link.wait_connected()
                with pytest.raises(LinkError, match="refused a: "):
                    await link.publish(UP, b"")

        run(case())

    def test_a_cut_connection_comes_back(self, world: Open) -> None:
        """A publish under way fails with LinkError; later ones arrive."""

        async def case() -> None:
            async with world() as net:
                hub, device, inbox = await net.link("hub"), await net.link("a"), Inbox()
                await hub.subscribe(ALL_UP, inbox.receive)
                await net.cut("a")
                with pytest.raises(LinkError, match="broke before it answered"):
                    await device.publish(UP, b"lost")
                await restored(device, lambda: device.publish(UP, b"found"))
                assert await inbox.wait(1) == [b"found"]

        run(case())

    def test_a_cancelled_publish_frees_its_place(self, world: Open) -> None:
        """Who no longer waits takes no room from those who do."""

        async def case() -> None:
            async with world() as net:
                device = await net.link("a")
                for _ in range(600):
                    publishing = asyncio.ensure_future(device.publish(UP, b"x"))
                    await asyncio.sleep(0)
                    publishing.cancel()
                async with asyncio.timeout(10):
                    await device.publish(UP, b"y")

        run(case())

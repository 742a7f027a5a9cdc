from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skerry.cloud.devices import Credentials
from skerry.cloud.hub import Hub, HubSettings
from skerry.comms.codec import decode, encode
from skerry.comms.links import Will
from skerry.comms.mqtt import MqttSettings, open_mqtt
from skerry.comms.outbox import Outbox
from skerry.comms.uplink import Uplink
from skerry.core.clock import SystemClock
from skerry.core.errors import StateError, TrustError
from skerry.core.messages import Message
from skerry.core.seams import Link
from tests.hubs import ROOT_SHA256, wait_until

pytestmark = pytest.mark.system

UP = "skerry/1/main/gate-1/up"
DOWN = "skerry/1/main/gate-1/down"


@asynccontextmanager
async def _hub(folder: Path) -> AsyncIterator[Hub]:
    hub = Hub(HubSettings(folder=folder))
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


async def _enrol(hub: Hub, name: str = "gate-1") -> Credentials:
    token = await hub.devices.create(name, root_sha256=ROOT_SHA256)
    return await hub.devices.enrol(token)


async def _open(hub: Hub, mine: Credentials, password: str | None = None) -> Link:
    assert hub.mqtt_port
    settings = MqttSettings(
        host="127.0.0.1",
        port=hub.mqtt_port,
        client_id=mine.username,
        username=mine.username,
        password=mine.password if password is None else password,
        will=Will(topic=f"{UP}/status", payload=_status(is_online=False), retain=True),
    )
    return await open_mqtt(settings)


def _status(*, is_online: bool) -> bytes:
    body = {"is_online": is_online}
    return encode(Message(kind="status", device="gate-1", sent_at_ms=1, body=body))


def test_a_broker_that_restarts_loses_nothing(tmp_path: Path) -> None:
    """Link and device come back by themselves, on the same port.

    What was reported while the broker was down arrives, once; what was wanted then
    reaches the device.
    """

    async def main(hub: Hub) -> None:
        mine = await _enrol(hub)
        link = await _open(hub, mine)
        outbox = Outbox(tmp_path / "outbox.sqlite")
        uplink = Uplink(
            outbox, link, tenant="main", device="gate-1", clock=SystemClock()
        )
        wanted: list[object] = []

        async def receive(_: str, payload: bytes) -> None:
            message = decode(payload)
            await uplink.take(message)
            if message.kind == "desired":
                wanted.append(message.body["version"])

        await link.subscribe(f"{DOWN}/+", receive)
        await link.wait_connected()
        await link.publish(f"{UP}/status", _status(is_online=True), retain=True)
        sending = asyncio.create_task(uplink.run())
        await uplink.put("reported", {"patch": {"n": 0}})
        await uplink.flush(10)
        broker = hub._broker
        assert broker
        port = broker.port
        await broker.stop()
        for number in range(1, 50):
            await uplink.put("reported", {"patch": {"n": number}})
        before = await hub.shadows.set_desired("gate-1", {"a": 1})
        await broker.start()
        assert broker.port == port
        await uplink.flush(30)
        shadow = await hub.shadows.get("gate-1")
        assert shadow.reported == {"n": 49}
        assert shadow.version == before.version + 49
        await wait_until(lambda: before.version in wanted or shadow.version in wanted)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await link.close()
        outbox.close()

    async def with_hub() -> None:
        async with _hub(tmp_path / "hub") as hub:
            await main(hub)

    asyncio.run(with_hub())


def test_a_device_keeps_to_its_own_topics(tmp_path: Path) -> None:
    """What is another's it may neither send nor read, and the will says it is gone."""

    async def main() -> None:
        async with _hub(tmp_path) as hub:
            mine = await _enrol(hub)
            await _enrol(hub, "gate-2")
            link = await _open(hub, mine)
            await link.wait_connected()
            for topic in (
                "skerry/1/main/gate-2/up/event",
                f"{DOWN}/desired",
                "skerry/1/other/gate-1/up/event",
            ):
                with pytest.raises(TrustError):
                    await link.publish(topic, b"{}")

            async def receive(_: str, __: bytes) -> None:
                pytest.fail("it got what is not its own")

            for pattern in ("#", "skerry/1/main/+/down/+", f"{UP}/+"):
                with pytest.raises(TrustError):
                    await link.subscribe(pattern, receive)
            await link.publish(f"{UP}/status", _status(is_online=True), retain=True)
            await wait_until(lambda: hub.counts["taken-status"] == 1)
            await hub.devices.create("gate-1", root_sha256=ROOT_SHA256)
            await link.close()

    asyncio.run(main())


def test_revoked_credentials_end_at_once(tmp_path: Path) -> None:
    """Enrolling again closes the open link, and the old password opens none."""

    async def main() -> None:
        async with _hub(tmp_path) as hub:
            old = await _enrol(hub)
            link = await _open(hub, old)
            await link.wait_connected()
            new = await _enrol(hub)
            await wait_until(lambda: not link._connected.is_set())  # type: ignore[attr-defined]
            await link.close()
            for password in (old.password, "", new.api_token):
                refused = await _open(hub, new, password)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(refused.wait_connected(), 0.3)
                await refused.close()
            link = await _open(hub, new)
            await asyncio.wait_for(link.wait_connected(), 5)
            await link.close()

    asyncio.run(main())


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """A second hub on the same port says which, and leaves nothing open."""

    async def main() -> None:
        async with _hub(tmp_path / "a") as hub:
            assert hub.mqtt_port
            second = Hub(HubSettings(folder=tmp_path / "b", mqtt_port=hub.mqtt_port))
            with pytest.raises(StateError, match=str(hub.mqtt_port)):
                await second.start()

    asyncio.run(main())

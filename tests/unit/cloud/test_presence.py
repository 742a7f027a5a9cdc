from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.cloud.clones import Clones
from skerry.cloud.hub import HUB_USER, Hub, HubSettings
from skerry.cloud.why import why
from skerry.comms.codec import encode
from skerry.comms.links import Will
from skerry.comms.memory import MemoryBroker
from skerry.core.errors import LinkError, UsageError
from skerry.core.messages import Message
from tests.hubs import ROOT_SHA256, Wire, running_hub, wait_until


def test_who_is_online(tmp_path: Path) -> None:
    """A status says so, the last will says no; either is a sign of life."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            assert (await hub.devices.get("gate-1")).last_seen_ms is None
            gone = Message(
                kind="status",
                device="gate-1",
                sent_at_ms=1,
                body={"is_online": False},
            )
            topic = "skerry/1/main/gate-1/up/status"
            will = Will(topic=topic, payload=encode(gone), retain=True)
            broker.link("main/gate-1", will=will)
            wire = Wire(broker, "gate-1")
            await wire.send("status", {"is_online": True})
            await wait_until(lambda: hub.counts["taken-status"] == 1)
            device = await hub.devices.get("gate-1")
            assert device.is_online
            assert device.last_seen_ms is not None
            broker.cut("main/gate-1")
            await wait_until(lambda: hub.counts["taken-status"] == 2)
            assert not (await hub.devices.get("gate-1")).is_online

    asyncio.run(main())


def test_nobody_is_online_at_a_start(tmp_path: Path) -> None:
    """What the hub believed before it stopped is not believed after."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            await Wire(broker, "gate-1").send("status", {"is_online": True})
            await wait_until(lambda: hub.counts["taken-status"] == 1)
        link = MemoryBroker().link(HUB_USER)
        hub = Hub(HubSettings(folder=tmp_path), link=link)
        await hub.start()
        assert not (await hub.devices.get("gate-1")).is_online
        await hub.stop()
        await link.close()

    asyncio.run(main())


def test_a_status_without_sense_is_counted(tmp_path: Path) -> None:
    """It changes nothing, and what follows is taken."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = Wire(broker, "gate-1")
            await wire.send("status", {"is_online": "yes"})
            await wait_until(lambda: hub.counts["rejected"] == 1)
            await wire.send("status", {"is_online": True})
            await wait_until(lambda: hub.counts["taken-status"] == 1)
            assert await hub.events.read("gate-1") == ()

    asyncio.run(main())


def test_a_device_answers_a_ping(tmp_path: Path) -> None:
    """The round trip is measured; another device's answer is none."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1", "gate-2") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            asked = asyncio.create_task(hub.ping("gate-1"))
            ping = await wire.wait_for("ping")
            await Wire(broker, "gate-2").send("pong", ping)
            await wire.send("pong", {"id": "another"})
            await asyncio.sleep(0.01)
            assert not asked.done()
            await wire.send("pong", ping)
            assert 10 <= await asked < 5000
            await wire.send("pong", ping)
            await wait_until(lambda: hub.counts["late-pong"] == 3)
            assert hub.counts["pong"] == 1

    asyncio.run(main())


def test_a_device_that_is_silent(tmp_path: Path) -> None:
    """After the time allowed, or without a broker, the ping is a LinkError."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            with pytest.raises(LinkError, match=r"gate-1 did not answer in 0\.01 s"):
                await hub.ping("gate-1", timeout_s=0.01)
            with pytest.raises(UsageError, match="no device 'none'"):
                await hub.ping("none")
            broker.cut(HUB_USER)
            with pytest.raises(LinkError, match="no connection"):
                await hub.ping("gate-1")
            assert hub.presence._asked == {}

    asyncio.run(main())


def test_a_device_is_asked_for_a_profile(tmp_path: Path) -> None:
    """Its answer is handed on as it is; a pong is none."""
    job = {"sha256": "0" * 64, "repeats": 6, "threads": 1}

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            asked = asyncio.create_task(hub.profile("gate-1", job))
            question = await wire.wait_for("profile")
            assert {**job, "id": question["id"]} == question
            await wire.send("pong", {"id": question["id"]})
            await wait_until(lambda: hub.counts["late-pong"] == 1)
            assert not asked.done()
            answer = {"id": question["id"], "profile": {"runtime": "r"}}
            await wire.send("profiled", answer)
            assert await asked == answer
            with pytest.raises(UsageError, match="no device 'none'"):
                await hub.profile("none", job)

    asyncio.run(main())


def test_two_gateways_with_one_identity_are_noticed(tmp_path: Path) -> None:
    """They take turns: the log, the device and `why` say so, until it enrols anew."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = Wire(broker, "gate-1")

            async def hear(boots: str) -> bool:
                before = hub.counts["taken-status"]
                for n, boot in enumerate(boots, start=1):
                    await wire.send("status", {"is_online": True, "boot": boot})
                    await wait_until(
                        lambda n=n: hub.counts["taken-status"] == before + n
                    )
                await wire.send("status", {"is_online": True})
                await wait_until(
                    lambda: hub.counts["taken-status"] > before + len(boots)
                )
                return (await hub.devices.get("gate-1")).cloned_at_ms is not None

            assert not await hear("aabbbccccdefgh")
            assert not await hear("hgh")
            assert await hear("ghgh")
            device, shadow = (
                await hub.devices.get("gate-1"),
                await hub.shadows.get("gate-1"),
            )
            said = why(device, shadow, (), manifests={}, now_ms=hub.clock.unix_ms())
            assert "Two gateways speak as gate-1" in said
            names = [one.name for one in await hub.events.read("gate-1")]
            assert names == ["device.cloned"]
            token = await hub.devices.create("gate-1", root_sha256=ROOT_SHA256)
            await hub.devices.enrol(token)
            assert (await hub.devices.get("gate-1")).cloned_at_ms is None

    asyncio.run(main())


@pytest.mark.parametrize("boot", [None, 7, "", "x" * 65, ["a"], {}])
def test_a_boot_that_is_none_counts_for_nothing(boot: object) -> None:
    """Older gateways send none, and others may send anything."""
    clones = Clones()
    assert not any(clones.hear("d", one) for one in (boot, "a", boot, "a", boot) * 9)

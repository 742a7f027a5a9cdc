from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.cloud.hub import HUB_USER, Hub, HubSettings
from skerry.cloud.ingest import GATHER_S
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import FakeClock
from skerry.core.errors import ConflictError, StateError, StorageError, UsageError
from tests.hubs import Wire, running_hub, wait_until


def test_a_hub_stops_and_starts(tmp_path: Path) -> None:
    """What it knew is there again; nothing runs on after the stop."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1"):
            pass
        async with running_hub(tmp_path) as (hub, _):
            assert [device.name for device in await hub.devices.list()] == ["gate-1"]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_part_that_fails_is_seen(tmp_path: Path) -> None:
    """Who watches the hub gets the error of the part."""

    async def main() -> None:
        async with running_hub(tmp_path) as (hub, _):
            watching = asyncio.create_task(hub.watch())
            await asyncio.sleep(0)
            assert not watching.done()
            hub.ingest._queue.put_nowait((None, 0))  # type: ignore[arg-type]
            with pytest.raises(AttributeError):
                await asyncio.wait_for(watching, 5)

    asyncio.run(main())


def test_a_hub_without_a_link_says_so(tmp_path: Path) -> None:
    """Before its start it has none."""

    async def main() -> None:
        hub = Hub(HubSettings(folder=tmp_path))
        assert hub.mqtt_port is None
        with pytest.raises(StateError, match="no link"):
            _ = hub.link
        await hub.stop()

    asyncio.run(main())


def test_a_bad_tenant_is_refused(tmp_path: Path) -> None:
    """A tenant's name stands in topics."""
    with pytest.raises(UsageError, match="tenant"):
        Hub(HubSettings(folder=tmp_path, tenant="#"))


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """A start that fails leaves nothing open."""

    async def main() -> None:
        (tmp_path / "hub").write_text("a file")
        link = MemoryBroker().link(HUB_USER)
        hub = Hub(HubSettings(folder=tmp_path / "hub"), link=link)
        with pytest.raises(StorageError):
            await hub.start()

    asyncio.run(main())


def test_a_hub_waits_on_its_own_clock(tmp_path: Path) -> None:
    """A simulator that moves the clock moves the hub."""

    async def main() -> None:
        clock = FakeClock()
        async with running_hub(tmp_path, "gate-1", clock=clock) as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send("reported", {"patch": {"a": 1}}, seq=1)
            await wait_until(lambda: clock.next_wake_s() is not None)
            await asyncio.sleep(2 * GATHER_S)
            assert wire.bodies("ack") == []
            clock.advance(wall_s=GATHER_S)
            await wire.wait_for("ack", seq=1)
            stamp = (await hub.shadows.get("gate-1")).reported_stamps["a"]
            assert stamp.at_ms == clock.unix_ms()
            assert (await hub.devices.get("gate-1")).last_seen_ms == clock.unix_ms()

    asyncio.run(main())


def test_two_hubs_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second would run the first one's rollouts once more."""

    async def main() -> None:
        async with running_hub(tmp_path):
            with pytest.raises(ConflictError, match="another hub runs in"):
                async with running_hub(tmp_path):
                    pass
        async with running_hub(tmp_path):
            pass

    asyncio.run(main())

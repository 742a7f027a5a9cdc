from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from skerry.cloud import tables
from skerry.cloud.hub import HUB_USER, Hub, HubSettings
from skerry.comms.memory import MemoryBroker
from skerry.core.errors import ConflictError, DataError, UsageError
from skerry.core.fleet import Shadow
from tests.hubs import Wire, running_hub, wait_until


def test_a_change_reaches_the_device(tmp_path: Path) -> None:
    """It gets the whole desired side and the version, and so does who comes later."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await hub.shadows.set_desired("gate-1", {"a": 1})
            shadow = await hub.shadows.set_desired("gate-1", {"b": {"c": 2}})
            told = await wire.wait_for("desired", version=2)
            assert told["desired"] == {"a": 1, "b": {"c": 2}}
            assert shadow == await hub.shadows.get("gate-1")
            late = await Wire(broker, "gate-1").join()
            assert await late.wait_for("desired", version=2) == told

    asyncio.run(main())


def test_a_report_reaches_the_listeners(tmp_path: Path) -> None:
    """They see the shadow before and after, once committed; no-ops are not told."""
    seen: list[tuple[str, Shadow, Shadow]] = []

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):

            async def listen(device: str, old: Shadow, new: Shadow) -> None:
                assert await hub.shadows.get(device) == new
                seen.append((device, old, new))

            hub.shadows.on_change(listen)
            wire = await Wire(broker, "gate-1").join()
            await wire.send("reported", {"patch": {"a": 1}}, seq=1)
            await wire.wait_for("ack", seq=1)
            await wire.send("reported", {"patch": {"a": 1}}, seq=2)
            await wire.wait_for("ack", seq=2)
            await wait_until(lambda: bool(seen))
            await hub.shadows.set_desired("gate-1", {"b": None})

    asyncio.run(main())
    [(device, old, new)] = seen
    assert (device, old.version, new.version) == ("gate-1", 0, 1)
    assert new.reported == {"a": 1}


def test_a_listener_that_fails_stops_nobody(tmp_path: Path) -> None:
    """The next one is called, and the hub goes on."""
    seen: list[int] = []

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, _):

            async def fail(_: str, __: Shadow, ___: Shadow) -> None:
                raise ZeroDivisionError

            async def listen(_: str, __: Shadow, new: Shadow) -> None:
                seen.append(new.version)

            hub.shadows.on_change(fail)
            hub.shadows.on_change(listen)
            await hub.shadows.set_desired("gate-1", {"a": 1})
            await hub.shadows.set_desired("gate-1", {"a": 2})

    asyncio.run(main())
    assert seen == [1, 2]


def test_a_stale_version_is_refused(tmp_path: Path) -> None:
    """Nothing is changed, told or audited."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, _):
            await hub.shadows.set_desired("gate-1", {"a": 1}, version=0)
            with pytest.raises(ConflictError, match="at version 1"):
                await hub.shadows.set_desired("gate-1", {"a": 2}, version=0)
            assert (await hub.shadows.get("gate-1")).desired == {"a": 1}
            changes = select(tables.audit).where(
                tables.audit.c.what == "shadow.desired"
            )
            rows = await hub.database.run(
                lambda connection: connection.execute(changes).all()
            )
            assert len(rows) == 1

    asyncio.run(main())


def test_a_write_between_read_and_write_is_seen(tmp_path: Path) -> None:
    """Where a database lets two writers in, the later one is refused."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, _):

            def work(connection: Connection) -> None:
                from skerry.cloud import shadows

                old = shadows.read_shadow(connection, "main", "gate-1")
                table = tables.shadows
                connection.execute(update(table).values(version=7))
                new = Shadow(device="gate-1", version=1)
                shadows._write_shadow(connection, old, new)

            with pytest.raises(ConflictError, match="since version 0"):
                await hub.database.run(work)

    asyncio.run(main())


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Changes at the same time all stand, each with a version of its own."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, _):
            await asyncio.gather(
                *(hub.shadows.set_desired("gate-1", {f"k{n}": n}) for n in range(20))
            )
            shadow = await hub.shadows.get("gate-1")
            assert shadow.version == 20
            assert len(shadow.desired) == 20

    asyncio.run(main())


def test_unknown_devices_and_large_sides_are_refused(tmp_path: Path) -> None:
    """Each with its own error."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, _):
            with pytest.raises(UsageError, match="no device 'none'"):
                await hub.shadows.set_desired("none", {"a": 1})
            with pytest.raises(UsageError, match="no device"):
                await hub.shadows.get("none")
            with pytest.raises(DataError, match="at most"):
                await hub.shadows.set_desired("gate-1", {"a": "x" * 40_000})

    asyncio.run(main())


def test_a_report_that_is_too_large_is_rejected(tmp_path: Path) -> None:
    """The device is told why, and its next message is taken."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send("reported", {"patch": {"a": "x" * 40_000}}, seq=1)
            rejected = await wire.wait_for("rejected", seq=1)
            assert "at most 32768 are allowed" in str(rejected["what"])
            await wire.send("reported", {"patch": [1]}, seq=2)
            await wire.wait_for("rejected", seq=2)
            await wire.send("reported", {"patch": {"a": 1}}, seq=3)
            await wire.wait_for("ack", seq=3)
            assert (await hub.shadows.get("gate-1")).reported == {"a": 1}

    asyncio.run(main())


def test_what_was_changed_without_a_link_is_told_later(tmp_path: Path) -> None:
    """The change stands at once; the device hears of it when the link is back."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.wait_for("desired", version=0)
            broker.cut(HUB_USER)
            await hub.shadows.set_desired("gate-1", {"a": 1})
            await hub.shadows.set_desired("gate-1", {"a": 2})
            await asyncio.sleep(0.02)
            assert len(wire.bodies("desired")) == 1
            broker.join(HUB_USER)
            await wire.wait_for("desired", version=2)

    asyncio.run(main())


def test_a_broker_that_forgot_is_told_again(tmp_path: Path) -> None:
    """After a restart that kept nothing, a device that comes online is told."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            await hub.shadows.set_desired("gate-1", {"a": 1})
            broker.stop()
            broker.start()
            wire = await Wire(broker, "gate-1").join()
            assert wire.bodies("desired") == []
            await wire.send("status", {"is_online": True})
            await wire.wait_for("desired", version=1)

    asyncio.run(main())


def test_all_are_told_at_a_start(tmp_path: Path) -> None:
    """A hub that comes up tells each device what it should be."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1", "gate-2") as (hub, _):
            await hub.shadows.set_desired("gate-2", {"a": 1})
        broker = MemoryBroker()
        one = await Wire(broker, "gate-1").join()
        two = await Wire(broker, "gate-2").join()
        hub = Hub(HubSettings(folder=tmp_path), link=broker.link(HUB_USER))
        await hub.start()
        await one.wait_for("desired", version=0)
        await two.wait_for("desired", version=1)
        await hub.stop()

    asyncio.run(main())

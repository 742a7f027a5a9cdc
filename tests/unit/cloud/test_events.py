from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.cloud import events as events_module
from skerry.cloud.events import LARGEST_EVENT_BYTES
from skerry.core.documents import Json
from tests.hubs import Wire, running_hub


def test_a_log_is_read_from_its_end(tmp_path: Path) -> None:
    """The newest lines of the device, oldest first, from a line on if asked."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1", "gate-2") as (hub, broker):
            one = await Wire(broker, "gate-1").join()
            two = await Wire(broker, "gate-2").join()
            for seq in range(1, 6):
                body: dict[str, Json] = {"name": "tick", "at_ms": seq, "n": seq}
                await one.send("event", body, seq=seq, trace="t")
            await two.send("event", {"name": "other", "at_ms": 1}, seq=1)
            await one.wait_for("ack", seq=5)
            await two.wait_for("ack", seq=1)
            lines = await hub.events.read("gate-1", limit=2)
            assert [line.fields for line in lines] == [{"n": 4}, {"n": 5}]
            line = lines[-1]
            assert (line.device, line.name, line.at_ms) == ("gate-1", "tick", 5)
            assert line.trace == "t"
            assert line.received_at_ms > 1_700_000_000_000
            assert await hub.events.read("gate-1", after=lines[0].id) == lines[1:]
            assert len(await hub.events.read("gate-2")) == 1

    asyncio.run(main())


def test_the_oldest_lines_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device keeps its own newest lines."""
    monkeypatch.setattr(events_module, "KEPT_EVENTS", 3)

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1", "gate-2") as (hub, broker):
            one = await Wire(broker, "gate-1").join()
            two = await Wire(broker, "gate-2").join()
            await two.send("event", {"name": "first", "at_ms": 1}, seq=1)
            for seq in range(1, 8):
                await one.send("event", {"name": f"n{seq}", "at_ms": seq}, seq=seq)
            await one.wait_for("ack", seq=7)
            await two.wait_for("ack", seq=1)
            names = [line.name for line in await hub.events.read("gate-1")]
            assert names == ["n5", "n6", "n7"]
            assert len(await hub.events.read("gate-2")) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "", "at_ms": 1},
        {"name": "x" * 65, "at_ms": 1},
        {"name": "a", "at_ms": -1},
        {"name": "a", "at_ms": True},
        {"name": "a", "at_ms": 1 << 70},
        {"name": "a", "at_ms": 1.5},
        {"name": ["a"], "at_ms": 1},
        {"name": "a", "at_ms": 1, "x": "é" * (LARGEST_EVENT_BYTES // 2)},
    ],
)
def test_a_bad_event_is_rejected(tmp_path: Path, body: dict[str, Json]) -> None:
    """The device is told why, the log says so, and its queue goes on."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send("event", body, seq=1)
            rejected = await wire.wait_for("rejected", seq=1)
            assert rejected["code"] == "DataError"
            assert "event" in str(rejected["what"])
            await wire.wait_for("ack", seq=1)
            lines = await hub.events.read("gate-1")
            assert [line.name for line in lines] == ["message.rejected"]
            assert lines[0].fields["seq"] == 1

    asyncio.run(main())

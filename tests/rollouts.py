"""A hub in the midst of rollouts, and devices that say what they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from skerry.cloud import tables
from skerry.cloud.hub import Hub
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import FakeClock
from skerry.core.fleet import Outcome, Rollout, RolloutState
from skerry.core.release import ReleaseId
from tests.hubs import Wire, running_hub
from tests.publishing import make_bundle, make_publisher, publish

DEVICES = ("gw-1", "gw-2", "gw-3")
FIRST, SECOND = ReleaseId(name="meter", version=1), ReleaseId(name="meter", version=2)


class RolloutFleet:
    """A hub with two releases, and three devices that say what they are told."""

    def __init__(self, hub: Hub, broker: MemoryBroker, clock: FakeClock) -> None:
        self.hub = hub
        self.clock = clock
        self._wires = {name: Wire(broker, name) for name in DEVICES}
        self._epoch = f"{id(self)}"
        self._seqs = dict.fromkeys(DEVICES, 0)

    async def report(self, device: str, patch: dict[str, Any]) -> None:
        """Let a device report, and wait until the hub has taken it."""
        self._seqs[device] += 1
        await self._wires[device].send(
            "reported", {"patch": patch}, seq=self._seqs[device], epoch=self._epoch
        )
        self.clock.advance(wall_s=0.1)
        wanted = msgspec.to_builtins(patch)

        async def is_taken() -> bool:
            shadow = await self.hub.shadows.get(device)
            return all(shadow.reported.get(key) == wanted[key] for key in wanted)

        await self.until(is_taken)

    async def runs(self, device: str, version: int) -> None:
        """Let a device say that it runs a version."""
        entry = {"version": version, "probation": False}
        await self.report(device, {"releases": {"meter": entry}})

    async def serves(self, device: str, version: int, *, failed: int) -> None:
        """Let a device say that it runs a version, and how that has served."""
        served = {"version": version, "requests": 100, "failed": failed}
        entry = {"version": version, "probation": False}
        both = {"serving": {"meter": served}, "releases": {"meter": entry}}
        await self.report(device, both)

    async def online(self, device: str) -> None:
        """Let a device say that it is there, and wait until the hub knows."""
        await self._wires[device].send("status", {"is_online": True})

        async def is_known() -> bool:
            return (await self.hub.devices.get(device)).is_online

        await self.until(is_known)

    async def refuses(self, device: str, rollout: str) -> None:
        """Let a device refuse version 2."""
        refusal = {"release": "meter/2", "reason": "latency", "what": "slow"}
        await self.report(
            device, {"refused": {"meter": refusal | {"rollout": rollout}}}
        )

    async def wanted(self) -> dict[str, Any]:
        """Which version each device should run, and by which rollout."""
        found = {}
        for shadow in await self.hub.shadows.list():
            releases: Any = shadow.desired.get("releases", {})
            entry = releases.get("meter", {})
            found[shadow.device] = (entry.get("version"), entry.get("rollout"))
        return found

    async def state(self, rollout: str, state: RolloutState) -> Rollout:
        """Wait until a rollout is in a state."""

        async def is_so() -> bool:
            self.clock.advance(wall_s=1)
            return (await self.hub.rollouts.get(rollout)).state is state

        await self.until(is_so)
        return await self.hub.rollouts.get(rollout)

    async def outcome(self, rollout: str, device: str, outcome: Outcome) -> None:
        """Wait until a device of a rollout is in a state."""

        async def is_so() -> bool:
            self.clock.advance(wall_s=0.1)
            found = await self.hub.rollouts.get(rollout)
            one = found.progress.get(device)
            return one is not None and one.outcome is outcome

        await self.until(is_so)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Let the hub go on until something holds."""
        for _ in range(500):
            if await holds():
                return
            await asyncio.sleep(0.002)
            self.clock.advance(wall_s=0.01)
        raise AssertionError("waited in vain")

    async def audit(self) -> list[str]:
        """What was changed, and by whom."""
        query = select(tables.audit.c.who, tables.audit.c.what)
        rows = await self.hub.database.run(
            lambda connection: connection.execute(query).all()
        )
        return [f"{who} {what}" for who, what in rows]


def on_fleet(folder: Path, case: Callable[[RolloutFleet], Awaitable[None]]) -> None:
    """Run a case on a fleet; on the same folder again, on what the hub has kept."""

    async def run() -> None:
        clock = FakeClock()
        names = () if (folder / "hub").exists() else DEVICES
        async with running_hub(folder / "hub", *names, clock=clock) as (hub, broker):
            if names:
                publisher = make_publisher(folder, hub)
                await publish(hub, make_bundle(publisher, 1))
                await publish(hub, make_bundle(publisher, 2))
            await case(RolloutFleet(hub, broker, clock))

    asyncio.run(run())

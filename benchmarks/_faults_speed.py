"""How many devices one hub takes through a rollout in a minute.

The devices are light: they read what is desired and report that they run it, through
their sequenced outbox protocol, over a broker in memory. The hub is the real one, on
SQLite on the disk, with the real clock.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from sqlalchemy import insert

from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured, Row
from skerry.app.publish.publisher import Publisher
from skerry.app.simulate.gain import GainModel, make_gain_release
from skerry.cloud import tables
from skerry.cloud.hub import HUB_USER, Hub, HubSettings
from skerry.cloud.rollouts import Plan as RolloutPlan
from skerry.cloud.shadows import add_shadow
from skerry.comms.codec import decode, encode
from skerry.comms.memory import MemoryBroker
from skerry.comms.topics import Topic, write_topic
from skerry.core.fleet import DEFAULT_TENANT, Gate, RolloutState, Wave
from skerry.core.messages import Direction, Down, Message, Up
from skerry.core.release import ReleaseId

NAME = "meter"
LIMIT_S = 300.0
SAMPLE_S = 0.005
ROOMS = {
    "/sqlalchemy/": "SQLAlchemy and SQLite",
    "/skerry/cloud/": "the hub",
    "/skerry/evolve/": "the rollout machine",
    "/skerry/core/": "documents, read and written",
    "/skerry/comms/": "the broker and the codec",
    "/benchmarks/": "the devices",
}
"""Whose time it is, by a part of the name of the innermost file that has one."""

IDLE = ("selectors.py", "threading.py", "concurrent/futures/thread.py")


class Sampler:
    """Looks now and then where each thread is.

    Attributes:
        seen: How often it was found where.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        own = threading.get_ident()
        while not self._stopped.wait(SAMPLE_S):
            for thread, frame in sys._current_frames().items():  # noqa: SLF001
                if thread != own and not frame.f_code.co_filename.endswith(IDLE):
                    self.seen[_room(frame)] += 1


def _room(frame: FrameType | None) -> str:
    while frame is not None:
        file = frame.f_code.co_filename
        room = next((who for part, who in ROOMS.items() if part in file), "")
        if room:
            return room
        frame = frame.f_back
    return "the rest"


class LightDevice:
    """Runs what it is told to run, at once.

    Args:
        broker: Carries its messages.
        name: Its name.
    """

    def __init__(self, broker: MemoryBroker, name: str) -> None:
        self._name = name
        self._link = broker.link(f"{DEFAULT_TENANT}/{name}")
        self._seq = 0
        self._runs: dict[str, Any] = {}

    async def join(self) -> None:
        """Hear what is desired."""
        pattern = f"skerry/1/{DEFAULT_TENANT}/{self._name}/{Direction.DOWN}/+"
        await self._link.subscribe(pattern, self._take)

    async def leave(self) -> None:
        """Go."""
        await self._link.close()

    async def _take(self, _: str, payload: bytes) -> None:
        message = decode(payload)
        if message.kind != Down.DESIRED:
            return
        desired: Any = message.body["desired"]
        for name, wanted in (desired.get("releases") or {}).items():
            if self._runs.get(name) == wanted["version"]:
                continue
            self._runs[name] = wanted["version"]
            phases = ("downloading", "probation")
            for phase in phases:
                update = {"version": wanted["version"], "phase": phase}
                await self._report({"update": {name: update}})
            runs = {"version": wanted["version"], "probation": False}
            await self._report({"releases": {name: runs}, "update": {name: None}})

    async def _report(self, patch: Mapping[str, Any]) -> None:
        self._seq += 1
        topic = Topic(
            tenant=DEFAULT_TENANT,
            device=self._name,
            direction=Direction.UP,
            kind=Up.REPORTED,
        )
        message = Message(
            kind=Up.REPORTED,
            device=self._name,
            epoch="e",
            seq=self._seq,
            sent_at_ms=1,
            body={"patch": patch},
        )
        await self._link.publish(write_topic(topic), encode(message))


def measure_speed(plan: Plan) -> Found:
    """Rollouts to ever more devices; the bar is that of the largest fleet."""
    sizes = (100, 300) if plan.quick else (250, 500, 1000, 2000, 4000)
    rows: list[Row] = []
    per_min = {}
    for devices in sizes:
        with tempfile.TemporaryDirectory(dir=plan.work) as folder, Sampler() as sampler:
            wall_s, cpu_s = asyncio.run(_roll_out(Path(folder), devices))
        per_min[devices] = 60 * devices / wall_s
        tell(f"{devices} devices in {wall_s:.1f} s, {cpu_s:.1f} s of CPU")
        rows.append(
            row(
                f"a rollout to {devices} devices, 3 waves",
                "skerry",
                figure=per_min[devices],
                unit="devices a minute",
                n=devices,
                note=f"{wall_s:.1f} s, {1000 * cpu_s / devices:.1f} ms of CPU each",
            )
        )
    rows += [
        row(
            f"where its time goes, {sizes[-1]} devices",
            room,
            figure=100 * count / sampler.seen.total(),
            unit="%",
            n=count,
        )
        for room, count in sampler.seen.most_common()
    ]
    measured = Measured(
        id="update.devices_per_min", figure=per_min[sizes[-1]], n=sizes[-1]
    )
    series = {"devices": [float(n) for n in sizes], "per min": list(per_min.values())}
    return Found(rows=rows, measured=[measured], series=series)


async def _roll_out(folder: Path, count: int) -> tuple[float, float]:
    """Deliver one release to a fleet: seconds of wall and of CPU."""
    broker = MemoryBroker()
    hub = Hub(HubSettings(folder=folder / "hub"), link=broker.link(HUB_USER))
    await hub.start()
    names = [f"light-{number:05}" for number in range(count)]
    devices = [LightDevice(broker, name) for name in names]
    try:
        key = hub.releases.online_key
        publisher = Publisher.create(folder / "publisher", hub_key=key)
        await hub.releases.trust(publisher.metadata())
        bundle = publisher.release(*make_gain_release(NAME, 1, GainModel()))
        for sha256, content in bundle.blobs.items():
            await hub.blobs.put(sha256, content)
        await hub.releases.publish(bundle.metadata, [bundle.manifest_sha256])
        await hub.database.run(lambda connection: _add(connection, names))
        for device in devices:
            await device.join()
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        await _deliver(hub, names)
        wall_s = time.perf_counter() - began_s
        return wall_s, time.process_time() - began_cpu_s
    finally:
        for device in devices:
            await device.leave()
        await hub.stop()
        await hub.link.close()


async def _deliver(hub: Hub, names: Sequence[str]) -> None:
    ends = (len(names) // 50, len(names) // 5, len(names))
    waves = [
        Wave(devices=tuple(names[start:end]))
        for start, end in zip((0, *ends[:-1]), ends, strict=True)
    ]
    release = ReleaseId(name=NAME, version=1)
    gate = Gate(timeout_s=LIMIT_S)
    plan = RolloutPlan(release=release, waves=waves, gate=gate)
    rollout = await hub.rollouts.create(plan)
    async with asyncio.timeout(LIMIT_S):
        while rollout.state.is_under_way:
            await asyncio.sleep(0.2)
            rollout = await hub.rollouts.get(rollout.id)
    if rollout.state is not RolloutState.SUCCEEDED:
        raise RuntimeError(f"the rollout {rollout.state.value}: {rollout.reason}")


def _add(connection: Any, names: Sequence[str]) -> None:
    """Enrol devices without a password hash each: that is not what is measured."""
    for name in names:
        connection.execute(
            insert(tables.devices).values(
                tenant=DEFAULT_TENANT,
                name=name,
                labels="{}",
                created_at_ms=1,
                enrolled_at_ms=1,
                is_online=True,
            )
        )
        add_shadow(connection, DEFAULT_TENANT, name)

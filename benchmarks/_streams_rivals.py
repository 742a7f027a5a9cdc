"""What others do: a queue of pictures, first in, first out, before the same models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from enum import StrEnum

from benchmarks._streams_stage import Noted, cameras_of, opened_engine
from skerry.core.clock import SystemClock
from skerry.core.video import Attention, Shot
from skerry.edge.streams.looking import Looker
from skerry.edge.streams.settings import CamerasSettings
from skerry.edge.streams.watched import Watched
from skerry.edge.turns import usable_cpus


class Rival(StrEnum):
    """Which pictures wait in the queue."""

    FIFO = "a FIFO queue of all pictures"
    MOTION = "a shared queue of moving pictures"


async def run_rival(settings: CamerasSettings, rival: Rival) -> list[float]:
    """Run cameras before a queue until they have ended.

    Returns:
        Capture to answer, ms, of what was answered until then.
    """
    clock = SystemClock()
    cameras = cameras_of(settings, clock)
    waiting: asyncio.Queue[tuple[Watched, Shot]] = asyncio.Queue()
    latencies: list[float] = []
    async with opened_engine(settings, clock) as (engine, eyes):
        looker = Looker(engine, eyes, clock=clock, deadline_s=60.0)
        watched = {
            entry.name: Watched(
                entry, cameras[entry.name], sure=0.5, clip_s=0, bytes_per_day=0
            )
            for entry in settings.cameras
        }

        async def work() -> None:
            while True:
                one, shot = await waiting.get()
                await looker.look(one, shot, eyes.names)
                latencies.append((clock.wall_s() - shot.captured_s) * 1000)

        workers = [asyncio.create_task(work()) for _ in range(usable_cpus())]
        await asyncio.gather(
            *(_fill(one, cameras, rival, waiting) for one in watched.values())
        )
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return latencies


async def _fill(
    watched: Watched,
    cameras: Mapping[str, Noted],
    rival: Rival,
    waiting: asyncio.Queue[tuple[Watched, Shot]],
) -> None:
    camera = cameras[watched.name]
    async with contextlib.aclosing(camera.shots()) as shots:
        async for shot in shots:
            activity = watched.take(shot)
            camera.attend(Attention.FULL)  # there, each picture is decoded
            if rival is Rival.FIFO or activity.is_moving:
                waiting.put_nowait((watched, shot))

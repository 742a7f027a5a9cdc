"""One camera of three is bad; the others' latency is what it is without it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import DataError
from skerry.core.seams import Tensors
from skerry.core.video import CameraHealth, Picture, Shot
from skerry.edge.streams.figures import StreamFigures
from skerry.edge.streams.runner import Outlets, Streams
from skerry.edge.streams.settings import CameraEntry, CamerasSettings, ModelSettings
from tests.unit.edge.streams.test_runner import BlockEngine, BlockEyes, Box
from tests.videos import HandCamera, scene, shot_of, walk

STEP_S = 0.02
EACH = 10
SECONDS = 4.0
COST_S = 0.02

Bad = Callable[["Hurt", int], None]


class Hurt(HandCamera):
    """A camera that a test may also hand what no camera should give."""

    def __init__(self, name: str, clock: FakeClock) -> None:
        super().__init__(name, clock)
        self.clock = clock
        self.pictures: Iterator[Picture] = walk(9999, step_px=0)
        self.error: Exception | None = None

    @property
    def health(self) -> CameraHealth:
        return replace(super().health, reason="")

    def lie(self, at_s: float) -> None:
        """Give a picture of any time."""
        shot = shot_of(next(self.pictures), at_s=at_s, number=self._given)
        self._given += 1
        self._queue.put_nowait(replace(shot, camera=self.name))

    def damage(self) -> None:
        """Give a picture that cannot be converted."""

        def fail(*_: int) -> Picture:
            raise DataError("it is damaged", hint="")

        shot = shot_of(
            next(self.pictures), at_s=self.clock.wall_s(), number=self._given
        )
        self._given += 1
        self._queue.put_nowait(
            replace(shot, camera=self.name, to_rgb=fail, to_size=fail)
        )

    async def shots(self) -> AsyncIterator[Shot]:
        async for shot in super().shots():
            if self.error is not None:
                raise self.error
            yield shot


class SlowEngine(BlockEngine):
    """One whose inferences take time, on the test's clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    async def infer(self, name: str, inputs: Tensors, **options: Any) -> Any:
        await self._clock.sleep(COST_S)
        answer = await super().infer(name, inputs, **options)
        answer.latency_ms = COST_S * 1000
        return answer


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came out: figures, and events."""

    figures: StreamFigures
    events: Box

    def p99_ms(self, name: str) -> float:
        """Of a camera, capture to answer."""
        (found,) = (one for one in self.figures.cameras if one.name == name)
        assert found.latency_ms["p99"] is not None
        return found.latency_ms["p99"]


async def watch(bad: Bad | None) -> Told:
    """Watch two good cameras and a third for a while."""
    clock = FakeClock()
    cameras = {name: Hurt(name, clock) for name in ("a", "b", "bad")}
    entries = tuple(CameraEntry(name=name, url=name) for name in cameras)
    models = dict.fromkeys(("people", "faces"), ModelSettings())
    box = Box()
    streams = Streams(
        CamerasSettings(models=models, cameras=entries, clip_s=0),
        cameras,
        SlowEngine(clock),  # type: ignore[arg-type]
        BlockEyes(),  # type: ignore[arg-type]
        clock=clock,
        cpus=2,
        outlets=Outlets(put=box.put),
    )
    running = asyncio.create_task(streams.run())
    good = {"a": walk(20), "b": walk(20)}
    for step in range(round(SECONDS / STEP_S)):
        if step % EACH == 0:
            for place, pictures in enumerate(good.values()):
                cameras["ab"[place]].give(next(pictures, scene()))
        if bad is not None:
            bad(cameras["bad"], step)
        for _ in range(12):
            await asyncio.sleep(0)
        clock.advance(wall_s=STEP_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return Told(figures=streams.figures(), events=box)


def flood(camera: Hurt, _: int) -> None:
    """Two pictures where others give a tenth of one."""
    for _ in range(2):
        camera.give(next(camera.pictures))


def change_size(camera: Hurt, step: int) -> None:
    """Another size each time, some of them absurd."""
    if step % EACH == 0:
        rows, columns = [(180, 320), (90, 160), (24, 32), (3, 2)][step // EACH % 4]
        camera.give(scene(rows=rows, columns=columns))


def stall(camera: Hurt, step: int) -> None:
    """A little, and then nothing."""
    if step < 30 and step % EACH == 0:
        camera.give(next(camera.pictures))


def lie_of_the_past(camera: Hurt, step: int) -> None:
    """Pictures of a quarter of an hour ago."""
    if step % EACH == 0:
        camera.lie(camera.clock.wall_s() - 1000.0)


def lie_of_the_future(camera: Hurt, step: int) -> None:
    """Pictures that nobody can have taken yet."""
    if step % EACH == 0:
        camera.lie(camera.clock.wall_s() + 1000.0)


def send_garbage(camera: Hurt, step: int) -> None:
    """Pictures that cannot be converted."""
    if step % EACH == 0:
        camera.damage()


def fail_as_ours(camera: Hurt, step: int) -> None:
    """An error of our tree with each picture."""
    camera.error = DataError("it is none", hint="")
    flood(camera, step)


def fail_as_nobody_foresaw(camera: Hurt, step: int) -> None:
    """A fault of ours with each picture."""
    camera.error = ZeroDivisionError("what is this?")
    flood(camera, step)


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes to a thread is done on the spot: the order is always the same."""

    async def run(call: Callable[..., Any], *given: Any) -> Any:
        return call(*given)

    monkeypatch.setattr(asyncio, "to_thread", run)


@functools.cache
def _alone() -> Told:
    return asyncio.run(watch(None))


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (flood, ""),
        (change_size, ""),
        (stall, ""),
        (lie_of_the_past, ""),
        (lie_of_the_future, ""),
        (send_garbage, "it is damaged"),
        (fail_as_ours, "it is none"),
        (fail_as_nobody_foresaw, "it failed: ZeroDivisionError"),
    ],
)
def test_nobody_else_notices(bad: Bad, reason: str) -> None:
    """Neither their latency nor their events are others than without it."""
    alone, beside = _alone(), asyncio.run(watch(bad))
    for name in ("a", "b"):
        assert beside.p99_ms(name) <= 1.1 * alone.p99_ms(name) + 1
        told = [
            [body["name"] for body in one.events.bodies if body["camera"] == name]
            for one in (alone, beside)
        ]
        assert told[0] == told[1] != []
    hurt = beside.figures.cameras[2]
    assert reason in hurt.reason
    assert all(not one.reason for one in beside.figures.cameras[:2])

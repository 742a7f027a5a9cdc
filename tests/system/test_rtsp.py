"""Cameras over RTSP: FFmpeg's client against a camera of our own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

import pytest

from skerry.core.clock import SystemClock
from skerry.core.video import CameraHealth, CameraState, Shot
from skerry.device.cameras import CameraSettings, VideoCamera
from tests import rtsp
from tests.videos import COLUMNS, ROWS, scene, walk

pytestmark = pytest.mark.system

MAIN = rtsp.encode([scene(rows=360, columns=640)] * 5)
SUB = rtsp.encode(list(walk(10)))


@dataclass(kw_only=True)
class Seen:
    """What came of a camera.

    Attributes:
        shots: Its pictures.
        ages_s: How old each was when it was given.
        health: How the camera did in the end.
    """

    shots: list[Shot] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    health: CameraHealth = field(default_factory=CameraHealth)


def watch(stage: rtsp.Stage, path: str, *, count: int, sub: str = "") -> Seen:
    """Watch a camera for so many pictures; for none: until there is a reason why.

    The address is the one that a user writes, with the password in it.
    """
    seen, clock = Seen(), SystemClock()

    async def main(address: str) -> None:
        base = f"rtsp://admin:s3cret@{address}"
        settings = CameraSettings(
            name="gate",
            url=base + path,
            sub_url=base + sub if sub else "",
            frames_per_s=50,
            timeout_s=3,
        )
        camera = VideoCamera(settings, clock=clock)

        async def take() -> None:
            async with contextlib.aclosing(camera.shots()) as shots:
                async for shot in shots:
                    seen.shots.append(shot)
                    seen.ages_s.append(clock.wall_s() - shot.captured_s)

        taking = asyncio.create_task(take())
        async with asyncio.timeout(30):
            while len(seen.shots) < count or not (count or camera.health.reason):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        seen.health = camera.health
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)

    with rtsp.serve(stage) as address:
        asyncio.run(main(address))
    return seen


def test_the_sub_stream_is_taken_and_opened_again_when_it_breaks(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its password, which is in no message."""
    stage = rtsp.Stage(
        units={"/main": MAIN, "/sub": SUB}, breaks_after=4, asks_password=True
    )
    with caplog.at_level(logging.DEBUG):
        seen = watch(stage, "/main", count=9, sub="/sub")
    assert {shot.luma.shape for shot in seen.shots} == {(ROWS, COLUMNS)}
    assert seen.health.state is CameraState.LIVE
    assert seen.health.reconnects == 1
    assert {url.rpartition("/")[2] for url in stage.asked} == {"sub", "track"}
    said = [seen.health.reason, *(str(vars(one)) for one in caplog.records)]
    assert any("has ended" in text for text in said)
    assert not any("s3cret" in text for text in (*said, *capfd.readouterr()))
    times = [shot.captured_s for shot in seen.shots]
    assert times == sorted(times)


def test_pictures_in_fragments_come_whole_and_soon() -> None:
    """Large ones are sent in many packets; none waits for the picture after it."""
    stage = rtsp.Stage(units={"/main": MAIN}, frames_per_s=25)
    seen = watch(stage, "/main", count=5)
    assert max(len(unit) for unit in MAIN[0]) > rtsp.LARGEST_PAYLOAD_BYTES
    assert {shot.luma.shape for shot in seen.shots} == {(360, 640)}
    assert (seen.health.bad, seen.health.reason) == (0, "")
    assert min(seen.ages_s) < 0.03


@pytest.mark.parametrize(
    ("path", "secret", "says"), [("/none", "s3cret", "404"), ("/main", "other", "401")]
)
def test_a_camera_that_refuses_is_a_reason(path: str, secret: str, says: str) -> None:
    """A wrong path, and a wrong password."""
    stage = rtsp.Stage(units={"/main": MAIN}, asks_password=True, secret=secret)
    seen = watch(stage, path, count=0)
    assert seen.health.state is CameraState.WAITING
    assert "rtsp://127.0.0.1" in seen.health.reason
    assert says in seen.health.reason
    assert "s3cret" not in seen.health.reason

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import wave
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import DataError, LinkError, UsageError
from skerry.core.seams import Camera
from skerry.core.video import Attention, CameraState, Shot
from skerry.device import _video
from skerry.device._video import (
    Packet,
    Video,
    choose_stream,
    hide_secret,
    is_file,
    write_clip,
)
from skerry.device.cameras import MOST_BAD, CameraSettings, VideoCamera
from skerry.device.folder import FolderCamera
from skerry.tasks import _image
from tests.videos import COLUMNS, ROWS, scene, walk, write_video


async def next_shot(shots: AsyncIterator[Shot], clock: FakeClock) -> Shot:
    """The next picture, while time passes as fast as it can."""
    waiting = asyncio.ensure_future(anext(shots))
    while not waiting.done():
        await asyncio.sleep(0.001)
        wake_s = clock.next_wake_s()
        if wake_s is not None:
            clock.advance(wall_s=max(wake_s - clock.wall_s(), 0.0))
    return waiting.result()


def collect(camera: Camera, clock: FakeClock, count: int) -> list[Shot]:
    """Up to so many pictures of a camera."""

    async def main() -> list[Shot]:
        found: list[Shot] = []
        shots = camera.shots()
        try:
            while len(found) < count:
                found.append(await next_shot(shots, clock))
        except StopAsyncIteration:
            pass
        finally:
            await shots.aclose()  # type: ignore[attr-defined]
        return found

    return asyncio.run(main())


def camera_of(path: Path | str, clock: FakeClock, **settings: Any) -> VideoCamera:
    """A camera that plays a file."""
    return VideoCamera(
        CameraSettings(name="gate", url=str(path), **settings), clock=clock
    )


def test_a_file_is_played_at_its_pace(tmp_path: Path) -> None:
    """Its pictures count as taken when they are due, to the end and again."""
    path = write_video(tmp_path / "a.mkv", walk(6))
    clock = FakeClock()
    camera = camera_of(path, clock)
    shots = collect(camera, clock, 9)
    steps = [b.captured_s - a.captured_s for a, b in itertools.pairwise(shots[:6])]
    assert steps == pytest.approx([0.2] * 5, abs=0.01)
    assert [shot.number for shot in shots] == list(range(9))
    assert shots[0].luma.shape == (ROWS, COLUMNS)
    assert camera.health.state is CameraState.LIVE
    assert camera.health.shots == 9
    assert camera.health.reason == ""


def test_a_shot_is_the_picture(tmp_path: Path) -> None:
    """Its colours are converted when they are asked for, and brightness fits them."""
    picture = next(walk(1))
    path = write_video(tmp_path / "a.mkv", [picture] * 2)
    clock = FakeClock()
    (shot,) = collect(camera_of(path, clock), clock, 1)
    rgb = shot.to_rgb()
    assert rgb.shape == picture.shape
    assert np.abs(rgb.astype(int) - picture).mean() < 8
    bright = shot.luma[60:120, 10:40].mean()
    assert bright > shot.luma.mean()


def test_a_file_that_is_not_repeated_ends(tmp_path: Path) -> None:
    """And says so."""
    path = write_video(tmp_path / "a.mkv", walk(4))
    clock = FakeClock()
    camera = camera_of(path, clock, is_repeated=False)
    assert len(collect(camera, clock, 20)) == 4
    assert camera.health.state is CameraState.ENDED


@pytest.mark.parametrize(("codec", "decodes"), [("libx264", 20), ("mjpeg", 5)])
def test_pictures_beyond_the_rate_are_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, decodes: int
) -> None:
    """They are decoded where the next ones need them, and only there."""
    decoded: list[Packet] = []
    decode = Video.decode

    def count(video: Video, packet: Packet) -> _video.Decoded | None:
        decoded.append(packet)
        return decode(video, packet)

    monkeypatch.setattr(Video, "decode", count)
    path = write_video(tmp_path / "a.mkv", walk(20), frames_per_s=20, codec=codec)
    clock = FakeClock()
    camera = camera_of(path, clock, frames_per_s=5, is_repeated=False)
    assert len(collect(camera, clock, 20)) == 5
    assert len(decoded) == decodes


def test_an_idle_camera_gives_what_stands_alone(tmp_path: Path) -> None:
    """Until it is attended to again."""
    path = write_video(tmp_path / "a.mkv", [scene()] * 31, gop=10)
    clock = FakeClock()
    camera = camera_of(path, clock, is_repeated=False)
    camera.attend(Attention.IDLE)
    assert len(collect(camera, clock, 30)) == 4


@pytest.mark.parametrize("codec", ["libx264", "mjpeg", "mpeg4"])
def test_codecs_of_cameras_are_decoded(tmp_path: Path, codec: str) -> None:
    """Whatever the container."""
    path = write_video(tmp_path / "a.avi", walk(3), codec=codec)
    clock = FakeClock()
    (shot,) = collect(camera_of(path, clock), clock, 1)
    assert shot.luma.shape == (ROWS, COLUMNS)


@pytest.mark.parametrize(
    "content",
    [b"", b"no video at all", b"\x00" * 5000, b"\x1aE\xdf\xa3" + b"\xff" * 300],
)
def test_what_is_no_video_is_a_reason_and_is_tried_again(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """With longer and longer waits; nothing is raised."""
    path = tmp_path / "a.mkv"
    path.write_bytes(content)
    clock = FakeClock()
    camera = camera_of(path, clock)

    async def main() -> None:
        task = asyncio.ensure_future(anext(camera.shots()))
        async with asyncio.timeout(20):
            while camera.health.reconnects < 3:
                await asyncio.sleep(0.001)
                clock.advance(wall_s=1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert camera.health.state is CameraState.WAITING
    assert "a.mkv" in camera.health.reason
    assert {record.msg for record in caplog.records} == {"camera.failed"}


def test_a_damaged_middle_is_counted_and_passed_over(tmp_path: Path) -> None:
    """The camera goes on with the next picture that stands alone."""
    path = write_video(tmp_path / "a.mkv", walk(40), gop=5)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(bytes(content))
    clock = FakeClock()
    camera = camera_of(path, clock, is_repeated=False)
    assert 20 <= len(collect(camera, clock, 60)) <= 40


def test_a_camera_may_change_its_size(tmp_path: Path) -> None:
    """It says so, and its pictures are of the new size."""
    first = write_video(tmp_path / "1.mjpeg", walk(3), codec="mjpeg")
    small = [scene(rows=90, columns=160)] * 3
    second = write_video(tmp_path / "2.mjpeg", small, codec="mjpeg")
    path = tmp_path / "both.mjpeg"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    clock = FakeClock()
    camera = camera_of(path, clock, is_repeated=False, frames_per_s=25)
    shots = collect(camera, clock, 6)
    assert [shot.luma.shape for shot in shots] == [(ROWS, COLUMNS)] * 3 + [
        (90, 160)
    ] * 3
    assert camera.health.reason == "its pictures changed to 160 × 90"


def test_a_picture_that_is_too_large_is_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs no memory, says why, and the pictures after it are given."""
    monkeypatch.setattr(_video, "LARGEST_PIXELS", 200 * 400)
    parts = []
    for number, (rows, columns) in enumerate([(90, 160), (720, 1280), (90, 160)]):
        part = tmp_path / f"{number}.mjpeg"
        write_video(part, [scene(rows=rows, columns=columns)] * 2, codec="mjpeg")
        parts.append(part.read_bytes())
    path = tmp_path / "all.mjpeg"
    path.write_bytes(b"".join(parts))
    clock = FakeClock()
    camera = camera_of(path, clock, is_repeated=False, frames_per_s=25)
    shots = collect(camera, clock, 6)
    assert [shot.luma.shape for shot in shots] == [(90, 160)] * 4
    assert camera.health.bad == 2
    assert "more than 80000 pixels" in camera.health.reason


def test_sound_alone_is_no_camera(tmp_path: Path) -> None:
    """There is a stream, and nothing to be seen in it."""
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 800, "NONE", ""))
        out.writeframes(bytes(1600))
    with pytest.raises(DataError, match="there is no video in"):
        Video(str(path))


class Scripted:
    """A stream that does as a test says: packets, errors, or the end."""

    frames_per_s = 5.0
    is_intra_only = False

    def __init__(
        self,
        clock: FakeClock,
        script: list[Packet | Exception],
        *,
        wait_s: float = 0.2,
        decode_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._due_s = clock.wall_s()
        self._decode_s = decode_s
        self._script = script
        self.is_closed = False

    def read(self) -> Packet | None:
        if not self._script:
            return None
        # What came meanwhile is there at once.
        self._due_s += self._wait_s
        self._clock.advance(wall_s=max(0.0, self._due_s - self._clock.wall_s()))
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def decode(self, packet: Packet) -> _video.Decoded | None:
        self._clock.advance(wall_s=self._decode_s)
        if packet.coded == "bad":
            raise DataError("it is damaged", hint="")
        picture = scene()
        return _video.Decoded(
            luma=picture[:, :, 0],
            to_rgb=lambda: picture,
            to_size=lambda *_: picture,
        )

    def close(self) -> None:
        self.is_closed = True


def live(number: int, *, coded: str = "good") -> Packet:
    """A packet of a live camera in which each picture stands alone."""
    return Packet(pts_s=number / 5, is_key=True, size_bytes=900, coded=coded)


def scripted(
    clock: FakeClock, *scripts: list[Packet | Exception], **timing: float
) -> VideoCamera:
    """A live camera that does as scripts say, one a connection."""
    left = [*scripts]

    def open_video(*_: object, **__: object) -> Any:
        return Scripted(clock, left.pop(0), **timing)

    settings = CameraSettings(name="gate", url="rtsp://u:p@gate/live")
    return VideoCamera(settings, clock=clock, open_video=open_video)


@pytest.mark.parametrize(
    "pts_s",
    [
        [None] * 12,
        [0.0] * 12,
        [n / 5 - 9000 * (n > 5) for n in range(12)],
        [n / 5 + 1e9 * (n > 5) for n in range(12)],
        [-n / 5 for n in range(12)],
    ],
    ids=["none", "still", "back", "far", "backwards"],
)
def test_a_camera_that_lies_about_time_is_believed_nothing(
    pts_s: list[float | None],
) -> None:
    """Its pictures are of now, in order, and each is given."""
    clock = FakeClock()
    script = [
        Packet(pts_s=at_s, is_key=True, size_bytes=900, coded="good") for at_s in pts_s
    ]
    camera = scripted(clock, [*script], wait_s=0.2)

    async def main() -> list[tuple[float, float]]:
        found = []
        async with contextlib.aclosing(camera.shots()) as shots:
            for _ in script:
                shot = await next_shot(shots, clock)
                found.append((shot.captured_s, clock.wall_s()))
        return found

    found = asyncio.run(main())
    taken = [at_s for at_s, _ in found]
    assert taken == sorted(taken)
    assert all(0 <= now_s - at_s < 0.6 for at_s, now_s in found)
    assert camera.health.lies == 0 or None not in pts_s


def test_a_camera_that_floods_is_shed() -> None:
    """It says why; what is given is new, and costs no more than its share."""
    clock = FakeClock()
    begun_s = clock.wall_s()
    script: list[Packet | Exception] = [
        Packet(pts_s=n / 500, is_key=True, size_bytes=900, coded="good")
        for n in range(4000)
    ]
    camera = scripted(clock, script, wait_s=0.002, decode_s=0.02)
    shots = collect(camera, clock, 9)
    health = camera.health
    assert health.shed > 100
    assert health.reason == "decoding it costs more than its share"
    took_s = clock.wall_s() - begun_s
    assert health.decode_s <= 0.25 * took_s + 1.1
    assert len(shots) == 9


def test_a_camera_can_be_begun_again_after_a_fault_of_ours() -> None:
    """Who follows it begins its pictures anew; its thread is a new one."""
    clock = FakeClock()
    camera = scripted(clock, [live(0), ZeroDivisionError()], [live(0)])
    with pytest.raises(ZeroDivisionError):
        collect(camera, clock, 2)
    assert len(collect(camera, clock, 1)) == 1


def test_a_connection_that_breaks_is_opened_again() -> None:
    """After a wait; what it gives then is newer, and the reason is kept."""
    clock = FakeClock()
    scripts: list[list[Packet | Exception]] = [
        [live(0), live(1), LinkError("gone", hint="")],
        [],
        [live(0), live(1)],
    ]
    opened = []

    def open_video(*_: object, **__: object) -> Any:
        opened.append(Scripted(clock, scripts.pop(0)))
        return opened[-1]

    camera = VideoCamera(
        CameraSettings(name="gate", url="rtsp://u:p@gate/live"),
        clock=clock,
        open_video=open_video,
    )
    shots = collect(camera, clock, 3)
    times = [shot.captured_s for shot in shots]
    assert times == sorted(times)
    assert camera.health.reconnects == 2
    assert camera.health.reason == "rtsp://gate/live has ended"
    assert [one.is_closed for one in opened[:2]] == [True, True]


def test_a_live_picture_does_not_wait_for_the_next() -> None:
    """It is given as soon as it is decoded, and not a period later."""
    clock = FakeClock()
    camera = VideoCamera(
        CameraSettings(name="gate", url="rtsp://gate/live"),
        clock=clock,
        open_video=lambda *_, **__: Scripted(clock, [live(n) for n in range(9)]),  # type: ignore[arg-type,return-value]
    )

    async def main() -> list[float]:
        ages = []
        async with contextlib.aclosing(camera.shots()) as shots:
            for _ in range(5):
                shot = await next_shot(shots, clock)
                ages.append(clock.wall_s() - shot.captured_s)
        return ages

    assert asyncio.run(main()) == pytest.approx([0.0] * 5)


def test_a_stream_of_nothing_but_damage_is_opened_again() -> None:
    """So many bad pictures in a row are no stream."""
    clock = FakeClock()
    first = [live(0), *(live(n, coded="bad") for n in range(1, MOST_BAD + 2))]
    scripts: list[list[Packet | Exception]] = [[*first, live(MOST_BAD + 2)], [live(0)]]
    camera = VideoCamera(
        CameraSettings(name="gate", url="rtsp://gate/live"),
        clock=clock,
        open_video=lambda *_, **__: Scripted(clock, scripts.pop(0)),  # type: ignore[arg-type,return-value]
    )
    assert len(collect(camera, clock, 2)) == 2
    assert camera.health.bad == MOST_BAD
    assert camera.health.reconnects == 1


def test_the_door_opens_no_other_stream_than_the_one_that_is_wanted() -> None:
    """The smallest that is large enough, else the largest."""
    assert choose_stream([(180, 320), (1080, 1920), (720, 1280)], 360) == 2
    assert choose_stream([(180, 320), (240, 426)], 360) == 1
    assert hide_secret("rtsp://u:p@h/a?token=1") == "rtsp://h/a"
    assert hide_secret("videos/a.avi") == "videos/a.avi"


def test_a_clip_can_be_played(tmp_path: Path) -> None:
    """Odd sizes are cut to even ones."""
    path = tmp_path / "clip.mp4"
    pictures = [one[:91, :161] for one in walk(5)]
    path.write_bytes(write_clip(pictures, frames_per_s=5))
    with contextlib.closing(Video(str(path))) as video:
        packets = list(iter(video.read, None))
        decoded = [video.decode(packet) for packet in packets]
    assert len(packets) == 5
    shown = [one for one in decoded if one is not None]
    assert shown[0].luma.shape == (90, 160)


def test_what_cannot_be_reached_is_a_link_error(tmp_path: Path) -> None:
    """And names no password."""
    with pytest.raises(LinkError) as caught:
        Video(str(tmp_path / "none.avi"))
    assert "none.avi" in caught.value.what
    with pytest.raises(LinkError) as caught:
        Video("http://u:secret@127.0.0.1:9/x.mjpeg", timeout_s=2)
    assert "secret" not in caught.value.what


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("/dev/video-of-nobody", "No such file or directory"),
        ("/dev/null", "Inappropriate ioctl for device"),
    ],
)
def test_a_device_that_is_no_camera_is_a_reason(device: str, says: str) -> None:
    """Not plugged in, or something else; it is tried again, and is never a file."""
    clock = FakeClock()
    camera = camera_of(device, clock)

    async def main() -> None:
        task = asyncio.ensure_future(anext(camera.shots()))
        async with asyncio.timeout(20):
            while not camera.health.reconnects:
                await asyncio.sleep(0.001)
                clock.advance(wall_s=1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert camera.health.reason == f"cannot read {device}: {says}"
    assert not is_file(device)


def test_a_picture_that_is_held_holds_no_decoder(tmp_path: Path) -> None:
    """A camera's last picture outlives its connection; what decoded it must not."""
    video = Video(str(write_video(tmp_path / "a.mkv", walk(3))))
    packet = video.read()
    assert packet is not None
    decoded = None
    while decoded is None and packet is not None:
        decoded, packet = video.decode(packet), video.read()
    gone = weakref.ref(video)
    video.close()
    del video
    assert gone() is None
    assert decoded is not None
    assert decoded.to_rgb().shape == (ROWS, COLUMNS, 3)


def test_a_folder_of_pictures_stands_for_a_camera(tmp_path: Path) -> None:
    """In the order of their names; what is no picture is passed over."""
    for number, picture in enumerate(walk(3)):
        (tmp_path / f"{number}.png").write_bytes(_image.encode_png(picture))
    (tmp_path / "0a.jpg").write_bytes(b"no picture")
    clock = FakeClock()
    settings = CameraSettings(name="yard", url=str(tmp_path), is_repeated=False)
    camera = FolderCamera(settings, clock=clock)
    shots = collect(camera, clock, 9)
    assert [shot.captured_s for shot in shots] == pytest.approx([0.0, 0.2, 0.4])
    assert (shots[1].to_rgb() == list(walk(3))[1]).all()
    assert camera.health.bad == 1
    assert camera.health.state is CameraState.ENDED


def test_an_empty_folder_is_looked_into_again(tmp_path: Path) -> None:
    """Pictures may come later."""
    clock = FakeClock()
    camera = FolderCamera(
        CameraSettings(name="yard", url=str(tmp_path / "none")), clock=clock
    )

    async def main() -> Shot:
        waiting = asyncio.ensure_future(anext(camera.shots()))
        while camera.health.reason == "":  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
        (tmp_path / "none").mkdir()
        picture = _image.encode_png(scene())
        (tmp_path / "none" / "a.png").write_bytes(picture)
        while not waiting.done():
            await asyncio.sleep(0.001)
            clock.advance(wall_s=0.5)
        return waiting.result()

    assert asyncio.run(main()).number == 0


@pytest.mark.parametrize("wrong", [{"frames_per_s": 0}, {"start_s": -1}])
def test_numbers_that_no_camera_has_are_refused(wrong: dict[str, float]) -> None:
    """With what was got."""
    with pytest.raises(UsageError, match="camera gate"):
        CameraSettings(name="gate", url="a.avi", **wrong)

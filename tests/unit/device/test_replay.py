from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import UsageError
from skerry.core.seams import Frame
from skerry.device import replay
from skerry.device.replay import ReplaySource


def _write(folder: Path, name: str, values: list[int]) -> None:
    x = np.array(values, np.float32)[:, None]
    np.savez_compressed(folder / name, x=x, label=np.array(values))


async def _next(frames: AsyncGenerator[Frame, None], clock: FakeClock) -> Frame:
    """The next frame, while time passes as fast as it can."""
    waiting = asyncio.ensure_future(anext(frames))
    while not waiting.done():
        await asyncio.sleep(0.001)
        wake_s = clock.next_wake_s()
        if wake_s is not None:
            clock.advance(wall_s=max(wake_s - clock.wall_s(), 0.0))
    return waiting.result()


def _play(
    folder: Path,
    n: int,
    *,
    then: dict[int, Callable[[], None]] | None = None,
    frames_per_s: float = 10.0,
) -> tuple[list[Frame], FakeClock]:
    """Play n frames; `then` is done after the frame of that number."""

    async def main() -> tuple[list[Frame], FakeClock]:
        clock = FakeClock()
        source = ReplaySource(folder, frames_per_s=frames_per_s, clock=clock)
        played: list[Frame] = []
        stream = source.frames()
        try:
            for number in range(n):
                played.append(await _next(stream, clock))
                if then and number in then:
                    then[number]()
        finally:
            await stream.aclose()
        return played, clock

    return asyncio.run(main())


def _values(frames: list[Frame]) -> list[int]:
    return [int(frame.inputs["x"][0, 0]) for frame in frames]


def test_recordings_are_played_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Each once, the last again and again; the truth is not shown."""
    _write(tmp_path, "b.npz", [3, 4])
    _write(tmp_path, "a.npz", [1, 2])
    frames, _ = _play(tmp_path, 8)
    assert _values(frames) == [1, 2, 3, 4, 3, 4, 3, 4]
    assert [frame.number for frame in frames] == list(range(8))
    assert set(frames[0].inputs) == {"x"}
    assert frames[0].inputs["x"].shape == (1, 1)
    assert frames[3].notes == {"recording": "b.npz", "index": "1"}
    assert frames[3].source == "camera"


def test_a_new_recording_is_taken_up(tmp_path: Path) -> None:
    """One that comes while the last is repeated is begun at once."""
    _write(tmp_path, "a.npz", [1, 2, 3])
    frames, _ = _play(
        tmp_path, 8, then={3: lambda: _write(tmp_path, "b.npz", [7, 8, 9])}
    )
    assert _values(frames) == [1, 2, 3, 1, 7, 8, 9, 7]


def test_a_recording_is_played_whole_the_first_time(tmp_path: Path) -> None:
    """One that comes during the first play waits until that ends."""
    _write(tmp_path, "a.npz", [1, 2, 3])
    frames, _ = _play(tmp_path, 5, then={0: lambda: _write(tmp_path, "b.npz", [7])})
    assert _values(frames) == [1, 2, 3, 7, 7]


def test_frames_come_at_the_pace_asked_for(tmp_path: Path) -> None:
    """Ten frames at 20 a second take half a second, and say when they were taken."""
    _write(tmp_path, "a.npz", list(range(20)))
    frames, clock = _play(tmp_path, 10, frames_per_s=20)
    assert clock.wall_s() == pytest.approx(0.5)
    steps = np.diff([frame.captured_at_ms for frame in frames])
    assert set(steps.tolist()) == {50}


def test_an_empty_folder_is_waited_on(tmp_path: Path) -> None:
    """Recordings may come later, as may the folder."""
    folder = tmp_path / "later"

    async def main() -> Frame:
        clock = FakeClock()
        stream = ReplaySource(folder, frames_per_s=5, clock=clock).frames()
        waiting = asyncio.ensure_future(_next(stream, clock))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        folder.mkdir()
        _write(folder, "a.npz", [5])
        frame = await waiting
        await stream.aclose()
        return frame

    assert _values([asyncio.run(main())]) == [5]


def test_bad_recordings_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not a zip, no arrays, uneven arrays: a line in the log each, and on it goes."""
    (tmp_path / "a.npz").write_bytes(b"no zip")
    np.savez(tmp_path / "b.npz", label=np.zeros(3))
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 1)), y=np.zeros((3, 1)))
    np.savez(tmp_path / "d.npz", x=np.zeros((0, 1)))
    _write(tmp_path, "e.npz", [5, 6])
    with caplog.at_level(logging.WARNING):
        frames, _ = _play(tmp_path, 4)
    assert _values(frames) == [5, 6, 5, 6]
    skipped = [r for r in caplog.records if r.message == "recording.skipped"]
    assert [record.__dict__["file"] for record in skipped] == [
        f"{letter}.npz" for letter in "abcd"
    ]


def test_a_recording_that_is_mended_is_played(tmp_path: Path) -> None:
    """A bad one is tried again once it has changed."""
    _write(tmp_path, "a.npz", [1])
    (tmp_path / "b.npz").write_bytes(b"half")
    frames, _ = _play(tmp_path, 4, then={1: lambda: _write(tmp_path, "b.npz", [2, 3])})
    assert _values(frames) == [1, 1, 2, 3]


def test_a_recording_that_ends_early_is_left(tmp_path: Path) -> None:
    """Its whole frames are played; then comes the next, or the one before it again."""
    x = np.random.default_rng(0).random((50, 2000)).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    _write(tmp_path, "b.npz", [4])
    frames, _ = _play(tmp_path, 60)
    assert frames[-1].notes["recording"] == "b.npz"


def test_a_frame_may_not_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording with larger frames is not played."""
    monkeypatch.setattr(replay, "LARGEST_FRAME_BYTES", 16)
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 5), np.float32))
    _write(tmp_path, "b.npz", [1])
    frames, _ = _play(tmp_path, 2)
    assert _values(frames) == [1, 1]


@pytest.mark.parametrize("pace", [0.0, -1.0, float("inf"), float("nan")])
def test_a_pace_that_makes_no_sense_is_refused(tmp_path: Path, pace: float) -> None:
    """Frames a second are more than none, and finite."""
    with pytest.raises(UsageError):
        ReplaySource(tmp_path, frames_per_s=pace, clock=FakeClock())

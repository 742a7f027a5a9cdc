"""Videos made on the spot, and cameras that a test drives by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skerry.core.clock import FakeClock
from skerry.core.video import Attention, CameraHealth, CameraState, Picture, Shot
from skerry.tasks import _image

ROWS, COLUMNS = 180, 320


def scene(*, seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> Picture:
    """A picture with some texture, as a street has."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (rows // 20 + 1, columns // 20 + 1, 3))
    return np.kron(coarse, np.ones((20, 20, 1)))[:rows, :columns].astype(np.uint8)


def walk(
    count: int, *, still: int = 0, step_px: int = 6, picture: Picture | None = None
) -> Iterator[Picture]:
    """A bright block that walks through a scene, after some pictures without it."""
    street = scene() if picture is None else picture
    yield from [street] * still
    for number in range(count):
        shown = street.copy()
        left = 10 + step_px * number
        shown[60:120, left : left + 30] = (240, 230, 20)
        yield shown


def write_video(
    path: Path,
    pictures: Sequence[Picture] | Iterator[Picture],
    *,
    frames_per_s: int = 5,
    gop: int = 10,
    codec: str = "libx264",
) -> Path:
    """Write pictures, which may be of several sizes where the codec is MJPEG."""
    import av

    with av.open(str(path), "w") as out:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = out.add_stream(codec, rate=frames_per_s)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                if codec == "libx264":
                    stream.options = {"g": str(gop), "bf": "0", "preset": "ultrafast"}
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            out.mux(stream.encode(frame))
        if stream is not None:
            out.mux(stream.encode())
    return path


def luma_of(picture: Picture) -> NDArray[np.uint8]:
    """Brightness, near enough."""
    return picture.mean(axis=2).astype(np.uint8)


def shot_of(picture: Picture, *, at_s: float = 0.0, number: int = 0) -> Shot:
    """A picture as a camera gives it."""
    return Shot(
        camera="a",
        number=number,
        captured_s=at_s,
        captured_at_ms=round(at_s * 1000),
        size_bytes=1000,
        luma=luma_of(picture),
        to_rgb=lambda: picture,
        to_size=lambda rows, columns: _image.resize(picture, rows, columns, "bilinear"),
    )


class HandCamera:
    """A camera whose pictures a test gives by hand; the seam `Camera`."""

    def __init__(self, name: str, clock: FakeClock) -> None:
        self.name = name
        self.attention = Attention.FULL
        self._clock = clock
        self._queue: asyncio.Queue[Shot | None] = asyncio.Queue()
        self._given = 0

    @property
    def health(self) -> CameraHealth:
        return CameraHealth(state=CameraState.LIVE, shots=self._given)

    def attend(self, attention: Attention) -> None:
        self.attention = attention

    def give(self, picture: Picture, *, late_s: float = 0.0) -> Shot:
        """Give a picture that was taken a while ago."""
        taken = shot_of(picture, at_s=self._clock.wall_s() - late_s, number=self._given)
        at_ms = self._clock.unix_ms() - round(late_s * 1000)
        shot = replace(taken, camera=self.name, captured_at_ms=at_ms)
        self._given += 1
        self._queue.put_nowait(shot)
        return shot

    def end(self) -> None:
        """No more pictures will come."""
        self._queue.put_nowait(None)

    async def shots(self) -> AsyncIterator[Shot]:
        while (shot := await self._queue.get()) is not None:
            yield shot

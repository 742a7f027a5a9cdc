"""A folder of pictures that stands for a camera."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import numpy as np

from skerry.core.clock import Clock
from skerry.core.errors import DataError
from skerry.core.video import Attention, CameraHealth, CameraState, Picture, Shot
from skerry.device.cameras import CameraSettings
from skerry.tasks import _image

_LUMA = np.array([77, 150, 29], dtype=np.uint16)
"""ITU-R BT.601's weights of red, green and blue, of 256."""

POLL_S = 1.0


class FolderCamera:
    """A folder of pictures, shown in the order of their names; the seam `Camera`.

    One that cannot be read is passed over. A folder that is empty, or not there yet, is
    looked into again.

    Args:
        settings: What it is; `url` is the folder.
        clock: What it waits on.
    """

    def __init__(self, settings: CameraSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._folder = Path(settings.url)
        self._health = CameraHealth()

    @property
    def name(self) -> str:
        """What it is called."""
        return self._settings.name

    @property
    def health(self) -> CameraHealth:
        """How it does."""
        return self._health

    def attend(self, attention: Attention) -> None:
        """Nothing follows: pictures in files stand alone."""

    async def shots(self) -> AsyncGenerator[Shot, None]:
        """Give the pictures at the pace asked for."""
        await self._clock.sleep(self._settings.start_s)
        due_s = self._clock.wall_s()
        while True:
            paths = await asyncio.to_thread(self._list)
            given = 0
            for path in paths:
                picture = await self._read(path)
                if picture is None:
                    continue
                due_s = max(due_s, self._clock.wall_s())
                await self._clock.sleep(due_s - self._clock.wall_s())
                yield self._shot(picture, due_s)
                due_s += 1 / self._settings.frames_per_s
                given += 1
            if given and not self._settings.is_repeated:
                self._health = replace(self._health, state=CameraState.ENDED)
                return
            if not given:
                self._health = replace(
                    self._health,
                    state=CameraState.WAITING,
                    reason=self._health.reason or f"no picture in {self._folder}",
                )
                await self._clock.sleep(POLL_S)

    def _list(self) -> list[Path]:
        try:
            return sorted(
                path
                for path in self._folder.iterdir()
                if path.suffix.lower() in _image.SUFFIXES
            )
        except OSError as error:
            why = f"cannot read {self._folder}: {error.strerror or error}"
            self._health = replace(self._health, reason=why)
            return []

    async def _read(self, path: Path) -> Picture | None:
        health = replace(self._health, packets=self._health.packets + 1)
        try:
            picture = await asyncio.to_thread(_image.read_picture, path)
        except DataError as error:
            self._health = replace(health, bad=health.bad + 1, reason=error.what)
            return None
        self._health = health
        return picture

    def _shot(self, picture: Picture, due_s: float) -> Shot:
        shot = Shot(
            camera=self.name,
            number=self._health.shots,
            captured_s=due_s,
            captured_at_ms=self._clock.unix_ms(),
            size_bytes=0,
            luma=((picture @ _LUMA) >> 8).astype(np.uint8),
            to_rgb=lambda: picture,
            to_size=lambda rows, columns: _image.resize(
                picture, rows, columns, "bilinear"
            ),
        )
        self._health = replace(
            self._health, state=CameraState.LIVE, shots=self._health.shots + 1
        )
        return shot

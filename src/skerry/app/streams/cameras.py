"""Which device stands behind an entry of a cameras' file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skerry.core.allowance import ShortWork
from skerry.core.clock import Clock
from skerry.core.seams import Camera
from skerry.core.video import Picture
from skerry.device._video import check_installed, write_clip
from skerry.device.cameras import CameraSettings, VideoCamera
from skerry.device.folder import FolderCamera
from skerry.edge.streams.settings import CameraEntry

STAGGER_S = 0.15
"""From one camera's opening to the next one's."""


def make_cameras(entries: Sequence[CameraEntry], *, clock: Clock) -> dict[str, Camera]:
    """Make the cameras of a file, one after the other in time.

    Raises:
        MissingExtraError: PyAV is not installed, and one of them needs it.
    """
    short_work = ShortWork()
    return {
        entry.name: _make(entry, clock, short_work, start_s=place * STAGGER_S)
        for place, entry in enumerate(entries)
    }


def make_clip(pictures: Sequence[Picture], frames_per_s: float) -> bytes:
    """Encode a clip.

    Raises:
        The errors of `write_clip`.
    """
    return write_clip(pictures, frames_per_s=frames_per_s)


def _make(
    entry: CameraEntry, clock: Clock, short_work: ShortWork, *, start_s: float
) -> Camera:
    settings = CameraSettings(
        name=entry.name,
        url=entry.url,
        sub_url=entry.sub_url,
        frames_per_s=entry.frames_per_s,
        is_repeated=entry.is_repeated,
        start_s=start_s,
    )
    if "://" not in entry.url and Path(entry.url).is_dir():
        return FolderCamera(settings, clock=clock)
    check_installed()  # else each camera would be tried again and again
    return VideoCamera(settings, clock=clock, short_work=short_work)

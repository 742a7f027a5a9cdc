"""The only way out for pixels: JPEGs and clips of veiled pictures, within a budget.

Nothing else under `edge/streams` encodes a picture, and everything here takes `Veiled`.
What is of interest keeps its detail, and the rest is made coarse, which is most of a
picture's bytes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from skerry.core.video import Picture
from skerry.edge.streams.gate import Region
from skerry.edge.streams.privacy import Veiled
from skerry.tasks import _image

DAY_S = 86_400.0

COARSE = 6
"""What is not of interest keeps each so manieth pixel of each so manieth row."""

THUMBNAIL_COLUMNS = 320
LARGEST_THUMBNAIL_BYTES = 24 << 10
"""A thumbnail travels inside its event."""

QUALITY = 70

MakeClip = Callable[[Sequence[Picture], float], bytes]
"""Encodes pictures at so many a second as a video file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A veiled picture as it is kept for clips: a JPEG takes little memory.

    Attributes:
        content: The JPEG.
        captured_s: When it was taken.
    """

    content: bytes
    captured_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A clip's file.

    Attributes:
        content: All of it.
        sha256: Its name.
        pictures: How many it has.
        seconds: From the first to the last of them.
    """

    content: bytes
    sha256: str
    pictures: int
    seconds: float


def to_jpeg(veiled: Veiled, *, quality: int = QUALITY) -> bytes:
    """Encode a whole veiled picture."""
    return _image.encode_jpeg(veiled.pixels, quality=quality)


def to_region_jpeg(
    veiled: Veiled, regions: Sequence[Region], *, quality: int = QUALITY
) -> bytes:
    """Encode a veiled picture with detail only where it is of interest.

    Args:
        veiled: It.
        regions: What is of interest; a margin of a tenth of each is kept around it.
        quality: JPEG's, of all of it.
    """
    pixels = veiled.pixels
    rows, columns = pixels.shape[:2]
    small = _image.resize(
        pixels, max(1, rows // COARSE), max(1, columns // COARSE), "bilinear"
    )
    shown = _image.resize(small, rows, columns, "bilinear")
    for region in regions:
        left, right = _span(region[0], region[2], columns)
        top, bottom = _span(region[1], region[3], rows)
        shown[top:bottom, left:right] = pixels[top:bottom, left:right]
    return _image.encode_jpeg(shown, quality=quality)


def thumbnail_size(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a picture's thumbnail, which is never larger than it."""
    if columns <= THUMBNAIL_COLUMNS:
        return rows, columns
    return max(1, round(rows * THUMBNAIL_COLUMNS / columns)), THUMBNAIL_COLUMNS


def to_thumbnail(veiled: Veiled, regions: Sequence[Region]) -> bytes:
    """Encode a small picture for an event: what is of interest in detail.

    Returns:
        A JPEG of at most `LARGEST_THUMBNAIL_BYTES`; empty where none is so small.
    """
    rows, columns = veiled.pixels.shape[:2]
    small, size = veiled, thumbnail_size(rows, columns)
    if size != (rows, columns):
        pixels = _image.resize(veiled.pixels, *size, "bilinear")
        small = replace(veiled, pixels=pixels)  # smaller, and still without a face
    for quality in (QUALITY, 40, 15):
        content = to_region_jpeg(small, regions, quality=quality)
        if len(content) <= LARGEST_THUMBNAIL_BYTES:
            return content
    return b""


def keep(veiled: Veiled, regions: Sequence[Region]) -> Kept:
    """Keep a veiled picture for clips, with detail only where it is of interest."""
    content = to_region_jpeg(veiled, regions, quality=80)
    return Kept(content=content, captured_s=veiled.captured_s)


def to_clip(kept: Sequence[Kept], make: MakeClip) -> Clip:
    """Encode what was kept, at least one picture, as a video file.

    Raises:
        The errors of `make`.
    """
    pictures = [_image.decode_picture(one.content, name="a clip's") for one in kept]
    size = pictures[-1].shape
    pictures = [picture for picture in pictures if picture.shape == size]
    seconds = kept[-1].captured_s - kept[0].captured_s
    rate = (len(kept) - 1) / seconds if seconds > 0 else 1.0
    content = make(pictures, max(1.0, rate))
    return Clip(
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        pictures=len(pictures),
        seconds=seconds,
    )


class Recent:
    """The last veiled pictures of a camera.

    Args:
        keep_s: For how long they are kept.
        least_gap_s: Pictures that come sooner after the one before are not kept.
    """

    def __init__(self, *, keep_s: float, least_gap_s: float = 0.3) -> None:
        self._keep_s = keep_s
        self._least_gap_s = least_gap_s
        self._kept: deque[Kept] = deque()

    def wants(self, captured_s: float) -> bool:
        """Whether a picture of this moment would be kept."""
        last_s = self._kept[-1].captured_s if self._kept else float("-inf")
        return self._keep_s > 0 and captured_s - last_s >= self._least_gap_s

    def add(self, kept: Kept) -> None:
        """Keep one more, and let go of those that are too old."""
        self._kept.append(kept)
        while kept.captured_s - self._kept[0].captured_s > self._keep_s:
            self._kept.popleft()

    def since(self, from_s: float) -> list[Kept]:
        """Those from a moment on."""
        return [one for one in self._kept if one.captured_s >= from_s]


class UploadBudget:
    """How many bytes of pictures a camera may send in any 24 hours.

    Args:
        bytes_per_day: That many. An hour's worth may be saved, and is there at first;
            the other 23 hours' come evenly.
    """

    def __init__(self, *, bytes_per_day: float) -> None:
        self._most = bytes_per_day / 24
        self._rate = (bytes_per_day - self._most) / DAY_S
        self._left = self._most
        self._since_s: float | None = None

    def take(self, size_bytes: int, *, now_s: float) -> bool:
        """Take so many bytes, if there are as many; says whether."""
        if self._since_s is not None:
            gain = max(0.0, now_s - self._since_s) * self._rate
            self._left = min(self._most, self._left + gain)
        self._since_s = now_s
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True


def _span(low: float, high: float, most: int) -> tuple[int, int]:
    margin = 0.1 * (high - low)
    return (
        max(0, int((low - margin) * most)),
        min(most, int((high + margin) * most) + 1),
    )

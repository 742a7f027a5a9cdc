"""Faces are made unrecognizable before a pixel leaves.

`Veiled` is the only kind of picture that anything which leaves is made of, and it is
made here alone (a test reads the source for that). A picture leaves only if both the
faces and the people on this very picture were looked for; else it is withheld. Covered
are: each face found, also an unsure one; where there was one a moment ago (detectors
miss faces for single pictures); and the head of each person without a sure face in it.
Blocks are averaged, which loses what a blur only spreads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skerry.core.video import Picture, Shot
from skerry.edge.streams.gate import Region
from skerry.edge.streams.tracks import Seen

HOLD_S = 1.5
"""For how long a face stays covered where it was last found."""

MARGIN = 0.35
"""How far a cover reaches beyond the face, in parts of its size."""

SURE_SCORE = 0.6
"""A face from this score on is one: the rest of its person's head need no cover."""

BLOCKS = 4
"""A covered face is as many blocks across, at most."""

_HEAD_HEIGHT = 0.3
_HEAD_WIDTH = 0.8
_LEAST_BLOCK_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Veiled:
    """A picture without a face that could be recognized; `Coverable` makes it.

    Attributes:
        pixels: Rows × columns × 3, RGB.
        captured_s: When it was taken, on the clock.
        captured_at_ms: The same, milliseconds since 1970.
        faces: How many faces were covered.
        heads: How many heads without a sure face.
    """

    pixels: Picture
    captured_s: float
    captured_at_ms: int
    faces: int
    heads: int


class Coverable:
    """A picture that both models looked at: it may leave once it is covered.

    Most pictures go nowhere, so it is covered when that is first asked for; from any
    thread.

    Args:
        shot: The picture; left as it is.
        faces: Where faces are, or were a moment ago.
        heads: Heads without a sure face.
    """

    def __init__(
        self, shot: Shot, *, faces: Sequence[Region], heads: Sequence[Region]
    ) -> None:
        self._shot = shot
        self._faces = faces
        self._heads = heads
        self._made: dict[tuple[int, int], Veiled] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Its rows and columns."""
        rows, columns = self._shot.luma.shape
        return rows, columns

    @property
    def captured_s(self) -> float:
        """When it was taken, on the clock."""
        return self._shot.captured_s

    @property
    def captured_at_ms(self) -> int:
        """The same, milliseconds since 1970."""
        return self._shot.captured_at_ms

    def cover(self, size: tuple[int, int] | None = None) -> Veiled:
        """Cover the faces in a copy of it, or give the copy that was made before.

        Args:
            size: Rows and columns of the copy; its own where None.

        Raises:
            DataError: It cannot be converted.
        """
        rows, columns = size or self.size
        if (rows, columns) not in self._made:
            covered = self._shot.to_size(rows, columns).copy()
            for region in self._faces:
                pixelate(covered, _grown(region))
            for head in self._heads:
                pixelate(covered, head)
            self._made[rows, columns] = Veiled(
                pixels=covered,
                captured_s=self.captured_s,
                captured_at_ms=self.captured_at_ms,
                faces=len(self._faces),
                heads=len(self._heads),
            )
        return self._made[rows, columns]


class Veil:
    """Knows the faces of one camera.

    Attributes:
        withheld: How many pictures could not be shown to be without faces.
    """

    def __init__(self) -> None:
        self.withheld = 0
        self._held: deque[tuple[float, Region]] = deque(maxlen=256)

    def take(
        self,
        shot: Shot,
        *,
        faces: Sequence[Seen] | None,
        people: Sequence[Seen] | None,
    ) -> Coverable | None:
        """Take what was found in a picture.

        Args:
            shot: It.
            faces: All that the face model found in it, unsure ones too; None: it did
                not look.
            people: All people found in it; None: nobody looked.

        Returns:
            What may leave once it is covered, or None: it is withheld.
        """
        captured_s = shot.captured_s
        for one in faces or ():
            self._held.append((captured_s, one.region))
        if faces is None or people is None:
            self.withheld += 1
            return None
        held = [
            region for at_s, region in self._held if abs(captured_s - at_s) <= HOLD_S
        ]
        heads = [
            head
            for head in (_head(one.region) for one in people)
            if not any(_is_face_of(one, head) for one in faces)
        ]
        return Coverable(shot, faces=held, heads=heads)


def pixelate(picture: Picture, region: Region) -> None:
    """Average blocks of a region of a picture, in place.

    Args:
        picture: uint8, rows × columns × 3.
        region: Where; what lies outside the picture is passed over.
    """
    rows, columns = picture.shape[:2]
    left, right = (_clip(region[side] * columns, columns) for side in (0, 2))
    top, bottom = (_clip(region[side] * rows, rows) for side in (1, 3))
    if right <= left or bottom <= top:
        return
    part = picture[top:bottom, left:right]
    block = max(_LEAST_BLOCK_PX, -(-max(part.shape[:2]) // BLOCKS))
    for y in range(0, part.shape[0], block):
        for x in range(0, part.shape[1], block):
            cell: NDArray[np.uint8] = part[y : y + block, x : x + block]
            cell[:] = cell.mean(axis=(0, 1)).astype(np.uint8)


def _clip(place: float, most: int) -> int:
    return int(min(max(place, 0.0), float(most)))


def _grown(region: Region) -> Region:
    left, top, right, bottom = region
    width, height = MARGIN * (right - left), MARGIN * (bottom - top)
    return (left - width, top - height, right + width, bottom + height)


def _head(region: Region) -> Region:
    """Where a person's head is, generously: people bend, and boxes are cut off."""
    left, top, right, bottom = region
    middle, half = (left + right) / 2, _HEAD_WIDTH * (right - left) / 2
    height = bottom - top
    return (
        middle - half,
        top - 0.05 * height,
        middle + half,
        top + _HEAD_HEIGHT * height,
    )


def _is_face_of(face: Seen, head: Region) -> bool:
    """Whether it is sure, and its middle lies in the head."""
    x, y = (face.region[0] + face.region[2]) / 2, (face.region[1] + face.region[3]) / 2
    is_in = head[0] <= x <= head[2] and head[1] <= y <= head[3]
    return face.score >= SURE_SCORE and is_in

"""Mosaics: parts of several cameras' pictures in one input of a model. Pure.

Where something moves in a small part of a picture, a model need not look at all of it;
and what is left of its input has room for parts of others. They keep the scale that the
whole picture has in the input, and lie on shelves, first fit (E. Coffman et al.,
"Performance bounds for level-oriented two-dimensional packing algorithms", 1980), with
a gap in between.

What that costs depends on the model: some need to see what is around an object. So it
is measured all the time. Some pictures of mosaics are looked at whole as well, and of
what was surely there it is counted how much the mosaic did not show (`MosaicLoss`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from skerry.edge.streams.gate import Region
from skerry.edge.streams.tracks import Seen
from skerry.tasks.boxes import overlaps

GAP_PX = 4
"""Pixels between two parts, and around them."""

MARGIN = 0.08
"""How far a part reaches beyond what moves, in widths and heights of the picture."""

MOST_PARTS = 8
"""Most parts of a mosaic."""

LEAST_KNOWN = 100
"""Objects that must have been compared before a loss counts as known."""

REMEMBERED = 1000
"""Objects that the loss is told of: the last ones."""

AUDIT_EACH = 16
"""Of mosaics whose loss is known each so manieth is looked at whole, too."""

RETRY_S = 30.0
"""A model whose mosaics lose too much is tried again after so long."""

SAME = 0.5
"""Boxes that overlap by so much are of one object."""


class Size(NamedTuple):
    """Rows and columns, in pixels of a model's input."""

    rows: int
    columns: int


class Part(NamedTuple):
    """The part of a picture that is worth a look.

    Attributes:
        region: Where, as fractions of the picture.
        picture: The picture's size in the model's input.
        frame: The size of that input.
    """

    region: Region
    picture: Size
    frame: Size

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels of the picture as it is scaled."""
        rows, columns = self.picture
        left = min(columns - 1, int(self.region[0] * columns))
        top = min(rows - 1, int(self.region[1] * rows))
        right = min(columns, int(np.ceil(self.region[2] * columns)))
        bottom = min(rows, int(np.ceil(self.region[3] * rows)))
        return left, top, max(left + 1, right), max(top + 1, bottom)

    @property
    def size(self) -> Size:
        """As much room as it takes."""
        left, top, right, bottom = self.box
        return Size(bottom - top, right - left)


class Corner(NamedTuple):
    """Where a part lies in the input: its left upper corner."""

    left: int
    top: int


def grown(regions: Sequence[Region]) -> Region:
    """The region around some, at least one, with a margin, inside the picture."""
    sides = np.array(regions)
    low, high = sides[:, :2].min(axis=0) - MARGIN, sides[:, 2:].max(axis=0) + MARGIN
    left, top, right, bottom = np.clip([*low, *high], 0.0, 1.0).tolist()
    return (left, top, right, bottom)


def pack(parts: Sequence[Part]) -> tuple[Corner, ...] | None:
    """Find room for parts in one input, or None: they do not fit together.

    Args:
        parts: At least one, for inputs of one size.
    """
    frame = parts[0].frame
    if len(parts) > MOST_PARTS or any(part.frame != frame for part in parts):
        return None
    corners: dict[int, Corner] = {}
    shelf_top, shelf_rows, left = GAP_PX, 0, GAP_PX
    order = sorted(range(len(parts)), key=lambda place: -parts[place].size.rows)
    for place in order:  # the highest first: a shelf is as high as its first part
        rows, columns = parts[place].size
        if left + columns + GAP_PX > frame.columns and shelf_rows:
            shelf_top += shelf_rows + GAP_PX
            shelf_rows, left = 0, GAP_PX
        shelf_rows = shelf_rows or rows
        if (
            left + columns + GAP_PX > frame.columns
            or shelf_top + rows + GAP_PX > frame.rows
        ):
            return None
        corners[place] = Corner(left, shelf_top)
        left += columns + GAP_PX
    return tuple(corners[place] for place in range(len(parts)))


def sort_out(
    seen: Sequence[Seen], parts: Sequence[Part], corners: Sequence[Corner]
) -> list[tuple[Seen, ...]]:
    """Give each part what was seen in it, as fractions of its own picture.

    Args:
        seen: As fractions of the input.
        parts: What is in it.
        corners: Where.
    """
    found: list[list[Seen]] = [[] for _ in parts]
    rows, columns = parts[0].frame
    for one in seen:
        left, top, right, bottom = one.region
        x1, y1, x2, y2 = left * columns, top * rows, right * columns, bottom * rows
        for place, (part, corner) in enumerate(zip(parts, corners, strict=True)):
            size = part.size
            x, y = (x1 + x2) / 2 - corner.left, (y1 + y2) / 2 - corner.top
            # Half a pixel of grace: fractions are never quite even.
            if abs(x - size.columns / 2) <= size.columns / 2 + 0.5 and (
                abs(y - size.rows / 2) <= size.rows / 2 + 0.5
            ):
                region = _back((x1, y1, x2, y2), part, corner)
                found[place].append(
                    Seen(region=region, score=one.score, label=one.label)
                )
                break
    return [tuple(some) for some in found]


def _back(box: Region, part: Part, corner: Corner) -> Region:
    """A box in pixels of the input, as fractions of the part's picture."""
    left, top, right, bottom = part.box
    x = [min(max(side - corner.left + left, left), right) for side in box[::2]]
    y = [min(max(side - corner.top + top, top), bottom) for side in box[1::2]]
    rows, columns = part.picture
    return (x[0] / columns, y[0] / rows, x[1] / columns, y[1] / rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicFigures:
    """What mosaics of a model cost.

    Attributes:
        allowed: The share of objects that they may miss, as the user says.
        objects: How many of them were compared.
        lost_share: The share that was missed; None where none was compared.
        is_used: Whether mosaics are used now.
    """

    allowed: float
    objects: int
    lost_share: float | None
    is_used: bool


class MosaicLoss:
    """Measures what mosaics of one model miss; time is an argument.

    Args:
        allowed: The share of objects that they may miss; 0: there are none.
        sure: The score from which an object is surely there.
    """

    def __init__(self, *, allowed: float, sure: float) -> None:
        self._allowed = allowed
        self._sure = sure
        self._found: deque[bool] = deque(maxlen=REMEMBERED)
        self._mosaics = 0
        self._tried_s = float("-inf")

    def may_try(self, now_s: float) -> bool:
        """Whether a mosaic may be made: it is within the allowance, or to be tried."""
        if not self._allowed:
            return False
        if not self._is_known or self._is_within:
            return True
        return now_s - self._tried_s >= RETRY_S

    def begin(self, now_s: float) -> bool:
        """Begin a mosaic; says whether its pictures are to be looked at whole, too."""
        self._mosaics += 1
        if self._is_known and self._is_within:
            return self._mosaics % AUDIT_EACH == 0
        if self._is_known:
            self._tried_s = now_s
        return True

    def compare(
        self, whole: Sequence[Seen], part: Sequence[Seen], region: Region
    ) -> None:
        """Count what is surely there, in a part of a picture, and is not seen in it.

        Unsure boxes of the part count: they are enough to follow what is known.
        """
        near = np.array([one.region for one in part]).reshape(-1, 4)
        for one in whole:
            if one.score >= self._sure and _is_in(one.region, region):
                overlap = overlaps(np.array([one.region]), near)
                self._found.append(bool((overlap >= SAME).any()))

    def figures(self) -> MosaicFigures:
        """What they cost."""
        return MosaicFigures(
            allowed=self._allowed,
            objects=len(self._found),
            lost_share=self._lost if self._found else None,
            is_used=bool(self._allowed) and self._is_known and self._is_within,
        )

    @property
    def _is_known(self) -> bool:
        return len(self._found) >= LEAST_KNOWN

    @property
    def _lost(self) -> float:
        return self._found.count(False) / max(1, len(self._found))

    @property
    def _is_within(self) -> bool:
        return self._lost <= self._allowed


def _is_in(region: Region, around: Region) -> bool:
    return (
        around[0] <= region[0]
        and around[1] <= region[1]
        and region[2] <= around[2]
        and region[3] <= around[3]
    )

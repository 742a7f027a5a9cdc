"""Boxes around objects, found and true, and where a picture lies in the model's input.

Boxes are x_min, y_min, x_max, y_max in pixels of the model's input. Truths are told in
pixels of the picture and moved into the input's: the overlap of two boxes is the same
in both, however the axes were stretched, and areas are kept in the picture's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.float64]
"""Boxes, [n, 4]: x_min, y_min, x_max, y_max."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a picture lies after some steps: x becomes x · scale_x + left.

    Attributes:
        rows: Rows of the result.
        columns: Columns of the result.
        scale_x: How much wider a pixel became.
        scale_y: How much higher.
        left: Columns put on the left.
        top: Rows put on top.
    """

    rows: int
    columns: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    def then(self, after: Placement) -> Placement:
        """The placement after a further step, given as its own placement."""
        return Placement(
            rows=after.rows,
            columns=after.columns,
            scale_x=self.scale_x * after.scale_x,
            scale_y=self.scale_y * after.scale_y,
            left=self.left * after.scale_x + after.left,
            top=self.top * after.scale_y + after.top,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """Objects found in one picture, the surest first.

    Attributes:
        corners: float64 [n, 4].
        labels: Indices of classes, int64 [n].
        scores: float64 [n].
    """

    corners: Corners
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrueBoxes:
    """The objects that are in one picture.

    Attributes:
        corners: float64 [n, 4].
        labels: Indices of classes, int64 [n].
        is_crowd: Whether a box holds many objects, which need not be found one by one,
            bool [n].
        areas: Areas in pixels of the picture, float64 [n]: those of the objects'
            outlines where they are known, as COCO has them, else those of the boxes.
        pixel_area: Area of a picture's pixel in pixels of the corners.
    """

    corners: Corners
    labels: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    pixel_area: float = 1.0

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.labels)

    def moved(self, placement: Placement) -> Self:
        """Move the boxes to where the picture lies after some steps."""
        scales = (placement.scale_x, placement.scale_y) * 2
        corner = (placement.left, placement.top) * 2
        return replace(
            self,
            corners=self.corners * np.array(scales) + np.array(corner),
            pixel_area=self.pixel_area * placement.scale_x * placement.scale_y,
        )


def areas_of(corners: Corners) -> NDArray[np.float64]:
    """The areas of boxes, float64 [n]."""
    sides = corners[:, 2:] - corners[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1])


def overlaps(
    found: Corners, true: Corners, is_crowd: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Compute the intersection over the union of each pair of boxes.

    For a crowd it is the intersection over the area of the box found, as COCO's
    `maskApi.c` has it: a crowd may hold many of them.

    Args:
        found: [n, 4].
        true: [m, 4].
        is_crowd: Which of `true` are crowds, bool [m]; none where None.

    Returns:
        float64 [n, m]; 0 where the union is empty.
    """
    lower = np.maximum(found[:, None, :2], true[None, :, :2])
    upper = np.minimum(found[:, None, 2:], true[None, :, 2:])
    sides = np.clip(upper - lower, 0, None)
    inside = sides[:, :, 0] * sides[:, :, 1]
    own = areas_of(found)[:, None]
    union = own + areas_of(true)[None] - inside
    if is_crowd is not None:
        union = np.where(is_crowd[None], own, union)
    return np.asarray(
        np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    )

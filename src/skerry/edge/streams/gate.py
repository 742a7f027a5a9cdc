"""The gate: does anything move, and how much, from brightness alone.

The difference to a running mean (the oldest method of all; see M. Piccardi, "Background
subtraction techniques: a review", SMC 2004) on every n-th pixel of every n-th row. What
changes everywhere alike is the light and not a movement. What differs from the mean and
not from the picture before stands still, or is where somebody was: it melts into the
mean within a second, and is no movement. Integers throughout: it must cost next to
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = 160
"""About so many columns are looked at."""

CELL = 10
"""Pixels of a cell's side, of those that are looked at."""

LEAST_CHANGE = 12
"""Levels of brightness that a pixel changes by at least when something moves."""

LEAST_SHARE = 0.12
"""A cell is moving when so much of it changes."""

STEP_SHARE = 0.05
"""So much of a cell changes from picture to picture where something moves in it ..."""

STEP_CHANGE = 0.7
"""... by so much of what is a change from the mean."""

_SHIFT = 4
"""The mean follows with a weight of 2⁻⁴; it is kept in sixteenths of a level."""

Region = tuple[float, float, float, float]
"""Left, top, right and bottom, as fractions of the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the gate saw in one picture.

    Attributes:
        share: Of the cells that move, 0–1.
        region: Around all of them; None where nothing moves.
        is_light: Whether the light changed, so that nothing can be said.
    """

    share: float
    region: Region | None = None
    is_light: bool = False

    @property
    def is_moving(self) -> bool:
        """Whether it is worth a look."""
        return self.share > 0


class _Sheets:
    """A camera's pictures as the gate has them: rows × columns of those looked at.

    All are kept from picture to picture: new ones would cost more than what is done
    with them.
    """

    def __init__(self, first: NDArray[np.uint8]) -> None:
        self.small: NDArray[np.int16] = first.astype(np.int16)
        self.mean: NDArray[np.int16] = self.small << _SHIFT
        self.last: NDArray[np.int16] = np.empty_like(self.small)
        self.change: NDArray[np.int16] = np.empty_like(self.small)
        self.part: NDArray[np.int16] = np.empty_like(self.small)
        self.changed: NDArray[np.bool_] = np.empty(first.shape, np.bool_)

    def take(self, small: NDArray[np.uint8]) -> None:
        """The next picture; the one before becomes the last."""
        self.small, self.last = self.last, self.small
        np.copyto(self.small, small)

    def start_anew(self) -> None:
        """What is seen now is the mean."""
        np.left_shift(self.small, _SHIFT, out=self.mean)

    def change_from_mean(self) -> int:
        """How far each pixel is from the mean but for the light; how far that is."""
        np.right_shift(self.mean, _SHIFT, out=self.part)
        return self._change(self.part)

    def change_from_last(self) -> int:
        """The same, from the picture before."""
        return self._change(self.last)

    def follow(self) -> None:
        """Bring the mean a step nearer to what is seen."""
        # In sixteenths, so that a slow change of light is followed to the end.
        np.left_shift(self.small, _SHIFT, out=self.part)
        self.part -= self.mean
        self.part >>= _SHIFT
        self.mean += self.part

    def cells(self, limit: float, share: float) -> NDArray[np.bool_]:
        """The cells of which more than a share has changed by more than a limit."""
        # Comparing integers with a fraction takes three times as long.
        over = np.greater(self.change, math.floor(limit), out=self.changed)
        return _cells(over, share)

    def melt(self, cells: NDArray[np.bool_]) -> None:
        """Bring the mean half way to what is there in some cells."""
        for row, column in np.argwhere(cells) * CELL:
            part = np.s_[row : row + CELL, column : column + CELL]
            self.mean[part] += ((self.small[part] << _SHIFT) - self.mean[part]) >> 1

    def _change(self, old: NDArray[np.int16]) -> int:
        change = np.subtract(self.small, old, out=self.change)
        light = round(_average(change))
        change -= np.int16(light)
        np.abs(change, out=change)
        return light


class Gate:
    """Watches one camera."""

    def __init__(self) -> None:
        self._sheets: _Sheets | None = None
        self._noise = float(LEAST_CHANGE) / 4
        self._size: tuple[int, ...] = ()

    def look(self, luma: NDArray[np.uint8]) -> Activity:
        """Take a picture's brightness, rows × columns, and say what moves."""
        step = max(1, round(luma.shape[1] / COLUMNS))
        small = luma[::step, ::step]
        small = small[: len(small) // CELL * CELL, : small.shape[1] // CELL * CELL]
        if small.size == 0:
            return Activity(share=1.0)  # too small to tell: worth a look
        if self._sheets is None or luma.shape != self._size:
            self._size, self._sheets = luma.shape, _Sheets(small)
            return Activity(share=1.0, region=(0.0, 0.0, 1.0, 1.0))
        sheets = self._sheets
        sheets.take(small)
        light = sheets.change_from_mean()
        limit = max(LEAST_CHANGE, round(4 * self._noise))
        cells = sheets.cells(limit, LEAST_SHARE)
        sheets.follow()
        share = float(np.count_nonzero(cells)) / cells.size
        if abs(light) > LEAST_CHANGE and share > 0.5:
            sheets.start_anew()
            return Activity(share=share, region=(0.0, 0.0, 1.0, 1.0), is_light=True)
        quiet = min(_average(sheets.change), float(LEAST_CHANGE))
        self._noise += (quiet - self._noise) / 16
        if share:
            sheets.change_from_last()
            still = cells & ~sheets.cells(STEP_CHANGE * limit, STEP_SHARE)
            sheets.melt(still)
            cells &= ~still
            share = float(np.count_nonzero(cells)) / cells.size
        return Activity(share=share, region=_around(cells))


def _average(values: NDArray[np.int16]) -> float:
    # A sum of integers is several times as quick as NumPy's mean of them.
    return int(values.sum(dtype=np.int32)) / values.size


def _cells(changed: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """The cells of which more than a share has changed."""
    rows, columns = changed.shape
    # At most CELL² each: a byte will do. Two sums are quicker than one over both axes.
    strips = changed.view(np.uint8).reshape(rows // CELL, CELL, columns)
    sums = strips.sum(axis=1, dtype=np.uint8)
    parts = sums.reshape(rows // CELL, columns // CELL, CELL)
    counts: NDArray[np.uint8] = parts.sum(axis=2, dtype=np.uint8)
    return counts > share * CELL * CELL


def _around(cells: NDArray[np.bool_]) -> Region | None:
    rows = np.flatnonzero(cells.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(cells.any(axis=0))
    height, width = cells.shape
    return (
        float(columns[0]) / width,
        float(rows[0]) / height,
        float(columns[-1] + 1) / width,
        float(rows[-1] + 1) / height,
    )

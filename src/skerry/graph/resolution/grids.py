"""Grids and anchors at another resolution.

A detector that decodes its own boxes holds constants with one entry a cell: where the
cell is, how far cells are apart, how large an anchor is. Each is told by what it is
made of: a position grows evenly from cell to cell, by 1 (in cells), by the stride (in
pixels) or by the stride ÷ the side (as a fraction); a stride is the same everywhere;
an anchor's side too, in the unit that the positions are in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph.resolution.axes import Axis, Factor

_SAME = 1e-4
"""Largest difference of a grid from even steps, relative to its largest number."""

Sides = tuple[int, int]
"""Rows and columns of a picture."""

_Fibre = NDArray[np.float64]
_Remake = Callable[[str, _Fibre, tuple[Factor, ...]], _Fibre]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellConstant:
    """A constant that has entries for the cells of a grid.

    Attributes:
        name: What messages call it.
        array: What it holds at the old resolution.
        axes: One an axis of the array.
    """

    name: str
    array: Array
    axes: tuple[Axis, ...]


class Grids:
    """Makes constants of cells for another resolution.

    Args:
        old: Rows and columns of the picture before.
        new: Rows and columns after.
    """

    def __init__(self, old: Sides, new: Sides) -> None:
        self._old, self._new = old, new
        self._fractions: set[bool] = set()

    def remake(self, constants: Sequence[CellConstant]) -> list[Array]:
        """Make all constants of cells of a graph; positions tell the unit of sizes.

        Raises:
            ModelError: It cannot be told how one depends on the resolution.
        """
        for one in constants:
            _take_apart(one, self._learn)
        return [_take_apart(one, self._remade) for one in constants]

    def _learn(self, name: str, fibre: _Fibre, factors: tuple[Factor, ...]) -> _Fibre:
        """Find out the unit of a position; the fibre itself does not matter yet."""
        _, slopes = _fit(name, fibre)
        for slope, factor in zip(slopes, factors, strict=True):
            if slope:
                self._fractions.add(self._step(name, slope, factor)[1])
        return np.zeros([factor.new for factor in factors])

    def _remade(self, name: str, fibre: _Fibre, factors: tuple[Factor, ...]) -> _Fibre:
        offset, slopes = _fit(name, fibre)
        if not any(slopes):
            scale = self._scale_of_size(name, offset, factors)
            return np.full([factor.new for factor in factors], offset * scale)
        grid = np.indices([factor.new for factor in factors], dtype=np.float64)
        made: _Fibre = np.zeros([factor.new for factor in factors])
        for slope, factor, places in zip(slopes, factors, grid, strict=True):
            if slope:
                step, is_fraction = self._step(name, slope, factor)
                made += step * places
                offset *= self._shrinks(factor) if is_fraction else 1.0
        return made + offset

    def _step(self, name: str, slope: float, factor: Factor) -> tuple[float, bool]:
        """From cell to cell at the new resolution, and whether it is a fraction."""
        side = factor.side or 0
        if math.isclose(slope, 1, rel_tol=_SAME) or _is_stride(
            slope, self._old[side], factor.old
        ):
            return slope, False
        if _is_stride(slope * self._old[side], self._old[side], factor.old):
            return slope * self._shrinks(factor), True
        raise ModelError(
            f"the constant {name!r} grows by {slope:g} from cell to cell: it cannot be "
            "told how that depends on the resolution",
            hint="Export the model again at the resolution that you want.",
        )

    def _scale_of_size(
        self, name: str, size: float, factors: tuple[Factor, ...]
    ) -> float:
        """By what a number that is the same in all cells changes."""
        strides = (
            _is_stride(size, self._old[factor.side or 0], factor.old)
            for factor in factors
        )
        if size == 0 or any(strides) or self._fractions == {False}:
            return 1.0
        scales = {old / new for old, new in zip(self._old, self._new, strict=True)}
        if self._fractions == {True} and len(scales) == 1:
            return scales.pop()
        raise ModelError(
            f"the constant {name!r} holds {size:g} in each cell: it cannot be told "
            "whether that is in pixels or a fraction of the picture",
            hint="Export the model again at the resolution that you want."
            if self._fractions != {True}
            else "Change height and width by the same factor.",
        )

    def _shrinks(self, factor: Factor) -> float:
        side = factor.side or 0
        return self._old[side] / self._new[side]


def _take_apart(constant: CellConstant, remake: _Remake) -> Array:
    """Remake a constant piece by piece, position by position within a cell."""
    dtype = constant.array.dtype
    made = np.zeros([axis.new for axis in constant.axes], dtype)
    for block in itertools.product(*map(_spans, constant.axes)):
        factors = [factor for piece, _, _ in block for factor in piece]
        if any(factor.follows and factor.side is None for factor in factors):
            raise ModelError(
                f"the constant {constant.name!r} has an axis that depends on the "
                "resolution in a way that cannot be told",
                hint="Export the model again at the resolution that you want.",
            )
        old = constant.array[tuple(span for _, span, _ in block)]
        new = _remake_block(constant.name, old, factors, remake)
        into = made[tuple(span for _, _, span in block)]
        made[tuple(span for _, _, span in block)] = new.reshape(into.shape)
    return made


def _remake_block(
    name: str, old: Array, factors: Sequence[Factor], remake: _Remake
) -> Array:
    cells = [place for place, one in enumerate(factors) if one.side is not None]
    free = [place for place in range(len(factors)) if place not in cells]
    if not cells:
        return old
    order = [*free, *cells]
    wide = old.reshape([factor.old for factor in factors]).astype(np.float64)
    wide = wide.transpose(order)
    sizes = [factors[place].new for place in order]
    made = np.zeros(sizes)
    for index in np.ndindex(*sizes[: len(free)]):
        made[index] = remake(name, wide[index], tuple(factors[i] for i in cells))
    return np.asarray(made.transpose(np.argsort(order)))


def _spans(axis: Axis) -> list[tuple[tuple[Factor, ...], slice, slice]]:
    """The pieces of an axis, and where each lies before and after."""
    spans, old, new = [], 0, 0
    for piece in axis.pieces:
        one = Axis(pieces=(piece,))
        spans.append((piece, slice(old, old + one.old), slice(new, new + one.new)))
        old, new = old + one.old, new + one.new
    return spans


def _fit(name: str, fibre: _Fibre) -> tuple[float, tuple[float, ...]]:
    """The offset and the step along each axis of a grid.

    Raises:
        ModelError: It does not grow evenly.
    """
    offset = float(fibre.reshape(-1)[0])
    slopes = []
    for axis, size in enumerate(fibre.shape):
        last = np.take(fibre, -1, axis=axis).reshape(-1)[0]
        slopes.append(float(last - offset) / (size - 1) if size > 1 else 0.0)
    places = np.indices(fibre.shape, dtype=np.float64)
    drawn = offset + sum(s * p for s, p in zip(slopes, places, strict=True))
    if not np.abs(fibre - drawn).max() <= _SAME * np.abs(fibre).max():
        raise ModelError(
            f"the constant {name!r} has an entry a cell and is no grid: it was learnt "
            "at this resolution",
            hint="Fine-tune the model at the other resolution, and export it again.",
        )
    return offset, tuple(slopes)


def _is_stride(number: float, side: int, cells: int) -> bool:
    """Whether a side of so many pixels has so many cells that far apart."""
    if number < 1 or not math.isclose(number, round(number), rel_tol=_SAME):
        return False
    return side // round(number) <= cells <= -(-side // round(number))

"""Axes of tensors at two resolutions: their sizes, and what these are made of.

A detector's 3549 cells are 52·52 + 26·26 + 13·13: an axis is a sum of products, and
each factor knows whether it counts rows or columns of the picture.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal[0, 1]
"""Of the picture: 0 for rows, 1 for columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A size before and after; `side` where it counts rows or columns."""

    old: int
    new: int
    side: Side | None = None

    @property
    def follows(self) -> bool:
        """Whether it depends on the resolution."""
        return self.side is not None or self.old != self.new


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis as pieces in a row, each a product of factors, the slowest first."""

    pieces: tuple[tuple[Factor, ...], ...]

    @property
    def old(self) -> int:
        """Its size before."""
        return sum(math.prod(one.old for one in piece) for piece in self.pieces)

    @property
    def new(self) -> int:
        """Its size after."""
        return sum(math.prod(one.new for one in piece) for piece in self.pieces)

    @property
    def follows(self) -> bool:
        """Whether it depends on the resolution."""
        return any(factor.follows for piece in self.pieces for factor in piece)

    @property
    def side(self) -> Side | None:
        """The side of the picture that it counts, where it counts nothing else."""
        return self.pieces[0][0].side if self._is_single else None

    @property
    def _is_single(self) -> bool:
        return len(self.pieces) == 1 and len(self.pieces[0]) == 1


Axes = tuple[Axis, ...]


def axis_of(old: int, new: int, side: Side | None = None) -> Axis:
    """An axis of one factor."""
    return Axis(pieces=((Factor(old=old, new=new, side=side),),))


def regroup(axes: Sequence[Axis], sizes: Sequence[int]) -> Axes | None:
    """Find what the axes of a reshaped tensor are made of.

    Args:
        axes: Of the tensor before.
        sizes: Of the tensor after, at the old resolution.

    Returns:
        One axis a size; None where it cannot be told which part follows what.
    """
    left = deque(unit for axis in axes for unit in _units(axis))
    if any(unit.old == 1 for unit in left) or 0 in sizes:
        return None
    found: list[Axis] = []
    for size in sizes:
        group: list[Axis] = []
        missing = size
        while missing > 1:
            if not left:
                return None
            unit = left.popleft()
            if missing % unit.old:
                parts = _split(unit, missing)
                if parts is None:
                    return None
                unit = parts[0]
                left.appendleft(parts[1])
            group.append(unit)
            missing //= unit.old
        found.append(_product(group))
    return None if left else tuple(found)


def _units(axis: Axis) -> list[Axis]:
    """What stays together when axes are regrouped; sizes of 1 are nothing."""
    if len(axis.pieces) > 1:
        return [axis]
    factors = [one for one in axis.pieces[0] if (one.old, one.new) != (1, 1)]
    return [Axis(pieces=((one,),)) for one in factors]


def _split(unit: Axis, first: int) -> tuple[Axis, Axis] | None:
    """Split a unit so that its first part has a size, where it is clear how."""
    if len(unit.pieces) > 1 or unit.old % first:
        return None
    second = unit.old // first
    if unit.old == unit.new:
        return axis_of(first, first), axis_of(second, second, unit.side)
    ways = []
    if unit.new % first == 0:
        ways.append(
            (axis_of(first, first), axis_of(second, unit.new // first, unit.side))
        )
    if unit.new % second == 0:
        ways.append(
            (axis_of(first, unit.new // second, unit.side), axis_of(second, second))
        )
    return ways[0] if len(ways) == 1 else None


def _product(group: Sequence[Axis]) -> Axis:
    if len(group) == 1:
        return group[0]
    if all(len(axis.pieces) == 1 for axis in group):
        factors = tuple(factor for axis in group for factor in axis.pieces[0])
        return Axis(pieces=(factors or (Factor(old=1, new=1),),))
    return axis_of(
        math.prod(axis.old for axis in group), math.prod(axis.new for axis in group)
    )

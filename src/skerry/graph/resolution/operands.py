"""The constants of a node that say shapes, at another resolution.

Each function takes what the operand held and the axes of what the node reads, and
gives what it must hold; None means that it cannot be told.
"""

from __future__ import annotations

from collections.abc import Sequence

from skerry.graph.resolution.axes import Axes, Axis, axis_of, regroup

_OPEN_END = 2**31 - 1
"""From here on an end means all that is left."""

_MARGIN = 2
"""Most cells that a slice may cut off an end as a margin rather than a proportion."""

_SMALL = 8
"""Axes under this size have no margins."""


def reshape_target(
    axes: Axes, target: Sequence[int], old_sizes: Sequence[int]
) -> list[int] | None:
    """The target of a Reshape.

    Args:
        axes: Of what is reshaped.
        target: What the node was given; 0 and -1 stay what they are.
        old_sizes: What became of it.
    """
    found = regroup(axes, old_sizes)
    if found is None:
        return None
    pairs = zip(target, found, strict=True)
    return [said if said in (0, -1) else axis.new for said, axis in pairs]


def expand_target(axes: Axes, target: Sequence[int]) -> list[int]:
    """The target of an Expand: what an axis had, it has."""
    new = list(target)
    for place in range(1, min(len(axes), len(target)) + 1):
        if target[-place] == axes[-place].old:
            new[-place] = axes[-place].new
    return new


def resize_target(axes: Axes, target: Sequence[int]) -> list[int] | None:
    """The sizes of a Resize: the same ratios, which must lead to whole numbers."""
    new = []
    for axis, size in zip(axes, target, strict=True):
        grown = size * axis.new
        if axis.old == 0 or grown % axis.old:
            return None
        new.append(grown // axis.old if axis.follows else size)
    return new


def slice_bounds(
    axis: Axis, start: int, end: int, step: int
) -> tuple[int, int, Axis] | None:
    """The bounds of a slice of an axis that follows the resolution, and what it gives.

    All of it, whole pieces of it, margins at its ends, and what is counted from the end
    by negative numbers can be told; a part of it cannot.
    """
    if step < 1:
        return None
    size = axis.old
    first = max(start + size, 0) if start < 0 else min(start, size)
    last = max(end + size, 0) if end < 0 else min(end, size)
    edges = _edges(axis)
    if first in edges and last in edges and step == 1:
        kept = [
            piece
            for piece, (low, _) in zip(axis.pieces, _spans(axis), strict=True)
            if first <= low < last
        ]
        if len(kept) == len(axis.pieces):
            return start, end, axis
        if not kept:
            return None
        return edges[first], edges[last], Axis(pieces=tuple(kept))
    low = _offset(first, start, axis)
    high = _offset(last, end, axis)
    if low is None or high is None:
        return None
    old, new = (
        len(range(*slice(a, b, step).indices(n)))
        for a, b, n in ((first, last, axis.old), (low, high, axis.new))
    )
    return low, high, axis_of(old, new, axis.side)


def split_sizes(axis: Axis, sizes: Sequence[int]) -> list[Axis] | None:
    """What a Split makes of an axis that follows the resolution."""
    found, start = [], 0
    for size in sizes:
        part = slice_bounds(axis, start, start + size, 1)
        if part is None:
            break
        found.append(part[2])
        start += size
    is_by_pieces = (
        len(found) == len(sizes) and sum(one.new for one in found) == axis.new
    )
    if is_by_pieces:
        return found
    if len(set(sizes)) == 1 and axis.new % len(sizes) == 0:
        return [axis_of(size, axis.new // len(sizes), axis.side) for size in sizes]
    return None


def _offset(place: int, said: int, axis: Axis) -> int | None:
    """Where a bound lies at the new resolution: at an end, or by a margin from it."""
    if said < 0:
        return said
    if place == axis.old:
        return max(said, _OPEN_END)
    if axis.old < _SMALL:
        return 0 if place == 0 else None
    if place <= _MARGIN:
        return place
    return axis.new - (axis.old - place) if axis.old - place <= _MARGIN else None


def _spans(axis: Axis) -> list[tuple[int, int]]:
    """Where each piece begins, before and after."""
    spans, old, new = [], 0, 0
    for piece in axis.pieces:
        spans.append((old, new))
        one = Axis(pieces=(piece,))
        old, new = old + one.old, new + one.new
    return spans


def _edges(axis: Axis) -> dict[int, int]:
    """The places between pieces, before and after; both ends are among them."""
    return {**dict(_spans(axis)), axis.old: axis.new}

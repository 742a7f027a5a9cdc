"""Find where bytes of a new blob come from in the old one, changed or not.

C. Percival, "Naive differences of executable code" (2003), has the idea: what was moved
or changed a little lies on a diagonal, a distance between old and new place. Diagonals
are proposed by windows of eight bytes that occur once in the old blob, and by who knows
better; then each block of the new blob takes the one that costs least, where changing
it costs too (A. Viterbi, 1967), and borders are moved to the best byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
_WINDOW = 8
_MOST_DIAGONALS = 32
_LEAST_VOTES = 1
_MOST_LOOKUPS = 1 << 22
_LARGE_STEP = 5
"""Of a blob with more windows than are looked up, so many are passed over each time: an
odd number, which meets each multiple of a power of two."""

_STRETCH_BYTES = 1 << 19
_CHANGE_BITS = 96.0
_NEW_BITS = 6.0
_SAME_BITS = 0.05
_OUTSIDE_BITS = 1e5
_DISTANCES = np.minimum(np.arange(256), 256 - np.arange(256))
_BITS = np.where(
    _DISTANCES == 0,
    _SAME_BITS,
    np.minimum(3 + 1.2 * np.log2(np.maximum(_DISTANCES, 1)), 10),
).astype(np.float32)
"""About what a byte costs by how far it is from the old one."""

Bytes = NDArray[np.uint8]
Costs = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Bytes of the new blob.

    Attributes:
        start: Where they begin.
        size: How many there are.
        offset: Where those begin, in the old blob, that they are like; None for none.
    """

    start: int
    size: int
    offset: int | None


class Matcher:
    """Finds what stretches of a new blob are like in an old one.

    Args:
        old: The old blob.
    """

    def __init__(self, old: Bytes) -> None:
        self._old = old
        stride = _WINDOW
        while len(old) > stride * _MOST_LOOKUPS:
            stride *= 2
        self._step = 1 if stride == _WINDOW else _LARGE_STEP
        places = np.arange(0, max(len(old) - _WINDOW + 1, 0), stride)
        keys, first, counts = np.unique(
            _windows(old, places), return_index=True, return_counts=True
        )
        self._keys = keys[counts == 1]
        self._places = places[first[counts == 1]]

    def find_runs(
        self, new: Bytes, start: int, end: int, hints: Sequence[int]
    ) -> Iterator[Run]:
        """Say of a stretch of the new blob what it is like.

        Args:
            new: The new blob.
            start: Where the stretch begins.
            end: Where it ends.
            hints: Diagonals that are likely: how much further it lies in the old blob.
        """
        for low in range(start, end, _STRETCH_BYTES):
            high = min(low + _STRETCH_BYTES, end)
            yield from self._find(new, low, high, hints)

    def _find(
        self, new: Bytes, start: int, end: int, hints: Sequence[int]
    ) -> list[Run]:
        votes = self._vote(new[start:end], start)
        diagonals = list(dict.fromkeys([*hints, *votes]))
        costs = [_cost(self._old, new, start, end, one) for one in diagonals]
        costs.append(np.full(end - start, _NEW_BITS, np.float32))
        stacked = np.stack(costs)
        edges = np.arange(0, end - start, BLOCK)
        chosen = _cheapest_path(np.add.reduceat(stacked, edges, axis=1))
        return _runs(chosen, stacked, start, diagonals)

    def _vote(self, part: Bytes, start: int) -> list[int]:
        """Diagonals on which windows of eight bytes are the same."""
        if len(part) < _WINDOW or not self._keys.size:
            return []
        asked = np.arange(0, len(part) - _WINDOW + 1, self._step)
        wanted = _windows(part, asked)
        found = np.searchsorted(self._keys, wanted)
        found = np.minimum(found, len(self._keys) - 1)
        is_found = self._keys[found] == wanted
        distances = self._places[found[is_found]] - (asked[is_found] + start)
        values, votes = np.unique(distances, return_counts=True)
        order = np.argsort(-votes, kind="stable")[:_MOST_DIAGONALS]
        return [int(values[one]) for one in order if votes[one] >= _LEAST_VOTES]


def _windows(content: Bytes, places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The eight bytes at each place as one number."""
    found = np.zeros(len(places), np.uint64)
    for step in range(_WINDOW):
        found |= content[places + step].astype(np.uint64) << np.uint64(8 * step)
    return found


def _cost(old: Bytes, new: Bytes, start: int, end: int, diagonal: int) -> Costs:
    """What each byte costs on a diagonal; outside the old blob is no way."""
    costs = np.full(end - start, _OUTSIDE_BITS, np.float32)
    low = max(start, -diagonal)
    high = min(end, len(old) - diagonal)
    if low < high:
        steps = new[low:high] - old[low + diagonal : high + diagonal]
        costs[low - start : high - start] = _BITS[steps]
    return costs


def _cheapest_path(costs: Costs) -> list[int]:
    """Which row to take for each column, where to change rows costs too."""
    ways, columns = costs.shape
    came = np.empty((columns, ways), np.int32)
    total = costs[:, 0].copy()
    for column in range(columns):
        best = int(total.argmin())
        change = total[best] + _CHANGE_BITS
        came[column] = np.where(total > change, best, np.arange(ways))
        total = np.minimum(total, change) + costs[:, column]
    path = [int(total.argmin())]
    for column in range(columns - 1, 0, -1):
        path.append(int(came[column][path[-1]]))
    return path[::-1]


def _runs(path: list[int], costs: Costs, start: int, diagonals: list[int]) -> list[Run]:
    size = costs.shape[1]
    borders = [(0, path[0])]
    for block in range(1, len(path)):
        if path[block] != path[block - 1]:
            middle = block * BLOCK
            low = max(middle - BLOCK, borders[-1][0])
            high = min(middle + BLOCK, size)
            gain = costs[path[block - 1], low:high] - costs[path[block], low:high]
            # Before the border the one row is paid, behind it the other.
            paid = np.concatenate([[0.0], np.cumsum(gain, dtype=np.float64)])
            borders.append((low + int(paid.argmin()), path[block]))
    ends = [place for place, _ in borders[1:]] + [size]
    runs = []
    for (place, row), end in zip(borders, ends, strict=True):
        if end > place:
            offset = start + place + diagonals[row] if row < len(diagonals) else None
            runs.append(Run(start=start + place, size=end - place, offset=offset))
    return runs

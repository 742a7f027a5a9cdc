"""The head of text detectors that say of each pixel whether it is text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.tasks.heads import Candidates

MOST_REGIONS = 4096
"""Most regions of a map that become candidates, the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dbnet:
    """Lines of text as regions of a map of probabilities.

    M. Liao et al., "Real-time Scene Text Detection with Differentiable Binarization",
    AAAI 2020, section 3.4: pixels above `threshold` that touch are one shrunken line;
    it grows back on each side by area · unclip / perimeter. Boxes are upright, and
    their score is the mean over the region; lines at an angle get the box around them.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        threshold: The probability above which a pixel is text.
        unclip: How far a region grows back.
        min_side: Regions that are narrower, in pixels of the map, are passed over.
        output: Name of the output, [1, H, W]; the first one where empty.
    """

    version: ClassVar[int] = 1

    height: int
    width: int
    threshold: float = 0.3
    unclip: float = 1.6
    min_side: int = 3
    output: str = ""

    def __post_init__(self) -> None:
        """Refuse what finds no text."""
        is_right = self.height >= 1 and self.width >= 1 and self.min_side >= 1
        if not (is_right and 0 < self.threshold < 1 and 0 <= self.unclip < np.inf):
            raise UsageError(
                f"dbnet: got an input of {self.height} × {self.width}, threshold "
                f"{self.threshold}, unclip {self.unclip}, min_side {self.min_side}; "
                "expected pixels, a fraction, 0 or more, and 1 or more",
                hint="Use threshold = 0.3, unclip = 1.6, min_side = 3.",
            )

    def read(self, outputs: Mapping[str, Array], least: float = 0.0) -> Candidates:
        """Read a map [1, H, W]; one class, text."""
        name = self.output or next(iter(outputs), "")
        if name not in outputs:
            raise DataError(
                f"the model has no output called {name!r}",
                hint=did_you_mean(name, outputs),
            )
        chart = outputs[name].astype(np.float64)
        if chart.ndim != 3 or chart.shape[0] != 1 or not chart.size:
            raise DataError(
                f"dbnet takes 1 × rows × columns, got {chart.shape}",
                hint="Name the output in the step.",
            )
        chart = np.nan_to_num(chart[0], nan=0.0, posinf=0.0, neginf=0.0)
        corners, scores = self._regions(chart)
        rows, columns = chart.shape
        scale = np.array([self.width / columns, self.height / rows] * 2)
        is_sure = scores >= least
        return Candidates(
            corners=(corners * scale)[is_sure], scores=scores[is_sure, None]
        )

    def _regions(
        self, chart: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The grown boxes in pixels of the map, and their scores."""
        rows, firsts, ends, regions = find_regions(chart > self.threshold)
        count = int(regions.max(initial=-1)) + 1
        sums = np.concatenate([np.zeros((len(chart), 1)), chart.cumsum(axis=1)], axis=1)
        inside = np.bincount(
            regions, sums[rows, ends] - sums[rows, firsts], minlength=count
        )
        area = np.bincount(regions, ends - firsts, minlength=count)
        corners = np.empty((count, 4))
        for column, values, ufunc in (
            (0, firsts, np.minimum),
            (1, rows, np.minimum),
            (2, ends, np.maximum),
            (3, rows + 1, np.maximum),
        ):
            corners[:, column] = np.inf if ufunc is np.minimum else -np.inf
            ufunc.at(corners[:, column], regions, values)
        sides = corners[:, 2:] - corners[:, :2]
        kept = np.flatnonzero(sides.min(axis=1, initial=np.inf) >= self.min_side)
        kept = kept[np.argsort(-area[kept], kind="stable")[:MOST_REGIONS]]
        corners, sides = corners[kept], sides[kept]
        grown = sides.prod(axis=1) * self.unclip / (2 * sides.sum(axis=1))
        corners += grown[:, None] * np.array([-1, -1, 1, 1])
        limits = np.array([chart.shape[1], chart.shape[0]] * 2)
        return np.clip(corners, 0, limits), inside[kept] / area[kept]


def find_regions(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Label the regions of pixels that touch, also at a corner, run by run.

    Two passes over the runs of each row with a table of equals (A. Rosenfeld and J.
    Pfaltz, "Sequential Operations in Digital Picture Processing", JACM 13, 1966).

    Args:
        mask: Which pixels belong to a region, bool [H, W].

    Returns:
        Of each run of pixels its row, its first column, the column after its last,
        and its region; regions count from 0.
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, firsts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    parents = list(range(len(rows)))
    starts = np.searchsorted(rows, np.arange(len(mask) + 1))
    for row in range(1, len(mask)):
        above, own = range(*starts[row - 1 : row + 1]), range(*starts[row : row + 2])
        _join(parents, above, own, firsts, ends)
    roots = np.array([_root(parents, one) for one in range(len(rows))], dtype=np.intp)
    regions = np.unique(roots, return_inverse=True)[1]
    return rows, firsts, ends, regions.astype(np.intp)


def _join(
    parents: list[int],
    above: range,
    own: range,
    firsts: NDArray[np.intp],
    ends: NDArray[np.intp],
) -> None:
    """Make runs of two neighbouring rows equal where they touch."""
    upper, lower = above.start, own.start
    while upper < above.stop and lower < own.stop:
        if firsts[upper] <= ends[lower] and firsts[lower] <= ends[upper]:
            first, second = _root(parents, upper), _root(parents, lower)
            parents[max(first, second)] = min(first, second)
        if ends[upper] < ends[lower]:
            upper += 1
        else:
            lower += 1


def _root(parents: list[int], one: int) -> int:
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    return one

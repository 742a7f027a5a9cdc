"""How well a score tells abnormal samples from normal ones: the area under the ROC.

It is the probability that an abnormal sample has the higher score, a tie counting half
(the Mann-Whitney statistic; J. Hanley and B. McNeil, "The meaning and use of the area
under a receiver operating characteristic (ROC) curve", Radiology 143, 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.tally import Counts, divide


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RocArea:
    """The area under the ROC curve.

    Attributes:
        scores: One a sample, float64 [n]; infinite where the model gave no number.
        is_abnormal: bool [n].
    """

    scores: NDArray[np.float64]
    is_abnormal: NDArray[np.bool_]

    @property
    def units(self) -> int:
        """The samples."""
        return len(self.scores)

    @property
    def size(self) -> int:
        """One score a sample, which is summed a few times."""
        return 4 * self.units

    def values(self, counts: Counts) -> NDArray[np.float64]:
        """Σ over abnormal samples of the share of normal ones below, ties by half."""
        order = np.argsort(self.scores, kind="stable")
        ranked = self.scores[order]
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        drawn, is_abnormal = counts[:, order], self.is_abnormal[order]
        abnormal = np.add.reduceat(drawn * is_abnormal, starts, axis=1)
        normal = np.add.reduceat(drawn * ~is_abnormal, starts, axis=1)
        below = np.cumsum(normal, axis=1) - normal / 2
        pairs = abnormal.sum(axis=1) * normal.sum(axis=1)
        return divide((abnormal * below).sum(axis=1), pairs)

    def placements(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The share of the other samples that each one stands right to.

        Returns:
            For each abnormal sample the share of normal ones below it, and for each
            normal one the share of abnormal ones above it; ties count half.
        """
        high, low = self.scores[self.is_abnormal], self.scores[~self.is_abnormal]
        return _share_below(high, low), 1 - _share_below(low, high)


def tally_auc(predictions: Sequence[Prediction], labels: Sequence[Label]) -> RocArea:
    """Keep the scores; a sample for which the model gives no number counts as wrong.

    Raises:
        DataError: Not both normal and abnormal samples are there.
    """
    is_abnormal = np.array([label == 1 for label in labels], dtype=bool)
    abnormal = int(is_abnormal.sum())
    if len(labels) and abnormal in (0, len(labels)):
        raise DataError(
            f"{abnormal} of {len(labels)} samples are abnormal, expected some of both",
            hint="The area under the ROC curve compares normal and abnormal samples.",
        )
    scores = np.array([one.value for one in predictions], dtype=np.float64)
    wrong = np.where(is_abnormal, -np.inf, np.inf)
    return RocArea(
        scores=np.where(np.isnan(scores), wrong, scores), is_abnormal=is_abnormal
    )


def delong_variance(before: RocArea, after: RocArea) -> float:
    """The variance of the difference of two areas on the same samples.

    E. DeLong, D. DeLong and D. Clarke-Pearson, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", Biometrics 44, 1988.

    Returns:
        The variance; NaN with fewer than two samples of either kind.
    """
    changes = [
        second - first
        for first, second in zip(before.placements(), after.placements(), strict=True)
    ]
    if min(map(len, changes)) < 2:
        return float("nan")
    return float(sum(np.var(change, ddof=1) / len(change) for change in changes))


def _share_below(
    ones: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    ranked = np.sort(others)
    below = np.searchsorted(ranked, ones, side="left")
    equal = np.searchsorted(ranked, ones, side="right") - below
    return np.asarray((below + equal / 2) / len(others))

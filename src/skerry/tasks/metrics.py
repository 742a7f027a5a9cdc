"""What a prediction is worth, and how sure a difference between two models is.

Most metrics give a sample a score and a weight; the value over many samples is the sum
of the scores divided by the sum of the weights. For a share of right answers a score
is 0 or 1 and each weight is 1; for the character error the score is the edit distance
and the weight the length of the label. The others, such as an average precision, keep
a tally of all samples. Either way the difference of two models on the same samples has
an interval, and whether it is inside the noise can be said in plain words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skerry.core.budget import condition_limit
from skerry.core.errors import DataError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.report import ConditionRow
from skerry.tasks.detection import THRESHOLDS, make_tally
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.ranking import RocArea, delong_variance, tally_auc
from skerry.tasks.regression import tally_mae, tally_r2, tally_rmse
from skerry.tasks.tally import Quotient, Tally, value_of
from skerry.tasks.verification import (
    make_tar_tally,
    tally_rank1,
    tally_verification,
)

Score = Callable[[Prediction, Label], tuple[float, float]]
"""A prediction and its label in, score and weight out."""

_Z95 = NormalDist().inv_cdf(0.975)
_RESAMPLES = 2000
_FEWEST_RESAMPLES = 400
_MOST_NEEDED = 1e9
"""More samples than anybody has: a change that needs them is none."""

_MOST_NUMBERS = 100_000_000
"""How many numbers all resamples together may look at, before there are fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One way to score predictions.

    Attributes:
        name: Its name in task files and reports.
        kind: The kind of task it scores.
        higher_is_better: Whether a larger value is a better model.
        gather: Keeps what the value over many samples needs.
        is_share: Whether it is a fraction of 1, and not in the unit of the labels.
    """

    name: str
    kind: Literal[
        "classification", "text", "detection", "embedding", "anomaly", "regression"
    ]
    higher_is_better: bool
    gather: Callable[[Sequence[Prediction], Sequence[Label]], Tally]
    is_share: bool = True

    def tally(
        self, predictions: Sequence[Prediction], labels: Sequence[Label]
    ) -> Tally:
        """Keep what the metric needs of samples.

        Raises:
            DataError: The labels are too few, or of one kind, for the metric.
        """
        return self.gather(predictions, labels)

    def value(
        self, predictions: Sequence[Prediction], labels: Sequence[Label]
    ) -> float:
        """Compute the metric over samples.

        Raises:
            DataError: There is nothing to score, or not enough of it.
        """
        return value_over(self.tally(predictions, labels))

    def drop(self, before: float, delta: float) -> float:
        """What a change loses, as a fraction; below 0 is a gain.

        Args:
            before: The value before.
            delta: The value after − the value before.

        Returns:
            The change, turned so that a loss is above 0; where the metric is in the
            unit of the labels, relative to the value before.
        """
        loss = -delta if self.higher_is_better else delta
        if self.is_share or loss == 0:
            return loss
        return loss / before if before > 0 else math.copysign(math.inf, loss)


def condition_drops(rows: Iterable[ConditionRow], metric: str) -> dict[str, float]:
    """What is lost under each condition, by the name of its limit in a budget."""
    scoring = find_metric(metric)
    return {
        condition_limit(row.condition): scoring.drop(row.before, row.paired_delta)
        for row in rows
    }


def edit_distance(one: str, other: str) -> int:
    """Count the characters to insert, delete or replace to turn one into the other.

    The columns of the Levenshtein matrix are kept as bits of two integers (G. Myers,
    "A fast bit-vector algorithm for approximate string matching", J. ACM 46(3), 1999,
    in the form of H. Hyyrö, "A bit-vector algorithm for computing Levenshtein and
    Damerau edit distances", Nordic J. Computing 10, 2003, section 3).
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for place, character in enumerate(one):
        places[character] = places.get(character, 0) | 1 << place
    last, everywhere = 1 << (len(one) - 1), (1 << len(one)) - 1
    plus, minus, distance = everywhere, 0, len(one)
    for character in other:
        equal = places.get(character, 0)
        diagonal = (((equal & plus) + plus) ^ plus) | equal | minus
        plus_row = minus | ~(diagonal | plus)
        minus_row = plus & diagonal
        distance += bool(plus_row & last) - bool(minus_row & last)
        plus_row = plus_row << 1 | 1
        plus = (minus_row << 1 | ~(diagonal | plus_row)) & everywhere
        minus = plus_row & diagonal & everywhere
    return distance


def _by_score(
    score: Score,
) -> Callable[[Sequence[Prediction], Sequence[Label]], Quotient]:
    def gather(predictions: Sequence[Prediction], labels: Sequence[Label]) -> Quotient:
        rows = [score(*pair) for pair in zip(predictions, labels, strict=True)]
        table = np.array(rows, dtype=np.float64).reshape(-1, 2)
        return Quotient(scores=table[:, 0], weights=table[:, 1])

    return gather


def _top(k: int) -> Score:
    def score(prediction: Prediction, label: Label) -> tuple[float, float]:
        best = [index for index, _ in prediction.ranked[:k]]
        return float(label in best), 1.0

    return score


def _without_spaces(line: Label) -> str:
    return str(line).replace(" ", "")


def _line_right(prediction: Prediction, label: Label) -> tuple[float, float]:
    is_right = _without_spaces(prediction.label) == _without_spaces(label)
    return float(is_right), 1.0


def _character_error(prediction: Prediction, label: Label) -> tuple[float, float]:
    read, truth = _without_spaces(prediction.label), _without_spaces(label)
    return float(edit_distance(truth, read)), float(len(truth))


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="top1",
            kind="classification",
            higher_is_better=True,
            gather=_by_score(_top(1)),
        ),
        Metric(
            name="top5",
            kind="classification",
            higher_is_better=True,
            gather=_by_score(_top(5)),
        ),
        Metric(
            name="lines_right",
            kind="text",
            higher_is_better=True,
            gather=_by_score(_line_right),
        ),
        Metric(
            name="character_error",
            kind="text",
            higher_is_better=False,
            gather=_by_score(_character_error),
        ),
        *(
            Metric(name=name, kind="detection", higher_is_better=True, gather=gather)
            for name, gather in (
                ("map", make_tally()),
                ("map50", make_tally(THRESHOLDS[:1])),
                ("map_small", make_tally(area="small")),
                ("map_medium", make_tally(area="medium")),
                ("map_large", make_tally(area="large")),
            )
        ),
        *(
            Metric(name=name, kind="embedding", higher_is_better=True, gather=gather)
            for name, gather in (
                ("verification", tally_verification),
                ("tar_at_far_1e-2", make_tar_tally(1e-2)),
                ("tar_at_far_1e-3", make_tar_tally(1e-3)),
                ("tar_at_far_1e-4", make_tar_tally(1e-4)),
                ("rank1", tally_rank1),
            )
        ),
        Metric(name="auc", kind="anomaly", higher_is_better=True, gather=tally_auc),
        Metric(
            name="mae",
            kind="regression",
            higher_is_better=False,
            gather=tally_mae,
            is_share=False,
        ),
        Metric(
            name="rmse",
            kind="regression",
            higher_is_better=False,
            gather=tally_rmse,
            is_share=False,
        ),
        Metric(name="r2", kind="regression", higher_is_better=True, gather=tally_r2),
    )
}
"""The metrics by name.

`top1` and `top5` are the share of samples whose class is the best one, or among the
best five. `lines_right` is the share of lines read without a fault, and
`character_error` the edit distances divided by the lengths of the labels; both leave
spaces out, as PaddleOCR's `RecMetric` with its default `ignore_space=True` does.

`map` is COCO's mean average precision at overlaps of .5 to .95, `map50` that at .5, and
`map_small`, `map_medium` and `map_large` are COCO's by area. `verification` is the
accuracy at the best threshold by folds, `tar_at_far_1e-3` the share of pairs of one
person accepted where one in 1,000 pairs of two is, and `rank1` the share of pictures
whose nearest first picture is the same person's. `auc` is the area under the ROC curve;
`mae`, `rmse` and `r2` are a regression's.
"""


def find_metric(name: str) -> Metric:
    """Look a metric up by its name.

    Raises:
        UsageError: There is none of that name; the nearest one is named.
    """
    if name not in METRICS:
        raise UsageError(
            f"there is no metric called {name!r}", hint=did_you_mean(name, METRICS)
        )
    return METRICS[name]


def aggregate(scores: ArrayLike, weights: ArrayLike) -> float:
    """Compute a metric's value: Σ scores / Σ weights.

    Args:
        scores: One a sample, float [n].
        weights: One a sample, float [n].

    Raises:
        DataError: There are no samples, or the weights sum to 0.
    """
    total = float(np.sum(weights))
    if not total > 0:
        raise DataError(
            "there is nothing to score: no samples, or each label is empty",
            hint="Give labelled samples.",
        )
    return float(np.sum(scores)) / total


def value_over(tally: Tally) -> float:
    """Compute a metric's value over all samples of a tally.

    Raises:
        DataError: There is nothing to score.
    """
    value = value_of(tally)
    if math.isnan(value):
        raise DataError(
            "there is nothing to score: no samples, or labels that say too little",
            hint="Give labelled samples: objects to find, values that differ.",
        )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDelta:
    """The change of a metric on the same samples, with its 95 % interval.

    Attributes:
        delta: Value after - value before.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of samples.
        method: How the interval was computed: `tango`, `delong` or `bootstrap`.
    """

    delta: float
    low: float
    high: float
    n: int
    method: Literal["tango", "delong", "bootstrap"]

    @property
    def is_inside_noise(self) -> bool:
        """Whether no change at all lies within the interval."""
        return self.low <= 0 <= self.high

    @property
    def needed(self) -> int | None:
        """About how many such samples would tell this change from none.

        The interval's width falls with the root of the number of samples. None where
        the change is told already, or so small that nobody could tell it.
        """
        reach = self.delta - self.low if self.delta > 0 else self.high - self.delta
        is_tiny = abs(self.delta) * math.sqrt(_MOST_NEEDED) <= reach * math.sqrt(self.n)
        if not self.is_inside_noise or is_tiny:
            return None
        return math.ceil(self.n * (reach / self.delta) ** 2)

    def __str__(self) -> str:
        """Say in plain words whether there is a change."""
        if not self.is_inside_noise:
            return f"a real difference: n={self.n:,}"
        if self.needed is None:
            return f"no difference on n={self.n:,}"
        digits = max(0, len(str(self.needed)) - 2)
        rounded = math.ceil(self.needed / 10**digits) * 10**digits
        return (
            f"inside the noise: n={self.n:,}, needs about {rounded:,} samples to tell"
        )


def paired_interval(
    before: ArrayLike,
    after: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> PairedDelta:
    """Compare two models' scores on the same samples, with a 95 % interval.

    Where each score is 0 or 1 and each weight 1, the interval is Tango's score
    interval, which keeps its coverage for few samples and few changes and has a width
    even where nothing changed. Otherwise it is the percentile interval of a bootstrap
    over the pairs (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap",
    1993, chapter 13; 2000 resamples); it has no width where all pairs are equal.

    Args:
        before: One score a sample, float [n].
        after: One score a sample, float [n], the samples in the same order.
        weights: One a sample, float [n]; all 1 where None.
        seed: Makes the bootstrap repeatable.

    Raises:
        DataError: There are no samples, or not the same number of each.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    weight = np.ones_like(first) if weights is None else np.asarray(weights, float)
    n = len(first)
    if not n == len(second) == len(weight):
        raise DataError(
            f"got {n} scores before, {len(second)} after and {len(weight)} weights; "
            "expected one of each a sample",
            hint="Score both models on the same samples.",
        )
    change = second - first
    delta = aggregate(change, weight)
    is_share = np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()
    if is_share and (weight == 1).all():
        low, high = tango_interval(int((change > 0).sum()), int((change < 0).sum()), n)
        return PairedDelta(delta=delta, low=low, high=high, n=n, method="tango")
    low, high = _bootstrap(change, weight, seed)
    return PairedDelta(delta=delta, low=low, high=high, n=n, method="bootstrap")


def tango_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Compute the 95 % score interval of a difference of paired proportions.

    The interval holds each difference Δ that the score test does not reject (T. Tango,
    "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17, 1998, section 3); its ends
    are found by bisection.

    Args:
        gained: Samples that went from 0 to 1.
        lost: Samples that went from 1 to 0.
        n: All samples.
    """
    middle = (gained - lost) / n

    def is_inside(delta: float) -> bool:
        linear = (2 * n - gained + lost) * delta - gained - lost
        constant = -lost * delta * (1 - delta)
        root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
        share_lost = (root - linear) / (4 * n)
        variance = n * (2 * share_lost + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance * distance <= _Z95 * _Z95 * variance

    def end(outside: float) -> float:
        inside = middle
        for _ in range(60):
            between = (inside + outside) / 2
            if is_inside(between):
                inside = between
            else:
                outside = between
        return inside

    return end(-1.0), end(1.0)


def compare_tallies(before: Tally, after: Tally, *, seed: int = 0) -> PairedDelta:
    """Compare two models' tallies of the same samples, with a 95 % interval.

    For a sum of scores see `paired_interval`; samples without weight, which are only
    compared with, are left out. For the area under the ROC curve it is DeLong's. For
    the others it is the percentile interval of a bootstrap over the tally's units, the
    same ones drawn for both models; costly tallies are drawn at least 400 times.

    Args:
        before: Of one model.
        after: Of the other one, the samples in the same order.
        seed: Makes the bootstrap repeatable.

    Raises:
        DataError: There are no samples, or not the same number of each.
    """
    if isinstance(before, Quotient) and isinstance(after, Quotient):
        return _compare_quotients(before, after, seed)
    if before.units != after.units:
        raise DataError(
            f"got {before.units} samples before and {after.units} after",
            hint="Score both models on the same samples.",
        )
    delta = value_over(after) - value_over(before)
    if isinstance(before, RocArea) and isinstance(after, RocArea):
        reach = _Z95 * math.sqrt(delong_variance(before, after))
        if math.isfinite(reach):
            return PairedDelta(
                delta=delta,
                low=delta - reach,
                high=delta + reach,
                n=before.units,
                method="delong",
            )
    low, high = _bootstrap_tallies(before, after, seed)
    return PairedDelta(
        delta=delta, low=low, high=high, n=before.units, method="bootstrap"
    )


def _compare_quotients(before: Quotient, after: Quotient, seed: int) -> PairedDelta:
    first, second, weights = before.scores, after.scores, before.weights
    if len(first) == len(second) and weights.any():
        is_there = weights > 0
        first, second, weights = first[is_there], second[is_there], weights[is_there]
    return paired_interval(first, second, weights, seed=seed)


def _bootstrap_tallies(before: Tally, after: Tally, seed: int) -> tuple[float, float]:
    size = max(1, before.size + after.size)
    resamples = min(_RESAMPLES, max(_FEWEST_RESAMPLES, _MOST_NUMBERS // size))
    units = before.units
    drawn = np.random.default_rng(seed).multinomial(
        units, np.full(units, 1 / units), size=resamples
    )
    counts = drawn.astype(np.float64)
    changes = after.values(counts) - before.values(counts)
    # A resample of which there is no value, as one of a single person, says nothing.
    low, high = np.nanpercentile(changes, (2.5, 97.5))
    return float(low), float(high)


def _bootstrap(
    change: NDArray[np.float64], weight: NDArray[np.float64], seed: int
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    deltas = []
    for _ in range(_RESAMPLES):
        chosen = generator.integers(len(change), size=len(change))
        total = weight[chosen].sum()
        # A resample of empty labels alone says nothing.
        if total > 0:
            deltas.append(change[chosen].sum() / total)
    low, high = np.percentile(deltas, (2.5, 97.5))
    return float(low), float(high)

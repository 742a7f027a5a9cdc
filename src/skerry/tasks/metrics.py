"""What a prediction is worth, and how sure a difference between two models is.

Each metric gives a sample a score and a weight; its value over many samples is the sum
of the scores divided by the sum of the weights. For a share of right answers a score
is 0 or 1 and each weight is 1; for the character error the score is the edit distance
and the weight the length of the label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skerry.core.errors import DataError, UsageError
from skerry.core.names import did_you_mean
from skerry.tasks.prediction import Prediction

Label = int | str
"""The index of a class, or a line of text."""

_Z95 = NormalDist().inv_cdf(0.975)
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One way to score predictions.

    Attributes:
        name: Its name in task files and reports.
        kind: The kind of task it scores.
        higher_is_better: Whether a larger value is a better model.
        score: A prediction and its label in, score and weight out.
    """

    name: str
    kind: Literal["classification", "text"]
    higher_is_better: bool
    score: Callable[[Prediction, Label], tuple[float, float]]


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


def _top(k: int) -> Callable[[Prediction, Label], tuple[float, float]]:
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
            name="top1", kind="classification", higher_is_better=True, score=_top(1)
        ),
        Metric(
            name="top5", kind="classification", higher_is_better=True, score=_top(5)
        ),
        Metric(
            name="lines_right", kind="text", higher_is_better=True, score=_line_right
        ),
        Metric(
            name="character_error",
            kind="text",
            higher_is_better=False,
            score=_character_error,
        ),
    )
}
"""The metrics by name.

`top1` and `top5` are the share of samples whose class is the best one, or among the
best five. `lines_right` is the share of lines read without a fault, and
`character_error` the edit distances divided by the lengths of the labels; both leave
spaces out, as PaddleOCR's `RecMetric` with its default `ignore_space=True` does.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDelta:
    """The change of a metric on the same samples, with its 95 % interval.

    Attributes:
        delta: Value after - value before.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of samples.
        method: How the interval was computed: `tango` or `bootstrap`.
    """

    delta: float
    low: float
    high: float
    n: int
    method: Literal["tango", "bootstrap"]

    @property
    def is_inside_noise(self) -> bool:
        """Whether no change at all lies within the interval."""
        return self.low <= 0 <= self.high


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

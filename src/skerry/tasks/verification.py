"""Whether two embeddings show the same person, and whose a new one is.

Two embeddings are the more alike the less their squared distance; for embeddings of
length 1 that is the order of the cosine. A bootstrap draws people, not pictures: the
pairs of one person are not independent (R. Bolle, N. Ratha and S. Pankanti, "Error
analysis of pattern recognition systems: the subsets bootstrap", CVIU 93, 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.tally import Counts, Quotient, divide

FOLDS = 10
"""Parts that people are split into to choose a threshold, as LFW's protocol has it."""

MOST_PAIRS = 1 << 15
"""Most pairs of the same person, and most of two, that folds look at."""

MOST_IMPOSTORS = 1 << 20
"""Most pairs of two people that a rate of false acceptances looks at."""

_CHUNK = 1 << 20

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of pictures, the most alike first.

    Attributes:
        people: How many people there are.
        first: Index of the first picture's person, int64 [p].
        second: Index of the second one's, int64 [p]; the same where it is one person.
        ends: Where each stretch of equally alike pairs ends, int64 [g].
        levels: How alike the pairs of each stretch are, float64 [g]; falling.
    """

    people: int
    first: _Indices
    second: _Indices
    ends: _Indices
    levels: _Floats

    @property
    def is_same(self) -> NDArray[np.bool_]:
        """Whether a pair shows one person, bool [p]."""
        return np.asarray(self.first == self.second)

    def weights(self, counts: Counts) -> _Floats:
        """How often each pair was drawn, [r, p]; one person's by how often they were.

        Args:
            counts: How often each person was drawn, [r, people].
        """
        others = np.where(self.is_same, 1.0, counts[:, self.second])
        return np.asarray(counts[:, self.first] * others)

    def chunks(self, counts: Counts) -> list[Counts]:
        """Resamples in parts that fit memory."""
        rows = max(1, _CHUNK // max(1, len(self.first)))
        return [counts[start : start + rows] for start in range(0, len(counts), rows)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acceptance:
    """The share of pairs of one person accepted at a rate of false acceptances.

    Attributes:
        pairs: The pairs.
        far: Share of the pairs of two people that may be accepted.
    """

    pairs: Pairs
    far: float

    @property
    def units(self) -> int:
        """The people."""
        return self.pairs.people

    @property
    def size(self) -> int:
        """Each pair, summed a few times."""
        return 6 * len(self.pairs.first)

    def values(self, counts: Counts) -> _Floats:
        """The share at the lowest threshold that keeps the rate."""
        return np.concatenate(
            [self._values(part) for part in self.pairs.chunks(counts)]
        )

    def _values(self, counts: Counts) -> _Floats:
        weights = self.pairs.weights(counts)
        shares = []
        for chosen in (self.pairs.is_same, ~self.pairs.is_same):
            total = np.cumsum(weights * chosen, axis=1)
            shares.append(divide(total[:, self.pairs.ends], total[:, -1:]))
        same, other = shares
        kept = (other <= self.far).sum(axis=1)
        rows = np.arange(len(counts))
        share = np.where(kept > 0, same[rows, np.maximum(kept, 1) - 1], 0.0)
        return np.where(np.isnan(other[:, -1]) | np.isnan(same[:, -1]), np.nan, share)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldAccuracy:
    """The share of pairs told right, by thresholds chosen on other people.

    For each part of the people the threshold is the best on pairs of the other parts;
    pairs of one person and of two count the same in all (G. Huang et al., "Labeled
    Faces in the Wild", 2007, section 3, where as many of each are listed).

    Attributes:
        pairs: The pairs.
        folds: The part of each person, int64 [people].
    """

    pairs: Pairs
    folds: _Indices

    @property
    def units(self) -> int:
        """The people."""
        return self.pairs.people

    @property
    def size(self) -> int:
        """Each pair twice in each part, summed a few times."""
        return 12 * len(self.pairs.first) * (int(self.folds.max(initial=0)) + 1)

    def values(self, counts: Counts) -> _Floats:
        """The mean over the parts."""
        return np.concatenate(
            [self._values(part) for part in self.pairs.chunks(counts)]
        )

    def _values(self, counts: Counts) -> _Floats:
        first = self.folds[self.pairs.first]
        second = self.folds[self.pairs.second]
        weights = self.pairs.weights(counts)
        total, number = np.zeros(len(counts)), np.zeros(len(counts))
        for fold in range(int(self.folds.max(initial=0)) + 1):
            learnt = (first != fold) & (second != fold)
            threshold = self._choose(self._told(weights * learnt)[:, self.pairs.ends])
            tested = np.flatnonzero((first == fold) & (second == fold))
            right = self._test(weights, tested, threshold)
            is_there = ~np.isnan(right)
            total += np.where(is_there, right, 0)
            number += is_there
        return divide(total, number)

    def _told(self, weights: _Floats, pairs: slice | _Indices = slice(None)) -> _Floats:
        """The share told right with each pair and those before it accepted, [r, p]."""
        is_same = self.pairs.is_same[pairs]
        same = divide(np.ones(1), weights @ is_same)[:, None]
        other = divide(np.ones(1), weights @ ~is_same)[:, None]
        gains = np.cumsum(weights * np.where(is_same, same, -other), axis=1)
        return (1 + gains) / 2

    def _choose(self, told: _Floats) -> _Floats:
        """The threshold midway between the best stretch and the next that is worse."""
        told = np.nan_to_num(told, nan=0.0)
        best = told.argmax(axis=1)
        top = told.max(axis=1, keepdims=True)
        is_after = np.arange(told.shape[1]) > best[:, None]
        is_worse = is_after & (told < top - 1e-12)
        after = np.where(is_worse.any(axis=1), is_worse.argmax(axis=1), best)
        levels = self.pairs.levels
        # Levels may be infinite, and infinitely far apart.
        with np.errstate(invalid="ignore"):
            middle = (levels[best] + levels[after]) / 2
        # No better than a coin: accept none.
        return np.where(top[:, 0] > 0.5, middle, np.inf)

    def _test(self, weights: _Floats, tested: _Indices, threshold: _Floats) -> _Floats:
        """The share told right of the pairs tested; NaN where they are of one kind."""
        stretches = np.searchsorted(self.pairs.ends, tested)
        alike = self.pairs.levels[stretches]
        is_right = (alike >= threshold[:, None]) == self.pairs.is_same[tested]
        drawn = weights[:, tested]
        shares = [
            divide(
                (drawn * is_right)[:, chosen].sum(axis=1), drawn[:, chosen].sum(axis=1)
            )
            for chosen in (self.pairs.is_same[tested], ~self.pairs.is_same[tested])
        ]
        return (shares[0] + shares[1]) / 2


def tally_verification(
    predictions: Sequence[Prediction], labels: Sequence[Label]
) -> FoldAccuracy:
    """Keep pairs, and split the people into parts.

    Raises:
        DataError: There are fewer than four people, or fewer than two with two
            pictures.
    """
    people, vectors = _gather(predictions, labels)
    sizes = np.bincount(people) if len(people) else np.zeros(0, np.int64)
    several = int((sizes > 1).sum())
    if len(sizes) < 4 or several < 2:
        raise DataError(
            f"got {len(sizes)} people, {several} of them with two pictures; expected "
            "4 or more, 2 of them with two",
            hint="Label each picture with whom it shows.",
        )
    parts = min(FOLDS, len(sizes) // 2, several)
    # People with several pictures first, so that each part has some.
    order = np.argsort(sizes < 2, kind="stable")
    folds = np.empty(len(sizes), dtype=np.int64)
    folds[order] = np.arange(len(sizes)) % parts
    return FoldAccuracy(pairs=_make_pairs(people, vectors, MOST_PAIRS), folds=folds)


def make_tar_tally(
    far: float,
) -> Callable[[Sequence[Prediction], Sequence[Label]], Acceptance]:
    """Make what keeps pairs for a rate of false acceptances."""

    def tally(predictions: Sequence[Prediction], labels: Sequence[Label]) -> Acceptance:
        people, vectors = _gather(predictions, labels)
        pairs = _make_pairs(people, vectors, MOST_IMPOSTORS)
        impostors = int((~pairs.is_same).sum())
        if impostors < 1 / far or impostors == len(pairs.first):
            raise DataError(
                f"got {len(pairs.first) - impostors} pairs of one person and "
                f"{impostors} of two; expected some, and {round(1 / far):,} or more",
                hint="A rate of false acceptances needs as many pairs as its inverse.",
            )
        return Acceptance(pairs=pairs, far=far)

    return tally


def tally_rank1(predictions: Sequence[Prediction], labels: Sequence[Label]) -> Quotient:
    """Keep whether each picture's nearest first picture is the same person's.

    Each person's first picture is what others are compared with, and has no weight.

    Raises:
        DataError: No person has two pictures.
    """
    people, vectors = _gather(predictions, labels)
    known, firsts = np.unique(people, return_index=True)
    weights = np.ones(len(people))
    weights[firsts] = 0
    if len(people) and not weights.any():
        raise DataError(
            f"{len(people)} pictures show as many people, expected two of one",
            hint="Label each picture with whom it shows.",
        )
    scores = np.zeros(len(people))
    gallery = vectors[firsts]
    is_known = np.isfinite(gallery).all(axis=1)
    for index in np.flatnonzero(weights):
        if np.isfinite(vectors[index]).all() and is_known.any():
            distances = np.square(gallery - vectors[index]).sum(axis=1)
            nearest = int(np.where(is_known, distances, np.inf).argmin())
            scores[index] = known[nearest] == people[index]
    return Quotient(scores=scores, weights=weights)


def _gather(
    predictions: Sequence[Prediction], labels: Sequence[Label]
) -> tuple[_Indices, _Floats]:
    """The index of each picture's person, in order of appearance, and embeddings."""
    seen: dict[Label, int] = {}
    people = [seen.setdefault(label, len(seen)) for label in labels]
    vectors = [cast("_Floats", one.vector) for one in predictions]
    return np.array(people, dtype=np.int64), np.array(vectors, dtype=np.float64)


def _make_pairs(people: _Indices, vectors: _Floats, most: int) -> Pairs:
    generator = np.random.default_rng(0)
    same, other = _same_pairs(people, generator), _other_pairs(people, most, generator)
    first, second = np.concatenate([same, other], axis=1)
    alike = _likeness(vectors, first, second)
    # A picture that the model gave no numbers for is told wrong in each of its pairs.
    wrong = np.where(people[first] == people[second], -np.inf, np.inf)
    alike = np.where(np.isnan(alike), wrong, alike)
    order = np.argsort(-alike, kind="stable")
    ranked = alike[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    return Pairs(
        people=int(people.max(initial=-1)) + 1,
        first=people[first[order]],
        second=people[second[order]],
        ends=ends,
        levels=ranked[ends],
    )


def _same_pairs(people: _Indices, generator: np.random.Generator) -> _Indices:
    parts = [np.zeros((2, 0), dtype=np.int64)]
    for person in range(int(people.max(initial=-1)) + 1):
        own = np.flatnonzero(people == person)
        parts.append(own[np.array(np.triu_indices(len(own), 1))])
    pairs = np.concatenate(parts, axis=1)
    if pairs.shape[1] > MOST_PAIRS:
        chosen = generator.choice(pairs.shape[1], MOST_PAIRS, replace=False)
        pairs = pairs[:, np.sort(chosen)]
    return pairs


def _other_pairs(
    people: _Indices, most: int, generator: np.random.Generator
) -> _Indices:
    n = len(people)
    if n * (n - 1) // 2 <= most:
        pairs = np.array(np.triu_indices(n, 1))
    else:
        pairs = np.sort(generator.integers(n, size=(2, most)), axis=0)
    return pairs[:, people[pairs[0]] != people[pairs[1]]]


def _likeness(vectors: _Floats, first: _Indices, second: _Indices) -> _Floats:
    alike = np.empty(len(first))
    rows = max(1, _CHUNK // max(1, vectors.shape[-1] if vectors.ndim > 1 else 1))
    for start in range(0, len(first), rows):
        part = slice(start, start + rows)
        change = vectors[first[part]] - vectors[second[part]]
        alike[part] = -np.einsum("pd,pd->p", change, change)
    return alike

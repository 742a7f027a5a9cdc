"""Does a release on probation serve as well as the one that it took the place of?

Requests that fail, that are late, and answers with NaN are counted for each release by
itself. All else is judged on *pairs*: requests that both releases have run, so that
neither another world nor a busy machine looks like another model. Two releases of one
model may well differ, a better one above all; what is looked for is ruin:

- **Latency**: the median of the paired ratios lies above a limit, by a one-sided sign
  test at `SIGNIFICANCE`; and so does the ratio of the usual latencies, as the release
  before runs its half of the pairs when the machine has nothing better to do.
- **Classes**: the answers crowd into fewer classes than those of the release before,
  by the population stability index Σ (a - b) ln(a / b) over the commonest classes
  (N. Siddiqi, "Credit Risk Scorecards", Wiley 2006, calls 0.25 a major shift). Where
  nothing has changed it is about (1/n + 1/m) χ² with one degree of freedom fewer than
  there are classes (B. Yurdakul, "Statistical Properties of Population Stability
  Index", Western Michigan University 2018): that sets the least alarm, at
  `SIGNIFICANCE` a look.
- **Spread**: the outputs vary a hundred times less than those of the release before
  do, and by a hundredth of their own mean at most: whatever comes in, the same comes
  out. For normal outputs of one spread, the F-test gives this less than `SIGNIFICANCE`
  from 6 pairs on.

A pair that repeats the one before it is not counted: a still picture is one sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

SIGNIFICANCE = 1e-6
"""Largest chance that a look at independent pairs of two equal releases alarms."""

MOST_PAIRS = 256
"""No more pairs are looked at: they are proof enough."""

FEWEST_SLOW = 20
"""Fewest pairs for a verdict on latency: 2 ** -20 is below `SIGNIFICANCE`."""

FEWEST_ANSWERS = 50
"""Fewest pairs that are no repetition for a verdict on what is answered."""

LEAST_SLOWER_MS = 5.0
"""A difference that the machine's own unrest explains proves nothing."""

AS_OFTEN = 0.8
"""What the release before did this many times as often is no fault of the new one."""

_MOST_CLASSES = 10
_COLLAPSED = 0.01
_STILL = 1e-6
_Z_OF_SIGNIFICANCE = 4.7534


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationLimits:
    """What a release may do on probation.

    Attributes:
        failed_ratio: Largest fraction of requests that may fail.
        late_ratio: Largest fraction that may miss their deadline; a busy machine
            makes some of them late whatever the release.
        least_failed: Fewer failures than this prove nothing.
        latency_ratio: Largest median ratio of its latency to that of the release
            before, on the same requests.
        stability_index: Largest population stability index towards fewer classes.
    """

    failed_ratio: float = 0.02
    late_ratio: float = 0.5
    least_failed: int = 3
    latency_ratio: float = 4.0
    stability_index: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Impression:
    """What one release made of one request.

    Attributes:
        latency_ms: Elapsed time of the inference.
        classes: The largest element of each row, by output, of those that look like
            scores of classes.
        levels: The mean of all elements, by output.
    """

    latency_ms: float
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the levels of one output vary.

    Attributes:
        n: Number of pairs that are no repetition.
        mean_before: Mean level of the release before.
        before: The standard deviation of its levels.
        mean_after: Mean level of the release on probation.
        after: The standard deviation of its levels.
    """

    n: int
    mean_before: float
    before: float
    mean_after: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How often each class of one output is given.

    Attributes:
        n: Number of pairs that are no repetition.
        before: Rows by class, of the release before.
        after: Those of the release on probation.
    """

    n: int
    before: Mapping[int, int]
    after: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFigures:
    """What two releases made of the same requests.

    Attributes:
        latencies_ms: Before and after, a pair each.
        crowds: By output.
        spreads: By output.
    """

    latencies_ms: tuple[tuple[float, float], ...] = ()
    crowds: Mapping[str, Crowd] = field(default_factory=dict)
    spreads: Mapping[str, Spread] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How a release has served since the switch.

    Attributes:
        requests: All that were taken in.
        failed: Those that the release failed to answer.
        late: Those that had no answer at their deadline.
        not_finite: Answers with NaN or infinities.
        latency_ms: Median time of the last inferences, or None where there was none.
        before: Those of the release that it took the place of, or None.
        pairs: What both made of the same requests.
    """

    requests: int = 0
    failed: int = 0
    late: int = 0
    not_finite: int = 0
    latency_ms: float | None = None
    before: Figures | None = None
    pairs: PairFigures = field(default_factory=PairFigures)


class Pairs:
    """Adds up pairs."""

    def __init__(self) -> None:
        self._latencies_ms: list[tuple[float, float]] = []
        self._crowds: dict[str, _Crowd] = {}
        self._spreads: dict[str, _Spread] = {}

    @property
    def is_full(self) -> bool:
        """Whether there are as many as are looked at."""
        return len(self._latencies_ms) >= MOST_PAIRS

    def add(self, before: Impression, after: Impression) -> None:
        """Add what the two releases made of one request."""
        if self.is_full:
            return
        self._latencies_ms.append((before.latency_ms, after.latency_ms))
        for name in before.classes.keys() & after.classes.keys():
            crowd = self._crowds.setdefault(name, _Crowd())
            crowd.add(before.classes[name], after.classes[name])
        for name in before.levels.keys() & after.levels.keys():
            spread = self._spreads.setdefault(name, _Spread())
            spread.add(before.levels[name], after.levels[name])

    def figures(self) -> PairFigures:
        """What they add up to."""
        return PairFigures(
            latencies_ms=tuple(self._latencies_ms),
            crowds={name: crowd.figures() for name, crowd in self._crowds.items()},
            spreads={name: spread.figures() for name, spread in self._spreads.items()},
        )


class _Crowd:
    def __init__(self) -> None:
        self._n = 0
        self._before: dict[int, int] = {}
        self._after: dict[int, int] = {}
        self._last: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def add(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        if (before, after) == self._last:
            return
        self._last = before, after
        self._n += 1
        for counts, classes in ((self._before, before), (self._after, after)):
            for each in classes:
                counts[each] = counts.get(each, 0) + 1

    def figures(self) -> Crowd:
        return Crowd(n=self._n, before=dict(self._before), after=dict(self._after))


class _Spread:
    """The variance of both, by B. P. Welford's method (Technometrics 4(3), 1962)."""

    def __init__(self) -> None:
        self._n = 0
        self._means = [0.0, 0.0]
        self._sums = [0.0, 0.0]
        self._last = math.nan

    def add(self, before: float, after: float) -> None:
        if abs(before - self._last) <= _STILL * abs(self._last):
            return
        self._last = before
        self._n += 1
        for index, level in enumerate((before, after)):
            step = level - self._means[index]
            self._means[index] += step / self._n
            self._sums[index] += step * (level - self._means[index])

    def figures(self) -> Spread:
        n = max(1, self._n - 1)
        before, after = (math.sqrt(max(0.0, each / n)) for each in self._sums)
        return Spread(
            n=self._n,
            mean_before=self._means[0],
            before=before,
            mean_after=self._means[1],
            after=after,
        )


def judge(figures: Figures, limits: ProbationLimits) -> str:
    """Say what is wrong with a release on probation; empty if nothing is."""
    return (
        _judge_counts(figures, limits)
        or _judge_latency(figures, limits.latency_ratio)
        or _judge_classes(figures.pairs.crowds, limits.stability_index)
        or _judge_spreads(figures.pairs.spreads)
    )


def stability_index(before: Mapping[int, int], after: Mapping[int, int]) -> float:
    """The population stability index of counts by class; 0 where they are alike.

    The classes that are rare before count as one, and each has half a sample more than
    was seen, so that none has nothing.
    """
    a, b = _shares(before, after)
    return sum((x - y) * math.log(x / y) for x, y in zip(a, b, strict=True))


def least_alarm(n: int, classes: int) -> float:
    """The stability index that n pairs reach by chance, once in 1 / `SIGNIFICANCE`.

    By the cubic of E. B. Wilson and M. M. Hilferty, "The Distribution of Chi-Square",
    PNAS 17, 1931.
    """
    freedom = max(1, classes - 1)
    part = 2 / (9 * freedom)
    chi_square = freedom * (1 - part + _Z_OF_SIGNIFICANCE * math.sqrt(part)) ** 3
    return 2 / n * chi_square


def _judge_counts(figures: Figures, limits: ProbationLimits) -> str:
    before = figures.before or Figures()
    for n, was, least, ratio, what in (
        (figures.not_finite, before.not_finite, 1, 0.0, ""),
        (
            figures.failed,
            before.failed,
            limits.least_failed,
            limits.failed_ratio,
            "failed",
        ),
        (
            figures.late,
            before.late,
            limits.least_failed,
            limits.late_ratio,
            "had no answer in time",
        ),
    ):
        if n < least or n <= ratio * figures.requests:
            continue
        # Going back to what fails as often would help nobody.
        is_old = was >= limits.least_failed and (
            was * figures.requests >= AS_OFTEN * n * before.requests
        )
        if is_old:
            continue
        if not what:
            return f"{n} answers had NaN or infinities"
        return f"{n} of {figures.requests} requests {what}"
    return ""


def _judge_latency(figures: Figures, limit: float) -> str:
    pairs = figures.pairs.latencies_ms
    usual_ms = figures.before.latency_ms if figures.before else None
    is_usual = (
        usual_ms is not None
        and figures.latency_ms is not None
        and figures.latency_ms <= limit * usual_ms
    )
    if is_usual:
        return ""
    n = len(pairs)
    slower = sum(
        after > limit * before and after - before > LEAST_SLOWER_MS
        for before, after in pairs
    )
    if n < FEWEST_SLOW or _chance_of(slower, n) > SIGNIFICANCE:
        return ""
    return f"it took more than {limit:g} times as long for {slower} of {n} requests"


def _chance_of(slower: int, n: int) -> float:
    """That of n throws of a coin, as many or more are heads."""
    return float(sum(math.comb(n, k) for k in range(slower, n + 1)) / 2**n)


def _judge_classes(crowds: Mapping[str, Crowd], limit: float) -> str:
    for name, crowd in sorted(crowds.items()):
        if crowd.n < FEWEST_ANSWERS:
            continue
        before, after = _shares(crowd.before, crowd.after)
        if _entropy(after) >= _entropy(before):
            continue
        index = stability_index(crowd.before, crowd.after)
        if index > max(limit, least_alarm(crowd.n, len(before))):
            return (
                f"its output {name[:80]!r} crowds into fewer classes: a stability "
                f"index of {index:.3g}, at most {limit:g} expected"
            )
    return ""


def _judge_spreads(spreads: Mapping[str, Spread]) -> str:
    for name, spread in sorted(spreads.items()):
        varied = spread.before > _STILL * abs(spread.mean_before)
        # An output of another scale is another model; one that stands still is none.
        stands = spread.after <= max(
            _COLLAPSED * abs(spread.mean_after), _STILL * spread.before
        )
        collapsed = stands and spread.after < _COLLAPSED * spread.before
        if spread.n >= FEWEST_ANSWERS and varied and collapsed:
            return f"its output {name[:80]!r} is all but the same whatever comes in"
    return ""


def _shares(
    before: Mapping[int, int], after: Mapping[int, int]
) -> tuple[list[float], list[float]]:
    """The shares of the classes frequent before, and of all others together."""
    often = sorted(before, key=lambda each: (-before[each], each))[: _MOST_CLASSES - 1]
    shares = []
    for counts in (before, after):
        own = [counts.get(each, 0) + 0.5 for each in often]
        own.append(sum(counts.values()) - sum(own) + 0.5 * len(own) + 0.5)
        total = sum(own)
        shares.append([each / total for each in own])
    return shares[0], shares[1]


def _entropy(shares: list[float]) -> float:
    return -sum(share * math.log(share) for share in shares)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skerry.evolve.probation import (
    FEWEST_ANSWERS,
    MOST_PAIRS,
    Figures,
    Impression,
    PairFigures,
    Pairs,
    ProbationLimits,
    judge,
    least_alarm,
    stability_index,
)

LIMITS = ProbationLimits()
RNG = np.random.default_rng(7)


def _figures(
    before: Sequence[Impression], after: Sequence[Impression], **counts: int
) -> Figures:
    pairs = Pairs()
    for one, other in zip(before, after, strict=True):
        pairs.add(one, other)
    return Figures(pairs=pairs.figures(), **counts)


def _classes(*given: int) -> list[Impression]:
    return [Impression(latency_ms=1, classes={"y": (each,)}) for each in given]


def _levels(*given: float) -> list[Impression]:
    return [Impression(latency_ms=1, levels={"y": each}) for each in given]


def _latencies(*given: float) -> list[Impression]:
    return [Impression(latency_ms=each) for each in given]


@pytest.mark.parametrize(
    "figures",
    [
        Figures(),
        Figures(requests=1000, failed=2),
        Figures(requests=1000, failed=20),
        Figures(requests=100, late=50),
    ],
)
def test_a_few_failures_prove_nothing(figures: Figures) -> None:
    """Neither few nor rare ones."""
    assert judge(figures, LIMITS) == ""


@pytest.mark.parametrize(
    ("figures", "what"),
    [
        (Figures(requests=10, not_finite=1), "1 answers had NaN or infinities"),
        (Figures(requests=100, failed=3), "3 of 100 requests failed"),
        (Figures(requests=10, late=6), "6 of 10 requests had no answer in time"),
    ],
)
def test_a_release_that_fails_is_told_so(figures: Figures, what: str) -> None:
    """Unless the one before did as often: then going back would help nobody."""
    assert judge(figures, LIMITS) == what
    sound = Figures(requests=1000)
    assert judge(replace(figures, before=sound), LIMITS) == what
    alike = Figures(
        requests=10 * figures.requests,
        failed=10 * figures.failed,
        late=10 * figures.late,
        not_finite=10 * figures.not_finite,
    )
    assert judge(replace(figures, before=alike), LIMITS) == ""


def test_a_release_that_fails_more_often_than_the_one_before_goes() -> None:
    """That the one before failed too, but rarely, is no excuse."""
    before = Figures(requests=100, failed=5)
    assert judge(Figures(requests=100, failed=20, before=before), LIMITS)


def test_a_slower_release_is_told_by_the_same_requests() -> None:
    """Twenty requests that all take five times as long; fewer prove nothing."""
    slow = _figures(_latencies(*[10] * 20), _latencies(*[50] * 20))
    assert judge(slow, LIMITS).startswith("it took more than 4 times as long for 20 of")
    few = _figures(_latencies(*[10] * 19), _latencies(*[50] * 19))
    assert judge(few, LIMITS) == ""
    wider = replace(LIMITS, latency_ratio=6.0)
    assert judge(slow, wider) == ""


def test_a_machine_that_is_as_slow_as_ever_is_no_fault_of_the_release() -> None:
    """It takes no longer than the one before did, when that one had all to answer."""
    pairs = _figures(_latencies(*[10] * 40), _latencies(*[50] * 40)).pairs
    for usual_ms, is_fault in ((40.0, False), (10.0, True), (None, True)):
        before = Figures(requests=100, latency_ms=usual_ms)
        figures = Figures(requests=40, latency_ms=50, before=before, pairs=pairs)
        assert bool(judge(figures, LIMITS)) == is_fault


@pytest.mark.parametrize(
    "after",
    [
        [39.0] * 100,  # within the limit
        [50.0] * 60 + [10.0] * 40,  # not sure enough
        [0.05] * 100,
    ],
)
def test_what_is_not_surely_slower_passes(after: list[float]) -> None:
    """Below the ratio, or above it by chance."""
    before = [10.0] * 100 if after[0] > 1 else [0.01] * 100  # five times, but 40 µs
    assert judge(_figures(_latencies(*before), _latencies(*after)), LIMITS) == ""


def test_answers_that_crowd_into_one_class_are_told() -> None:
    """Ten classes before, one after; and two before, one after."""
    for classes in (10, 2):
        varied = [each % classes for each in range(100)]
        what = judge(_figures(_classes(*varied), _classes(*[3] * 100)), LIMITS)
        assert what.startswith("its output 'y' crowds into fewer classes")


def test_a_release_that_heals_is_kept() -> None:
    """The same shift the other way round: so does a better model look."""
    varied = [each % 10 for each in range(100)]
    assert judge(_figures(_classes(*[3] * 100), _classes(*varied)), LIMITS) == ""


def test_a_still_picture_is_one_sample() -> None:
    """The same pair of classes again and again proves nothing, nor do few others."""
    still = _figures(_classes(*[1] * 200), _classes(*[2] * 200))
    assert still.pairs.crowds["y"].n == 1
    few = [each % 10 for each in range(FEWEST_ANSWERS - 1)]
    for figures in (still, _figures(_classes(*few), _classes(*[3] * len(few)))):
        assert judge(figures, LIMITS) == ""


def test_an_output_that_never_varies_is_told() -> None:
    """Whatever comes in, the same comes out; unless it always did."""
    varied = RNG.normal(size=60)
    for still in (np.full(60, 0.5), np.zeros(60), 40 + varied * 1e-3):
        dead = _figures(_levels(*varied), _levels(*still))
        assert "the same whatever comes in" in judge(dead, LIMITS)
    for before, after in (
        (varied, varied * 0.05 + 3),  # another scale is another model
        (varied * 1e5, varied - varied.mean()),  # and so is one that is no longer wild
        (np.full(60, 0.5) + varied * 1e-8, np.full(60, 0.5)),
        (varied[:49], np.full(49, 0.5)),
    ):
        assert judge(_figures(_levels(*before), _levels(*after)), LIMITS) == ""


def test_no_more_pairs_are_kept_than_are_looked_at() -> None:
    """The sum stays as it is once it is full."""
    pairs = Pairs()
    one = Impression(latency_ms=1.0)
    for _ in range(MOST_PAIRS + 5):
        assert pairs.is_full == (len(pairs.figures().latencies_ms) >= MOST_PAIRS)
        pairs.add(one, one)
    assert len(pairs.figures().latencies_ms) == MOST_PAIRS


def test_outputs_that_only_one_of_them_has_are_left_out() -> None:
    """A release with another output is compared by what both have."""
    one = Impression(latency_ms=1, classes={"y": (1,), "a": (1,)}, levels={"a": 1.0})
    other = Impression(latency_ms=1, classes={"y": (1,), "b": (1,)}, levels={"b": 1.0})
    found = _figures([one], [other]).pairs
    assert (set(found.crowds), set(found.spreads)) == ({"y"}, set())


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_equal_releases_raise_no_alarm(classes: int) -> None:
    """Of 5,000 looks at two samples of the same, none; the limit is 1 in a million."""
    shares = RNG.dirichlet(np.ones(classes))
    for _ in range(5000):
        one, other = RNG.multinomial(FEWEST_ANSWERS, shares, size=2)
        index = stability_index(*(dict(enumerate(e.tolist())) for e in (one, other)))
        assert index <= max(
            LIMITS.stability_index, least_alarm(FEWEST_ANSWERS, classes)
        )


def test_the_stability_index_is_that_of_the_book() -> None:
    """A tenth of 100,000 each, against 19 % and 1 %: (a - b) ln(a / b), added up."""
    before = dict.fromkeys(range(9), 10_000)
    after = {**before, 0: 19_000, 1: 1_000}
    expected = (0.1 - 0.19) * np.log(0.1 / 0.19) + (0.1 - 0.01) * np.log(0.1 / 0.01)
    # Its book has ten tenths; here nine are counted, the rest is next to nothing.
    assert stability_index(before, after) == pytest.approx(expected / 0.9, rel=0.01)
    assert stability_index(before, before) == 0


@settings(max_examples=100, deadline=None)
@example([(0.0, 0.0, 0, 0, sign * 1.7e308, -sign * 1.7e308) for sign in (1, -1)] * 30)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e9),
            st.floats(0, 1e9),
            st.integers(0, 5000),
            st.integers(0, 5000),
            st.floats(allow_nan=True, allow_infinity=True),
            st.floats(allow_nan=True, allow_infinity=True),
        ),
        max_size=80,
    )
)
def test_whatever_was_seen_is_judged(
    seen: list[tuple[float, float, int, int, float, float]],
) -> None:
    """No number makes it fail."""
    before = [
        Impression(latency_ms=t, classes={"y": (c,)}, levels={"y": v})
        for t, _, c, _, v, _ in seen
    ]
    after = [
        Impression(latency_ms=t, classes={"y": (c,)}, levels={"y": v})
        for _, t, _, c, _, v in seen
    ]
    assert isinstance(judge(_figures(before, after), LIMITS), str)


def test_nothing_seen_is_nothing_wrong() -> None:
    """A release that nobody asked is not blamed."""
    assert judge(Figures(pairs=PairFigures()), LIMITS) == ""

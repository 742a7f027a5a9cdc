from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import UsageError
from skerry.evolve.sampling import (
    Chosen,
    SampleKind,
    Sampler,
    SamplingSettings,
    read_settings,
)


def _run(
    n: int, *, settings: SamplingSettings | None = None, seed: int = 0
) -> list[Chosen[int]]:
    margins = np.random.default_rng(1).random(n)
    sampler = Sampler[int](
        settings or SamplingSettings(), rng=np.random.default_rng(seed)
    )
    chosen: list[Chosen[int]] = []
    for index in range(n):
        chosen += sampler.offer(
            index, key=str(index).encode(), margin=float(margins[index])
        )
    return chosen


def test_half_are_uncertain_half_random_and_none_twice() -> None:
    """100 of 2,000: 50 of each kind, all different, spread over 25 windows."""
    chosen = _run(2000)
    kinds = [one.kind for one in chosen]
    assert kinds.count(SampleKind.UNCERTAIN) == kinds.count(SampleKind.RANDOM) == 50
    assert len({one.item for one in chosen}) == 100
    assert len({one.item // 20 for one in chosen}) == 25


def test_the_uncertain_ones_have_the_smallest_margins() -> None:
    """Of each window, the two with the smallest margin are taken as uncertain."""
    margins = np.random.default_rng(1).random(2000)
    for window in range(25):
        ours = [one for one in _run(2000) if one.item // 20 == window]
        uncertain = {one.item for one in ours if one.kind is SampleKind.UNCERTAIN}
        span = margins[window * 20 : window * 20 + 20]
        assert uncertain == {window * 20 + int(i) for i in np.argsort(span)[:2]}


def test_the_same_chance_gives_the_same_choice() -> None:
    """The choice follows from the stream and the generator alone."""
    assert _run(300, seed=3) == _run(300, seed=3)
    assert _run(300, seed=3) != _run(300, seed=4)


@pytest.mark.parametrize(("most", "per_window"), [(7, 3), (1, 1), (5, 4), (0, 4)])
def test_odd_budgets_are_kept_to(most: int, per_window: int) -> None:
    """The budget is never exceeded, and the halves differ by at most one."""
    settings = SamplingSettings(most=most, window_frames=10, per_window=per_window)
    kinds = [one.kind for one in _run(500, settings=settings)]
    assert len(kinds) == most
    assert abs(2 * kinds.count(SampleKind.RANDOM) - most) <= 1


def test_what_was_seen_before_is_passed_over() -> None:
    """A recording that loops gives each of its frames once."""
    sampler = Sampler[int](SamplingSettings(), rng=np.random.default_rng(0))
    chosen = [
        one.item
        for index in range(400)
        for one in sampler.offer(index, key=bytes([index % 10]), margin=0.5)
    ]
    assert len(chosen) == len({item % 10 for item in chosen}) <= 10
    assert not sampler.is_done


def test_a_window_can_be_ended_early() -> None:
    """What was gathered so far is chosen from; an empty window gives nothing."""
    sampler = Sampler[str](SamplingSettings(), rng=np.random.default_rng(0))
    assert sampler.end_window() == ()
    assert sampler.offer("a", key=b"a", margin=0.1) == ()
    assert [one.item for one in sampler.end_window()] == ["a"]
    assert sampler.chosen == 1


@pytest.mark.parametrize(
    "collect",
    [
        {"most": -1},
        {"window_frames": 0},
        {"per_window": 21},
        {"most": "many"},
        {"most": 1e99},
    ],
)
def test_settings_that_make_no_sense_are_refused(collect: dict[str, object]) -> None:
    """Each setting has a type and a range."""
    with pytest.raises(UsageError):
        read_settings(collect)  # type: ignore[arg-type]


def test_settings_are_read_from_a_shadow() -> None:
    """Missing ones are at their defaults; unknown ones are left alone."""
    assert read_settings({"most": 10, "later": 1}) == SamplingSettings(most=10)
    assert read_settings(None) == SamplingSettings()

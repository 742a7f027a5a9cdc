from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress.ptq.rounding import Moments, fit, round_together
from skerry.core.seams import Array


def drawn(seed: int, *, outputs: int = 3, k: int = 5, groups: int = 2) -> Moments:
    """Moments of inputs that go together, as those of neighbouring pixels do."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(groups, k, k)) + 1
    read = rng.normal(size=(groups, 40, k)) @ mixed
    return Moments.of(read, rng.normal(size=(groups, 40, outputs)))


def errors(wrong: Array, gram: Array) -> Array:
    """E·H·Eᵀ of each row."""
    return np.asarray(((wrong @ gram) * wrong).sum(axis=2))


def limits(weights: Array, low: int, high: int) -> tuple[Array, Array]:
    """The same lowest and highest code for each output."""
    return np.full(weights.shape[:2], low), np.full(weights.shape[:2], high)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 9))
def test_rounding_together_is_never_worse_than_to_the_nearest(
    seed: int, bits: int, k: int
) -> None:
    """On the samples it is made for; and the codes are whole and in range."""
    top = 2 ** (bits - 1) - 1
    moments = drawn(seed, k=k)
    weights = np.random.default_rng(seed).uniform(-top - 1, top + 1, (2, 3, k))
    rounded = round_together(weights, moments.gram, *limits(weights, -top, top))
    nearest = np.clip(np.rint(weights), -top, top)
    assert np.array_equal(rounded, np.rint(rounded))
    assert np.abs(rounded).max() <= top
    ours = errors(rounded - weights, moments.gram)
    theirs = errors(nearest - weights, moments.gram)
    assert (ours <= theirs * (1 + 1e-9) + 1e-9).all()


def test_rounding_together_is_near_the_best_of_all_roundings() -> None:
    """Up or down for each of eight weights, all 256 tried."""
    ours, theirs, best = [], [], []
    for seed in range(20):
        moments = drawn(seed, outputs=1, k=8, groups=1)
        weights = np.random.default_rng(seed).uniform(-6, 6, (1, 1, 8))
        rounded = round_together(weights, moments.gram, *limits(weights, -8, 7))
        floor = np.floor(weights)
        every = np.concatenate(
            [floor + np.array(up) for up in product((0, 1), repeat=8)], axis=1
        )
        best.append(errors(every - weights, moments.gram).min())
        ours.append(errors(rounded - weights, moments.gram).min())
        theirs.append(errors(np.rint(weights) - weights, moments.gram).min())
    assert np.sum(ours) < 1.5 * np.sum(best)
    assert np.sum(ours) < 0.5 * np.sum(theirs)


def test_weights_that_nothing_reads_are_rounded_to_the_nearest() -> None:
    """A dead input says nothing about its weight."""
    gram = np.zeros((1, 3, 3))
    weights = np.array([[[0.4, 0.6, -1.2]]])
    rounded = round_together(weights, gram, *limits(weights, -8, 7))
    assert np.array_equal(rounded, np.rint(weights))


def test_the_same_weights_are_rounded_the_same() -> None:
    """Bit by bit."""
    moments = drawn(3)
    weights = np.random.default_rng(3).uniform(-6, 6, (2, 3, 5))
    first, second = (
        round_together(weights, moments.gram, *limits(weights, -8, 7)) for _ in "ab"
    )
    assert first.tobytes() == second.tobytes()


def test_moments_tell_the_error_that_positions_have() -> None:
    """Also when they are added up from parts, and about the mean."""
    rng = np.random.default_rng(0)
    read, made = rng.normal(size=(2, 50, 4)) + 2, rng.normal(size=(2, 50, 3)) - 1
    weights = rng.normal(size=(2, 3, 4))
    parts = Moments.of(read[:, :20], made[:, :20]) + Moments.of(
        read[:, 20:], made[:, 20:]
    )
    wrong = read @ weights.swapaxes(1, 2) - made
    assert np.allclose(parts.error(weights), np.square(wrong).sum(axis=1))
    assert np.allclose(parts.centered().error(weights), wrong.var(axis=1))


@pytest.mark.parametrize("stiffness", [1e-9, 0.1, 1e9])
def test_a_fit_goes_as_far_as_it_is_let(stiffness: float) -> None:
    """Stiff weights stay, loose ones make what they should."""
    rng = np.random.default_rng(0)
    read, wanted = rng.normal(size=(1, 100, 4)), rng.normal(size=(1, 2, 4))
    moments = Moments.of(read, read @ wanted.swapaxes(1, 2))
    trained = wanted + 1
    found = fit(trained, moments, stiffness)
    moved = float(np.abs(found - trained).mean())
    assert np.isclose(moved, 1 / (1 + stiffness), atol=0.05)
    assert moments.error(found).sum() <= moments.error(trained).sum() + 1e-9

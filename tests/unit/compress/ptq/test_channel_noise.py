from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.ptq.channel_noise import ChannelNoise, ChannelStatistics, Reading


def statistics(rows: np.ndarray) -> ChannelStatistics:
    """Of some rows, one a channel."""
    return ChannelStatistics.of(rows.astype(np.float32))


def test_statistics_add_up_and_scale() -> None:
    """Two parts give what the whole gives, and so do scaled numbers."""
    rows = np.random.default_rng(0).normal(size=(3, 20))
    whole, halves = statistics(rows), [statistics(rows[:, :5]), statistics(rows[:, 5:])]
    joined = halves[0].joined(halves[1])
    scale = np.array([0.5, 1.0, 4.0])
    scaled = statistics(rows / scale[:, None])
    for one, other in ((whole, joined), (scaled, whole.divided(scale))):
        np.testing.assert_allclose(one.low, other.low, rtol=1e-6)
        np.testing.assert_allclose(one.high, other.high, rtol=1e-6)
        np.testing.assert_allclose(one.mean_square, other.mean_square, rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_what_is_expected_is_what_is_measured(*, per_channel: bool) -> None:
    """The noise of a real rounding, times 12, is near the expected one."""
    rng = np.random.default_rng(1)
    rows = rng.uniform(-1, 1, size=(6, 40000)) * 2.0 ** rng.uniform(-2, 2, (6, 1))
    weights = rng.normal(size=(5, 6))
    noise = ChannelNoise(
        [Reading(weights=weights.reshape(1, 5, 6, 1), statistics=statistics(rows))],
        None,
        per_channel=per_channel,
    )
    scale = 2.0 ** rng.uniform(-1, 1, 6)
    scaled, wide = rows / scale[:, None], weights * scale
    step = (scaled.max() - scaled.min()) / 255
    steps = np.abs(wide).max(axis=1, keepdims=True) / 127
    if not per_channel:
        steps = np.full_like(steps, steps.max())
    off = (
        np.rint(wide / steps) * steps @ (np.rint(scaled / step) * step) - wide @ scaled
    )
    measured = np.square(off).mean(axis=1).sum() * 12
    assert noise.expected(scale) == pytest.approx(measured, rel=0.5)


def test_a_channel_below_zero_is_not_blown_up() -> None:
    """Where all others lie above zero, filling the whole range would double it."""
    rows = np.random.default_rng(2).uniform(0, 1, (8, 500))
    rows[0] *= -0.02
    noise = ChannelNoise(
        [Reading(weights=np.ones((1, 4, 8, 1)), statistics=statistics(rows))],
        None,
        per_channel=True,
    )
    needed = noise.ranges[0]
    assert needed[0] > 0.1
    np.testing.assert_allclose(needed[1:], 1, rtol=0.05)


def test_weights_that_make_the_channels_count_where_they_share_a_scale() -> None:
    """Their rows are a third range to make equal, and noise of their own."""
    rng = np.random.default_rng(3)
    readings = [
        Reading(
            weights=rng.normal(size=(1, 4, 6, 1)),
            statistics=statistics(rng.uniform(0, 1, (6, 100))),
        )
    ]
    made = rng.normal(size=(6, 10))
    alone = ChannelNoise(readings, None, per_channel=False)
    both = ChannelNoise(readings, made, per_channel=False)
    one = np.ones(6)
    assert len(alone.ranges) + 1 == len(both.ranges)
    np.testing.assert_allclose(both.ranges[2], np.abs(made).max(axis=1))
    assert both.expected(one) > alone.expected(one)

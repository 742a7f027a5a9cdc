"""Pieces are as near to their curve as the theorem says, and the curves as bent."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.rewrite.piecewise import CURVES, PIECES

STEP = 1e-3


@pytest.mark.parametrize("name", CURVES)
def test_no_curve_is_more_bent_than_it_says(name: str) -> None:
    """Second differences on a fine grid are second derivatives somewhere in between."""
    curve = CURVES[name]
    x = np.arange(-curve.reach, curve.reach, STEP)
    f = curve.function
    bends = np.abs(f(x + STEP) - 2 * f(x) + f(x - STEP)) / STEP**2
    assert bends.max() <= curve.bend * (1 + 1e-6) + 1e-6
    assert bends.max() >= curve.bend * 0.95


@pytest.mark.parametrize("name", CURVES)
def test_beyond_the_knots_little_changes(name: str) -> None:
    """The curve has gone straight but for what `tail` says, on both sides."""
    curve = CURVES[name]
    x = np.linspace(curve.reach, 40, 4000)
    for sign, slope in ((1, curve.slope), (-1, 0.0)):
        rest = curve.function(sign * x) - slope * sign * x
        assert np.abs(rest - rest[0]).max() <= curve.tail * (1 + 1e-9)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("count", PIECES)
def test_the_pieces_keep_their_bound_everywhere(name: str, count: int) -> None:
    """In float64, from far left to far right."""
    curve = CURVES[name]
    knots, changes, start = curve.pieces(count)
    x = np.linspace(-30, 30, 20011)
    pieces = start + sum(
        d * np.maximum(x - k, 0) for k, d in zip(knots, changes, strict=True)
    )
    off = np.abs(pieces - curve.function(x)).max()
    assert off <= curve.error(count) * (1 + 1e-9)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compress.numbers.schemes import UINT8_ACTIVATIONS
from skerry.compress.ptq.calibrate import calibrate
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.samples_check import MOST_MOVED, SamplesCheck, enough
from skerry.core.errors import DataError
from skerry.core.seams import Array, Runtime
from skerry.graph import parse_graph
from tests import models


def checked(*samples: Array) -> SamplesCheck:
    """Look at these samples, each with itself as the only value."""
    check = SamplesCheck()
    for sample in samples:
        check.add({"x": sample})
        check.see("x", float(sample.min()), float(sample.max()))
    return check


def drawn(count: int, seed: int = 0) -> list[Array]:
    """Random pictures."""
    rng = np.random.default_rng(seed)
    return list(rng.uniform(-1, 1, (count, 1, 3, 8, 8)).astype(np.float32))


def test_halves_that_agree_are_enough() -> None:
    """Values that lie evenly in a range need few samples; nothing is said."""
    check = checked(*drawn(16))
    assert check.moved() < MOST_MOVED
    check.refuse()
    assert check.notes() == ()


def test_halves_that_differ_are_told() -> None:
    """One sample in nine reaches ten times as far: halves with and without differ."""
    samples = drawn(9)
    samples[4] *= 10
    (note,) = checked(*samples).notes()
    assert note.startswith("9 calibration samples were given; ranges still move by 4")
    assert "give 256 or more" in note


def test_few_samples_are_told() -> None:
    """Of one, nothing can be compared; under eight, agreement may be luck."""
    assert checked(*drawn(1)).notes() == (
        "1 calibration sample was given: give 32 or more.",
    )
    (note,) = checked(*drawn(4)).notes()
    assert note.startswith("4 calibration samples were given; ranges move by")


@given(st.integers(1, 5000), st.floats(MOST_MOVED, 10))
def test_more_is_asked_for_than_there_is(count: int, moved: float) -> None:
    """At least twice as many, as many as samples cost, and a round number."""
    asked = enough(count, moved)
    assert 2 * count <= asked
    assert asked.bit_count() == 1 or asked == 2 * count
    assert asked <= max(1024, 2 * count)


def test_one_sample_many_times_is_refused() -> None:
    """Copies of one input tell its range and no other."""
    (sample,) = drawn(1)
    with pytest.raises(DataError, match="all 3 calibration samples are the same"):
        checked(sample, sample, sample.copy()).refuse()
    checked(sample).refuse()


def test_constant_samples_are_refused() -> None:
    """Pictures of one colour, of zeros above all."""
    shape = (1, 3, 8, 8)
    grey = [np.full(shape, value, np.float32) for value in (0.1, 0.2, 0.3)]
    with pytest.raises(DataError, match="one number over and over; such"):
        checked(*grey).refuse()
    with pytest.raises(DataError, match="over and over: zero"):
        checked(np.zeros(shape, np.float32)).refuse()
    check = checked(grey[0], *drawn(15))
    check.refuse()
    assert "1 of 16 calibration samples are one number" in " ".join(check.notes())


def test_copies_are_told() -> None:
    """More than one in ten."""
    samples = drawn(16)
    assert checked(*samples, samples[0]).notes() == ()
    (note,) = checked(*samples, *samples[:8]).notes()
    assert note.startswith("8 of 24 calibration samples are copies")


def test_an_input_that_never_changes_is_told() -> None:
    """A state that is zero in all samples, beside an input that is not."""
    check = SamplesCheck()
    for sample in drawn(8):
        check.add({"x": sample, "state": np.zeros((1, 4), np.float32)})
        check.see("x", -1, 1)
    check.refuse()
    (note,) = check.notes()
    assert note.startswith("The input 'state' is 0 in all calibration samples")


def test_calibration_refuses_them(runtime: Runtime) -> None:
    """The check is asked before ranges are chosen."""
    graph = prepare(parse_graph(models.mlp()))
    sample = {"x": np.ones((1, 8), np.float32) * np.arange(8, dtype=np.float32)}
    with pytest.raises(DataError, match="are the same"):
        calibrate(
            graph,
            ["x", "hidden"],
            [sample] * 4,
            runtime=runtime,
            scheme=UINT8_ACTIVATIONS,
            check=SamplesCheck(),
        )

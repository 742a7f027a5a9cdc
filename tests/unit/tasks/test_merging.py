from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skerry.core.errors import DataError
from skerry.tasks.merging import merge_steps
from skerry.tasks.steps import Layout, Normalize, Resize

NORMALIZES = [
    Normalize(),
    Normalize(scale=1 / 255),
    Normalize(mean=(1.0, 2.0, 3.0), std=(2.0, 3.0, 4.0)),
    Normalize(mean=5.0, std=(2.0, 3.0, 4.0)),
]


@pytest.mark.parametrize("normalize", NORMALIZES)
@pytest.mark.parametrize("order", ["CHW", "HWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("batch", [True, False])
def test_merged_steps_give_the_very_same_numbers(
    normalize: Normalize,
    order: Literal["CHW", "HWC"],
    channels: Literal["RGB", "BGR", "GRAY"],
    *,
    batch: bool,
) -> None:
    """Whatever comes: bytes or floats."""
    rng = np.random.default_rng(0)
    layout = Layout(order=order, channels=channels, batch=batch)
    for picture in (
        rng.integers(0, 256, (5, 7, 3), dtype=np.uint8),
        rng.random((5, 7, 3), dtype=np.float32),
    ):
        merged = picture
        for step in merge_steps((normalize, layout)):
            merged = step.apply(merged)
        expected = layout.apply(normalize.apply(picture))
        assert merged.dtype == expected.dtype
        assert merged.flags.c_contiguous
        assert_array_equal(merged, expected)


def test_only_neighbours_are_merged() -> None:
    """Other steps stay where they are."""
    steps = (Normalize(), Resize(height=4, width=4), Layout())
    assert merge_steps(steps) == steps
    assert len(merge_steps((Resize(height=4, width=4), Normalize(), Layout()))) == 2


def test_what_fits_neither_step_is_refused() -> None:
    """As it is where they are done one by one."""
    wrong = (Normalize(mean=(1.0, 2.0)), Layout())
    for steps, shape in ((wrong, (5, 7, 3)), ((Normalize(), Layout()), (5, 7))):
        (merged,) = merge_steps(steps)
        with pytest.raises(DataError):
            merged.apply(np.zeros(shape, dtype=np.uint8))

from __future__ import annotations

import numpy as np

from skerry.app.demo.fog import fog


def _stripes() -> np.ndarray:
    pictures = np.zeros((3, 28, 28), np.uint8)
    pictures[:, :, 10:12] = 255
    return pictures


def test_a_clean_lens_changes_nothing() -> None:
    """At level 0 the pictures come back."""
    pictures = _stripes()
    np.testing.assert_array_equal(
        fog(pictures, 0.0, np.random.default_rng(0)), pictures
    )


def test_fog_blurs_and_takes_contrast() -> None:
    """More fog, less contrast; the pictures given stay as they were."""
    pictures = _stripes()
    spans = [
        int(np.ptp(fog(pictures, level, np.random.default_rng(0))[0].astype(int)))
        for level in (0.0, 0.5, 1.0)
    ]
    assert spans[0] == 255
    assert spans[0] > spans[1] > spans[2]
    assert pictures.max() == 255


def test_fog_is_the_same_for_the_same_chance() -> None:
    """The noise follows from the generator."""
    one, two = (fog(_stripes(), 1.0, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.dtype == np.uint8
    assert one.shape == (3, 28, 28)

"""Fog on the demo's lens: blur, less contrast, some stray light, a noisier sensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DEMO_LEVEL = 1.0
"""At this level the meter reader gets about four digits of five, instead of 99 %."""

_BLUR_PIXELS = 1.2
_CONTRAST_LOSS = 0.28
_STRAY_LIGHT = 0.028
_NOISE = 0.02


def fog(
    pictures: NDArray[np.uint8], level: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Let the lens fog: a Gaussian blur and a gain, then the sensor's noise.

    Args:
        pictures: uint8 [n, height, width].
        level: 0 is a clean lens (of the same sensor), 1 the demo's fog; what lies
            between is in proportion.
        rng: Chance, for the noise.

    Returns:
        New pictures, uint8 [n, height, width].
    """
    light = _blur(pictures.astype(np.float64) / 255, _BLUR_PIXELS * level)
    light = light * (1 - _CONTRAST_LOSS * level) + _STRAY_LIGHT * level
    light += rng.normal(0.0, _NOISE * level, light.shape)
    return np.clip(np.rint(light * 255), 0, 255).astype(np.uint8)


def _blur(light: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Blur rows, then columns; beyond the edge lies what lies on it."""
    reach = int(np.ceil(3 * sigma))
    if reach == 0:
        return light
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (1, 2):
        edges = [(0, 0)] * 3
        edges[axis] = (reach, reach)
        wide = np.pad(light, edges, mode="edge")
        size = light.shape[axis]
        light = sum(
            (
                part * np.take(wide, np.arange(shift, shift + size), axis=axis)
                for shift, part in enumerate(kernel)
            ),
            start=np.zeros_like(light),
        )
    return light

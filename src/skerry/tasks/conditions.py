"""Pictures as a field spoils them: dark, glare, blur, noise, rain, gain, re-encoding.

Each condition is one fixed, moderate strength, and depends on nothing but the picture
and its name: two models see the same pictures, today and next year. They are simple
models of what C. Michaelis et al., "Benchmarking Robustness in Object Detection", 2019,
and D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, collect; no object moves.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.tasks import _image
from skerry.tasks._image import Picture

ALL = "all"
"""The word for all conditions."""

_GAMMA = 2.2
_DARK_LIGHT = 0.15
_DARK_PHOTONS = 400.0
_GLARE_LIGHT = 0.9
_GLARE_REACH = 0.35
_BLUR_SHARE = 0.006
_NOISE_DEVIATION = 18.0
_RAIN_SHARE = 0.0015
_RAIN_LENGTH = 0.06
_RAIN_SLANT = 0.25
_RAIN_VEIL = 0.85
_RAIN_LIGHT = 90.0
_GAIN = 1.8
_GAIN_PHOTONS = 60.0
_JPEG_QUALITY = 15

_Light = NDArray[np.float32]


class Condition(StrEnum):
    """What spoils a picture."""

    DARK = "dark"
    GLARE = "glare"
    BLUR = "blur"
    NOISE = "noise"
    RAIN = "rain"
    GAIN = "gain"
    RE_ENCODING = "re-encoding"


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Parse a list of conditions, such as `dark,blur`, or `all`.

    Raises:
        UsageError: A word is no condition (the nearest one is named), or there is none.
    """
    words = [word.strip() for word in text.split(",")]
    if words == [ALL]:
        return tuple(Condition)
    known = [condition.value for condition in Condition]
    for word in words:
        if word not in known:
            raise UsageError(
                f"there is no condition called {word!r}",
                hint=did_you_mean(word, [*known, ALL]),
            )
    return tuple(dict.fromkeys(Condition(word) for word in words))


def degrade(picture: Picture, condition: Condition, *, name: str) -> Picture:
    """Spoil a picture.

    Args:
        picture: uint8 [H, W, 3], RGB.
        condition: By what.
        name: Seeds the chance in it.

    Returns:
        uint8 [H, W, 3]; the same for the same picture, condition and name.

    Raises:
        MissingExtraError: Pillow is not installed (blur and re-encoding alone).
    """
    seed = zlib.crc32(f"{condition}/{name}".encode("utf-8", "surrogateescape"))
    return _CONDITIONS[condition](picture, np.random.default_rng(seed))


def _dark(picture: Picture, generator: np.random.Generator) -> Picture:
    """Little light, and the shot noise of few photons."""
    return _pixels(_photons(_light(picture) * _DARK_LIGHT, _DARK_PHOTONS, generator))


def _glare(picture: Picture, generator: np.random.Generator) -> Picture:
    """A lamp in the picture: light laid over all of it, most around one point."""
    rows, columns = picture.shape[:2]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    middle_y, middle_x = generator.uniform(0.2, 0.8, 2) * (rows, columns)
    reach = _GLARE_REACH * max(rows, columns)
    distance = np.square(y - middle_y) + np.square(x - middle_x)
    lamp = _GLARE_LIGHT * np.exp(-distance / (2 * reach * reach))
    return _pixels(_light(picture) + lamp[:, :, None].astype(np.float32))


def _blur(picture: Picture, generator: np.random.Generator) -> Picture:
    """A lens out of focus."""
    del generator
    return _image.blur(picture, radius_px=_BLUR_SHARE * max(picture.shape[:2]) + 0.5)


def _noise(picture: Picture, generator: np.random.Generator) -> Picture:
    """Noise of the same strength in each pixel and channel."""
    noise = generator.normal(0, _NOISE_DEVIATION, picture.shape)
    return _round(picture + noise)


def _rain(picture: Picture, generator: np.random.Generator) -> Picture:
    """Bright slanting streaks, and a veil over what is behind them."""
    rows, columns = picture.shape[:2]
    length = max(2, round(_RAIN_LENGTH * rows))
    drops = max(1, round(_RAIN_SHARE * rows * columns))
    top = generator.integers(-length, rows, drops)
    left = generator.integers(0, columns + round(length * _RAIN_SLANT) + 1, drops)
    light = generator.uniform(0.3, 1.0, drops) * _RAIN_LIGHT
    streaks = np.zeros((rows, columns))
    for step in range(length):
        y, x = top + step, left - round(step * _RAIN_SLANT)
        is_inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        np.maximum.at(streaks, (y[is_inside], x[is_inside]), light[is_inside])
    veiled = picture * _RAIN_VEIL + (1 - _RAIN_VEIL) * 128
    return _round(veiled + streaks[:, :, None])


def _gain(picture: Picture, generator: np.random.Generator) -> Picture:
    """A sensor's gain turned up: what is bright is clipped, and noise is amplified."""
    return _pixels(_photons(_light(picture), _GAIN_PHOTONS, generator) * _GAIN)


def _re_encode(picture: Picture, generator: np.random.Generator) -> Picture:
    """A camera's cheap JPEG."""
    del generator
    return _image.re_encode(picture, quality=_JPEG_QUALITY)


_CONDITIONS: Mapping[Condition, Callable[[Picture, np.random.Generator], Picture]] = {
    Condition.DARK: _dark,
    Condition.GLARE: _glare,
    Condition.BLUR: _blur,
    Condition.NOISE: _noise,
    Condition.RAIN: _rain,
    Condition.GAIN: _gain,
    Condition.RE_ENCODING: _re_encode,
}


def _light(picture: Picture) -> _Light:
    """Light, 0–1, of pixels: displays raise it to about 1 / 2.2."""
    return np.asarray((picture.astype(np.float32) / 255) ** _GAMMA, dtype=np.float32)


def _photons(light: _Light, full: float, generator: np.random.Generator) -> _Light:
    """Count photons, `full` of them in the brightest pixel: a normal approximation."""
    deviation = np.sqrt(light / full)
    noise = generator.standard_normal(light.shape, dtype=np.float32)
    return np.asarray(light + noise * deviation, dtype=np.float32)


def _pixels(light: _Light) -> Picture:
    return _round(np.clip(light, 0, 1) ** (1 / _GAMMA) * 255)


def _round(values: NDArray[np.floating]) -> Picture:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)

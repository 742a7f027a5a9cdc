"""The demo's text lines: rendered, photographed by a poor camera, exactly labelled.

Each line is an industrial label, a serial number, a reading or a date, printed in one
of the fonts of three pip wheels, then seen as a cheap camera sees it in low light:
small, a little rotated, unevenly lit, of low contrast, with the noise of few photons
(shot noise) and of the sensor (read noise) in each colour. Calibration and evaluation
lines share neither fonts nor words nor seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import MissingExtraError
from skerry.tasks._image import draw_text, resize, rotate

Part = Literal["calibration", "evaluation"]

LARGEST_ASPECT = 320 / 48
"""Widest line ÷ its height that the recognition net is shown without squashing."""

_DRAWN_PX = 64
_INK_MARGIN_PX = 6

_FONTS: dict[Part, tuple[tuple[str, str], ...]] = {
    "calibration": (
        ("font_hanken_grotesk", "HankenGrotesk-SemiBold.otf"),
        ("font_hanken_grotesk", "HankenGrotesk-Italic.otf"),
        ("font_source_sans_pro", "SourceSansPro-Semibold.otf"),
        ("font_source_sans_pro", "SourceSansPro-It.otf"),
        ("font_source_serif_pro", "SourceSerifPro-Semibold.otf"),
        ("font_source_serif_pro", "SourceSerifPro-LightIt.otf"),
    ),
    "evaluation": (
        ("font_hanken_grotesk", "HankenGrotesk-Regular.otf"),
        ("font_hanken_grotesk", "HankenGrotesk-Bold.otf"),
        ("font_hanken_grotesk", "HankenGrotesk-MediumItalic.otf"),
        ("font_source_sans_pro", "SourceSansPro-Regular.otf"),
        ("font_source_sans_pro", "SourceSansPro-Bold.otf"),
        ("font_source_serif_pro", "SourceSerifPro-Regular.otf"),
        ("font_source_serif_pro", "SourceSerifPro-Bold.otf"),
        ("font_source_serif_pro", "SourceSerifPro-It.otf"),
    ),
}
_CALIBRATION_WORDS = """
air alarm anchor axle belt boiler bracket burner cargo chain clutch coil crane dock
drain drill entry fan fence flange freight fuse gauge handle hinge hopper inlet ladder
lathe lever light lock mixer nozzle office outlet parcel pipe piston pulley pressure
rail return roller scale seal shaft signal silo socket steam supply tank tool tower
track truck vent wagon weld winch
"""
_EVALUATION_WORDS = """
approved assembly batch bearing bottle breaker bridge cabinet cable camera conveyor
cooling current customs danger delivery emergency engine exit filter frequency garden
gateway harbour heating inspection invoice kitchen level loading maintenance market
meter motor northern order panel platform printer pump quality reading rejected relay
river schedule sensor serial southern spindle station storage supplier switch
temperature terminal ticket tunnel valve voltage warehouse warning western window
"""
WORDS: dict[Part, tuple[str, ...]] = {
    "calibration": tuple(_CALIBRATION_WORDS.split()),
    "evaluation": tuple(_EVALUATION_WORDS.split()),
}
"""What stands on the labels of each part."""

_UNITS = ("bar", "kg", "kWh", "mm", "rpm", "V")
_SERIAL_LETTERS = "ABCDEFGHKLMNPRSTX"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLines:
    """Pictures of single lines of text, and what they say.

    Attributes:
        pictures: Each uint8 `[height, width, 3]` (RGB), sizes differing.
        texts: What each says, exactly.
    """

    pictures: tuple[NDArray[np.uint8], ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """What the camera may do to a line; each pair is a range drawn from evenly.

    Attributes:
        height_px: Height of the line on the sensor.
        rotation_deg: Largest rotation either way, in degrees.
        paper: Light that the paper sends back, as a fraction of full scale.
        contrast: Ink's darkness, as a fraction of the paper's light.
        photons: Photons of a full-scale pixel: shot noise is Poisson in them.
        read_noise: Standard deviation of the sensor's own noise, of full scale.
    """

    height_px: tuple[float, float] = (21, 43)
    rotation_deg: float = 1.5
    paper: tuple[float, float] = (0.5, 0.95)
    contrast: tuple[float, float] = (0.42, 0.89)
    photons: tuple[float, float] = (55, 320)
    read_noise: tuple[float, float] = (0.012, 0.065)


def read_lines(
    n: int, *, seed: int, which: Part, camera: Camera = Camera()
) -> TextLines:
    """Print and photograph some lines.

    Args:
        n: How many.
        seed: The same seed gives the same lines; the first lines of a longer list
            are those of a shorter one.
        which: Whose fonts and words to use.
        camera: What the camera may do.

    Raises:
        MissingExtraError: The fonts or Pillow are not installed.
    """
    fonts = [find_font(*font) for font in _FONTS[which]]
    rng = np.random.default_rng([seed, len(which)])
    lines = list(islice(photograph_lines(rng, fonts, WORDS[which], camera), n))
    return TextLines(
        pictures=tuple(picture for picture, _ in lines),
        texts=tuple(text for _, text in lines),
    )


def photograph_lines(
    rng: np.random.Generator,
    fonts: Sequence[Path],
    words: Sequence[str],
    camera: Camera = Camera(),
) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Print and photograph one line after another, without end.

    Args:
        rng: Draws everything.
        fonts: Files of fonts, as `find_font` gives them.
        words: What stands on the labels.
        camera: What the camera may do.

    Yields:
        A picture, uint8 `[height, width, 3]` (RGB), and what it says.
    """
    while True:
        text, ink = _printed_line(rng, fonts, words)
        yield _photograph(rng, ink, camera), text


@cache
def find_font(package: str, name: str) -> Path:
    """Find a font's file in the wheel that carries it.

    Args:
        package: The wheel's package; it is not imported.
        name: The file's name.

    Raises:
        MissingExtraError: The wheel is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(package, extra="demo")
    return Path(spec.origin).parent / "files" / name


def _printed_line(
    rng: np.random.Generator, fonts: Sequence[Path], words: Sequence[str]
) -> tuple[str, NDArray[np.uint8]]:
    """Draw lines until one is short enough for the net, black on white."""
    while True:
        text = _text(rng, words)
        drawn = draw_text(
            text, font_path=fonts[int(rng.integers(len(fonts)))], size_px=_DRAWN_PX
        )
        rows = np.flatnonzero((drawn < 128).any(axis=1))
        columns = np.flatnonzero((drawn < 128).any(axis=0))
        ink = np.pad(
            drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1],
            _INK_MARGIN_PX,
            constant_values=255,
        )
        if ink.shape[1] / ink.shape[0] <= LARGEST_ASPECT:
            return text, ink


def _text(rng: np.random.Generator, words: Sequence[str]) -> str:
    """Compose a label, a label with a number, a reading, a serial number or a date."""
    word = str(rng.choice(words))
    word = (word, word.upper(), word.capitalize())[rng.integers(3)]
    number = int(rng.integers(10, 10000))
    match rng.choice(5, p=(0.3, 0.25, 0.15, 0.15, 0.15)):
        case 0:
            return word
        case 1:
            return f"{word} {number % 100}"
        case 2:
            return f"{number / 10:.1f} {rng.choice(_UNITS)}"
        case 3:
            letters = "".join(rng.choice(list(_SERIAL_LETTERS), 2))
            return f"{letters}-{number:04}-{rng.integers(10, 100)}"
        case _:
            year, month, day = rng.integers((2019, 1, 1), (2030, 13, 29))
            return f"{year}-{month:02}-{day:02}"


def _photograph(
    rng: np.random.Generator, ink: NDArray[np.uint8], camera: Camera
) -> NDArray[np.uint8]:
    turned = rotate(
        ink, degrees=rng.uniform(-camera.rotation_deg, camera.rotation_deg), fill=255
    )
    height = round(rng.uniform(*camera.height_px))
    width = max(1, round(turned.shape[1] * height / turned.shape[0]))
    seen = resize(turned, height, width, "bilinear") / 255
    light = 1 - rng.uniform(*camera.contrast) * (1 - seen)
    # Lit from one side: the light falls by up to a quarter over the line.
    falloff = np.linspace(1, 1 - rng.uniform(0, 0.25), width)
    scene = (rng.uniform(*camera.paper) * light * falloff[:: rng.choice((-1, 1))])[
        :, :, None
    ].repeat(3, axis=2)
    photons = rng.uniform(*camera.photons)
    sensed = rng.poisson(scene * photons) / photons
    sensed += rng.normal(0, rng.uniform(*camera.read_noise), scene.shape)
    return np.rint(np.clip(sensed, 0, 1) * 255).astype(np.uint8)

"""Text recognition: PP-OCRv4 on lines of text seen by a poor camera.

The demo's printer and camera, with more fonts. Fonts and words are dealt out by the
seed to the three parts, so that no two share one; serial numbers, readings and dates
that a part has are not in another one either.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.nets.case import PARTS, Shot, write_net, write_pictures
from skerry.app.demo import networks
from skerry.app.demo.textlines import WORDS, Camera, find_font, photograph_lines
from skerry.tasks._image import encode_png

LINES = {"calibration": 100, "selection": 300, "report": 2000}
MANY_CALIBRATION_LINES = 1000
QUICK_LINES = {"calibration": 4, "selection": 12, "report": 24}

_SANS = ("Light", "LightIt", "Regular", "It", "Semibold", "SemiboldIt", "Bold")
_HANKEN = (
    *("Light", "LightItalic", "Regular", "Italic", "Medium", "MediumItalic"),
    *("SemiBold", "SemiBoldItalic", "Bold", "BoldItalic"),
)
FONTS = (
    tuple(("font_hanken_grotesk", f"HankenGrotesk-{style}.otf") for style in _HANKEN),
    tuple(
        ("font_source_sans_pro", f"SourceSansPro-{style}.otf")
        for style in (*_SANS, "BoldIt")
    ),
    tuple(
        ("font_source_serif_pro", f"SourceSerifPro-{style}.otf")
        for style in (*_SANS, "BoldIt")
    ),
)
"""Each family's fonts, as `find_font` takes them."""

FEW_FONTS = 2
"""Fonts of each family that calibration gets, and selection; report gets the rest."""

FEW_WORDS = 35
"""Words that calibration gets, and selection; report gets the rest."""

CAMERA = Camera(
    height_px=(17, 37),
    rotation_deg=2.0,
    contrast=(0.35, 0.86),
    photons=(42, 260),
    read_noise=(0.016, 0.072),
)
"""Poorer than the demo's: float32 reads four lines in five."""

Font = tuple[str, str]


def deal(seed: int) -> dict[str, tuple[tuple[Font, ...], tuple[str, ...]]]:
    """Deal fonts and words out to the parts."""
    rng = np.random.default_rng([seed, 4])
    families = [[one[index] for index in rng.permutation(len(one))] for one in FONTS]
    words = rng.permutation([*WORDS["calibration"], *WORDS["evaluation"]]).tolist()
    dealt = {}
    for index, part in enumerate(PARTS):
        last = None if part == PARTS[-1] else 1
        fonts = [
            font
            for family in families
            for font in family[index * FEW_FONTS :][: last and FEW_FONTS]
        ]
        dealt[part] = (
            tuple(fonts),
            tuple(words[index * FEW_WORDS :][: last and FEW_WORDS]),
        )
    return dealt


def print_lines(
    part: str, *, seed: int, n: int, taken: frozenset[str]
) -> Iterator[Shot]:
    """Print and photograph lines of a part.

    Args:
        part: One of `PARTS`.
        seed: The same seed gives the same lines; the first lines of a longer list are
            those of a shorter one.
        n: How many.
        taken: What may not be printed, because another part has it.

    Yields:
        A picture; its label is what it says.
    """
    fonts, words = deal(seed)[part]
    rng = np.random.default_rng([seed, PARTS.index(part), 44])
    files = [find_font(*font) for font in fonts]
    lines = photograph_lines(rng, files, words, CAMERA)
    fresh = (line for line in lines if line[1] not in taken)
    for index, (picture, text) in enumerate(islice(fresh, n)):
        yield Shot(file=f"{index:04}.png", content=encode_png(picture), label=text)


def write_ocr(folder: Path, *, seed: int, quick: bool, many: bool = False) -> None:
    """Write the case; `many` calibrates on 1,000 lines, for the memory it takes."""
    model = networks.text_model()
    write_net(folder, model.path, networks.text_task(model))
    counts = dict(QUICK_LINES if quick else LINES)
    if many and not quick:
        counts["calibration"] = MANY_CALIBRATION_LINES
    taken: frozenset[str] = frozenset()
    # The report part is drawn first: what it holds does not depend on the others.
    for part in reversed(PARTS):
        shots = print_lines(part, seed=seed, n=counts[part], taken=taken)
        taken |= write_pictures(folder / part, shots)

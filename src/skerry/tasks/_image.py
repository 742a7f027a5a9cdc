"""The only door to Pillow: decode, resize, encode and draw pictures.

A picture is a uint8 array, rows × columns × 3 (RGB), or rows × columns (gray) where
the docstring says so. What is decoded comes from outside: the number of pixels is
bounded before they are decoded, and each failure is a DataError.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from PIL import Image

Picture = NDArray[np.uint8]
Interpolation = Literal["bilinear", "bicubic", "nearest"]

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""File names that are read as pictures, in lower case."""

LARGEST_PIXELS = 1 << 26
LARGEST_FILE_BYTES = 1 << 28

_BOX_COLOUR = (192, 57, 27)
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def read_picture(path: Path) -> Picture:
    """Read a picture file.

    Args:
        path: A BMP, GIF (its first frame), JPEG, PNG, PPM, TIFF or WebP file.

    Returns:
        uint8, rows × columns × 3, RGB.

    Raises:
        DataError: The file is missing, too large, damaged, or not a picture.
        MissingExtraError: Pillow is not installed.
    """
    try:
        size_bytes = path.stat().st_size
        content = path.read_bytes() if size_bytes <= LARGEST_FILE_BYTES else b""
    except OSError as error:
        raise DataError(
            f"cannot read picture {path}: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    if size_bytes > LARGEST_FILE_BYTES:
        raise DataError(
            f"picture {path} has {size_bytes} bytes, expected at most "
            f"{LARGEST_FILE_BYTES}",
            hint="Store a smaller picture.",
        )
    return decode_picture(content, name=str(path))


def decode_picture(content: bytes, *, name: str) -> Picture:
    """Decode a picture file's content.

    The orientation that a camera noted in the file is applied, transparent pixels are
    laid on white, and 16-bit gray is reduced to its upper 8 bits.

    Args:
        content: All of the file.
        name: Whose content it is, for messages.

    Returns:
        uint8, rows × columns × 3, RGB.

    Raises:
        DataError: It is no picture, is damaged, or has more than 2²⁶ pixels.
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image, ImageOps, UnidentifiedImageError
    try:
        # Pillow warns of bombs before it refuses them; our own limit is the lower one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
        pixels = image.width * image.height
        if pixels <= LARGEST_PIXELS:
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise DataError(
            f"cannot decode picture {name}: it is none",
            hint="Give a BMP, GIF, JPEG, PNG, PPM, TIFF or WebP file.",
        ) from error
    # Pillow's decoders raise no closed list of exceptions on damaged files.
    except Exception as error:
        raise DataError(
            f"cannot decode picture {name}: {error or type(error).__name__}",
            hint="Is it a whole BMP, GIF, JPEG, PNG, PPM, TIFF or WebP file?",
        ) from error
    raise DataError(
        f"picture {name} has {pixels} pixels, expected at most {LARGEST_PIXELS}",
        hint="Store a smaller picture.",
    )


def resize(
    picture: Picture, height: int, width: int, interpolation: Interpolation
) -> Picture:
    """Resize a picture, gray or RGB; smaller ones are averaged, never subsampled.

    `bilinear` and `bicubic` widen their support when they shrink, as Pillow does
    (and OpenCV's do not).

    Raises:
        DataError: The picture has no pixels.
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image
    if picture.size == 0:
        raise DataError(
            f"a picture of {picture.shape[0]} × {picture.shape[1]} pixels cannot be "
            "resized",
            hint="Remove the empty picture.",
        )
    resampling = Image.Resampling[interpolation.upper()]
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.array(image.resize((width, height), resampling), dtype=np.uint8)


def encode_png(picture: Picture) -> bytes:
    """Encode a picture, gray or RGB, as a PNG file.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def encode_jpeg(picture: Picture, *, quality: int = 80) -> bytes:
    """Encode a picture, gray or RGB, as a JPEG file.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image
    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def draw_text(
    text: str, *, font_path: Path, size_px: int, padding_px: int = 4
) -> Picture:
    """Render one line of black text on white.

    Args:
        text: The line.
        font_path: A TrueType or OpenType file.
        size_px: The font's size in pixels.
        padding_px: White left on each side of the ink.

    Returns:
        uint8, rows × columns, gray; as wide as the line, as high as the font's ascent
        and descent, plus the padding.

    Raises:
        DataError: The font cannot be read.
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image, ImageDraw, ImageFont
    try:
        font = ImageFont.truetype(font_path, size_px)
    except OSError as error:
        raise DataError(
            f"cannot read font {font_path}: {error}",
            hint="Give a TrueType or OpenType file.",
        ) from error
    left, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    width = int(np.ceil(right - left)) + 2 * padding_px
    image = Image.new("L", (width, ascent + descent + 2 * padding_px), 255)
    ImageDraw.Draw(image).text((padding_px - left, padding_px), text, 0, font)
    return np.array(image, dtype=np.uint8)


def draw_boxes(
    picture: Picture, boxes: Sequence[tuple[Sequence[float], str]]
) -> Picture:
    """Draw boxes with words over them into a copy of a picture.

    Args:
        picture: uint8, rows × columns × 3, RGB.
        boxes: Left, top, right and bottom in pixels, and the words, of each.

    Returns:
        uint8, of the same shape.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image, ImageDraw, ImageFont
    image = Image.fromarray(np.ascontiguousarray(picture))
    pen = ImageDraw.Draw(image)
    side = min(image.size)
    font, width = ImageFont.load_default(max(12, side // 32)), max(2, side // 200)
    for corners, words in boxes:
        left, top, right, bottom = corners
        if right < left or bottom < top:
            continue
        pen.rectangle((left, top, right, bottom), outline=_BOX_COLOUR, width=width)
        _, _, text_right, text_bottom = pen.textbbox((0, 0), words, font)
        y = top - text_bottom - 4 if top >= text_bottom + 4 else top
        pen.rectangle(
            (left, y, left + text_right + 6, y + text_bottom + 4), _BOX_COLOUR
        )
        pen.text((left + 3, y + 1), words, "white", font)
    return np.array(image, dtype=np.uint8)


@contextmanager
def _pillow() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError("PIL", extra="image") from error


def _to_rgb(image: Image.Image) -> Picture:
    if image.mode.startswith("I"):
        gray = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF) >> 8
        return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float32)
        alpha = rgba[:, :, 3:] / 255
        return np.rint(rgba[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def rotate(picture: Picture, *, degrees: float, fill: int) -> Picture:
    """Rotate a gray picture counter-clockwise about its centre, keeping its size.

    Args:
        picture: uint8, rows × columns.
        degrees: The angle.
        fill: Gray value of what comes in from outside.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image
    image = Image.fromarray(np.ascontiguousarray(picture))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=fill)
    return np.array(turned, dtype=np.uint8)


def blur(picture: Picture, *, radius_px: float) -> Picture:
    """Blur a picture, gray or RGB, with a Gaussian of this deviation.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image, ImageFilter
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.array(image.filter(ImageFilter.GaussianBlur(radius_px)), dtype=np.uint8)


def re_encode(picture: Picture, *, quality: int) -> Picture:
    """Encode a picture, gray or RGB, as JPEG and decode it again.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    with _pillow():
        from PIL import Image
    content = encode_jpeg(picture, quality=quality)
    return np.array(Image.open(io.BytesIO(content)), dtype=np.uint8)

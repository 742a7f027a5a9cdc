"""Decode what clients send: a picture, a recording, a window of measurements.

All of it comes from outside: sizes are bounded before memory is taken, and each
failure is a DataError.
"""

from __future__ import annotations

import csv
import io
import tokenize
import wave
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.lib import format as npy

from skerry.core.errors import DataError
from skerry.core.files import read_file
from skerry.core.seams import Array
from skerry.tasks import _image
from skerry.tasks.series import LARGEST_SERIES

LARGEST_CONTENT_BYTES = 1 << 26
MOST_CHANNELS = 1 << 12
MOST_RATE_HZ = 1 << 22
"""Beyond the rate of any recording."""

MEDIA_TYPES = (
    "image/jpeg",
    "audio/wav",
    "text/csv",
    "application/json",
    "application/x-npy",
)
"""One of each kind, for messages."""

SERIES_SUFFIXES = {".csv": "text/csv", ".npy": "application/x-npy", ".wav": "audio/wav"}
"""File names that are read as time series, in lower case, and what they hold."""

_CSV = frozenset({"text/csv", "application/csv"})
_SAMPLE_BYTES = (1, 2, 3, 4)
_LARGEST_HEADER_BYTES = 1 << 12
_MISSING = frozenset({"", "nan", "null", "na", "n/a"})
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content:
    """What was sent, decoded.

    Attributes:
        array: A picture, uint8 [H, W, 3]; a series, float [T, C]; or an array as it
            was stored.
        is_picture: Whether it was a picture file.
        rate_hz: Samples a second where the content says so.
    """

    array: Array
    is_picture: bool = False
    rate_hz: float | None = None


def read_series(path: Path) -> Content:
    """Read a file with a recording or a window of measurements.

    Raises:
        DataError: The file is missing, too large, damaged, or of no known kind.
    """
    content = read_file(path, largest_bytes=LARGEST_CONTENT_BYTES, error=DataError)
    media_type = SERIES_SUFFIXES.get(path.suffix.lower(), "")
    try:
        return decode_content(content, media_type)
    except DataError as error:
        raise DataError(f"{path}: {error.what}", hint=error.hint) from error


def decode_content(content: bytes, media_type: str) -> Content:
    """Decode a body.

    Pictures, recordings and numpy arrays say themselves what they are; a media type
    tells CSV from JSON.

    Args:
        content: All of it.
        media_type: As HTTP's `Content-Type` has it; parameters are not looked at.

    Raises:
        DataError: It is too large, damaged, or of no known kind.
        MissingExtraError: It is a picture, and Pillow is not installed.
    """
    if len(content) > LARGEST_CONTENT_BYTES:
        raise DataError(
            f"the content has {len(content)} bytes, expected at most "
            f"{LARGEST_CONTENT_BYTES}",
            hint="Send a smaller picture, or a shorter series.",
        )
    kind = media_type.partition(";")[0].strip().lower()
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return _decode_wav(content)
    if content.startswith(npy.MAGIC_PREFIX):
        return Content(array=_decode_npy(content))
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if is_webp or content.startswith(_PICTURES) or kind.startswith("image/"):
        picture = _image.decode_picture(content, name="in the body")
        return Content(array=picture, is_picture=True)
    if kind in _CSV:
        return Content(array=_decode_csv(content))
    if kind == "application/json":
        return Content(array=_decode_json(content))
    raise DataError(
        f"the content is of type {media_type[:80]!r} and of no kind that is known",
        hint=f"Send a Content-Type such as {', '.join(MEDIA_TYPES)}.",
    )


def _decode_wav(content: bytes) -> Content:
    """Decode PCM; channels are mixed to one, samples are from -1 to 1."""
    try:
        with wave.open(io.BytesIO(content)) as recording:
            width, channels = recording.getsampwidth(), recording.getnchannels()
            rate_hz, count = recording.getframerate(), recording.getnframes()
            is_right = width in _SAMPLE_BYTES and 1 <= channels <= MOST_CHANNELS
            is_right &= 1 <= rate_hz <= MOST_RATE_HZ
            # The header may promise more than there is.
            is_right &= 0 <= count * channels <= LARGEST_SERIES
            frames = recording.readframes(count) if is_right else b""
    # `wave` raises its own error on formats other than PCM, and others on damage.
    except (wave.Error, EOFError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(
            f"cannot decode the WAV: {error or type(error).__name__}",
            hint="Send PCM of 8, 16, 24 or 32 bits; convert floats: "
            "ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav",
        ) from error
    whole = len(frames) // (width * channels) * width * channels if is_right else 0
    if not whole:
        raise DataError(
            f"the WAV has {count} samples of {8 * width} bits in {channels} channels "
            f"at {rate_hz} Hz; expected 1 to {LARGEST_SERIES} samples of 8 to 32 bits",
            hint="Is it whole? Send a shorter piece.",
        )
    samples = _to_float(frames[:whole], width).reshape(-1, channels)
    mono = samples.mean(axis=1, keepdims=True, dtype=np.float64)
    return Content(array=mono.astype(np.float32), rate_hz=float(rate_hz))


def _to_float(frames: bytes, width: int) -> Array:
    """Samples of `width` bytes from -1 to 1; those of one byte are unsigned."""
    if width == 1:
        return (np.frombuffer(frames, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        raw = np.frombuffer(frames, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(raw), 4), np.uint8)
        wide[:, 1:] = raw  # the lowest byte stays 0
        return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    whole = np.frombuffer(frames, f"<i{width}")
    return (whole / 2.0 ** (8 * width - 1)).astype(np.float32)


def _decode_npy(content: bytes) -> Array:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        # numpy would first unpack as much of a header as it says it has: up to 4 GiB.
        head = io.BytesIO(content[:_LARGEST_HEADER_BYTES])
        shape, is_fortran, dtype = readers[npy.read_magic(head)](head)
        start = head.tell()
    # The same as in `_npz`: what numpy's parser raises on text that is no header.
    except (
        KeyError,
        ValueError,
        TypeError,
        MemoryError,
        RecursionError,
        SyntaxError,
        UserWarning,
        tokenize.TokenError,
    ) as error:
        raise DataError(
            f"cannot decode the numpy array: {error or type(error).__name__}",
            hint="Write it with numpy.save.",
        ) from error
    count = 1
    for size in shape:
        count *= size
    if dtype.kind not in "biuf" or dtype.subdtype or min(shape, default=0) < 0:
        raise DataError(
            f"the numpy array is {dtype} {shape}, expected numbers",
            hint="Pickled objects are not read: convert the array.",
        )
    size_bytes = count * dtype.itemsize
    if size_bytes != len(content) - start or not count:
        raise DataError(
            f"the numpy array has {len(content) - start} bytes, its header says "
            f"{size_bytes}",
            hint="Is it whole, and not empty? Write it with numpy.save.",
        )
    flat = np.frombuffer(content, dtype, offset=start)
    array = flat.reshape(shape, order="F" if is_fortran else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("=")))


def _decode_json(content: bytes) -> Array:
    """Decode numbers or rows of numbers; null is a missing value."""
    try:
        rows = msgspec.json.decode(
            content, type=list[float | list[float | None] | None]
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"cannot decode the JSON: {error}",
            hint="Send [1.5, 2.5, null] or rows such as [[1, 2], [3, 4]].",
        ) from error
    return _to_series([row if isinstance(row, list) else [row] for row in rows], "JSON")


def _decode_csv(content: bytes) -> Array:
    """Decode rows of numbers; a first row of names is passed over."""
    try:
        text = content.decode("utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(",;\t", key=first.count)
        rows = [
            row for row in csv.reader(io.StringIO(text), delimiter=separator) if row
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot decode the CSV: {error}", hint="Send UTF-8, one row a moment."
        ) from error
    if rows and any(_is_name(cell) for cell in rows[0]):
        rows = rows[1:]
    return _to_series([[_to_number(cell) for cell in row] for row in rows], "CSV")


def _is_name(cell: str) -> bool:
    if cell.strip().lower() in _MISSING:
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _to_number(cell: str) -> float | None:
    if cell.strip().lower() in _MISSING:
        return None
    try:
        return float(cell)
    except ValueError as error:
        raise DataError(
            f"the CSV holds {cell[:80]!r}, expected a number",
            hint="Leave a cell empty where a value is missing.",
        ) from error


def _to_series(rows: list[list[float | None]], kind: str) -> Array:
    widths = {len(row) for row in rows}
    count = sum(len(row) for row in rows)
    width = max(widths, default=0)
    if len(widths) != 1 or not 1 <= width <= MOST_CHANNELS or count > LARGEST_SERIES:
        raise DataError(
            f"the {kind} has {len(rows)} rows of {min(widths, default=0)} to {width} "
            f"numbers; expected rows of 1 to {MOST_CHANNELS}, as many in each",
            hint="A row is a moment, a column a channel.",
        )
    return np.array(rows, dtype=np.float64)

"""What clients send, decoded."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.tasks import _content, _image
from skerry.tasks._content import decode_content
from tests.contents import npy, wav

LEVELS = [-1.0, -0.5, 0.0, 0.5]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_of_any_width_is_from_minus_one_to_one(width: int) -> None:
    """8 bits are unsigned, 24 have no type in numpy."""
    found = decode_content(wav(LEVELS, width=width), "audio/wav")
    assert found.rate_hz == 16000
    assert found.array.dtype == np.float32
    assert found.array.tolist() == [[level] for level in LEVELS]


def test_channels_are_mixed_to_one() -> None:
    """The mean of left and right."""
    found = decode_content(wav([0.5, 0.0, -0.5, 0.5], channels=2), "audio/x-wav")
    assert found.array.tolist() == [[0.25], [0.0]]


def test_a_wav_cut_off_gives_what_is_there() -> None:
    """A recorder that lost power leaves a header that promises more."""
    whole = wav(LEVELS)
    assert decode_content(whole[:-1], "").array[:, 0].tolist() == LEVELS[:3]


def test_a_wav_of_floats_is_refused_with_the_way_out() -> None:
    """Format 3 of the header is IEEE float."""
    header = bytearray(wav(LEVELS, width=4))
    header[20:22] = struct.pack("<H", 3)
    with pytest.raises(DataError, match="unknown format: 3") as caught:
        decode_content(bytes(header), "audio/wav")
    assert "pcm_s16le" in caught.value.hint


@pytest.mark.parametrize("samples", [[], [0.0]])
def test_a_wav_too_long_or_empty_is_refused(
    samples: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its samples are read."""
    monkeypatch.setattr(_content, "LARGEST_SERIES", 0)
    with pytest.raises(DataError, match="expected 1 to 0 samples"):
        decode_content(wav(samples), "audio/wav")


def test_a_picture_says_itself_what_it_is() -> None:
    """Whatever the client calls it: curl names each body a form."""
    picture = np.full((4, 6, 3), 200, np.uint8)
    for media_type in ("", "application/x-www-form-urlencoded", "image/png"):
        found = decode_content(_image.encode_png(picture), media_type)
        assert found.is_picture
        assert (found.array == picture).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("flow;heat\r\n1;2.5\r\n3;\r\n", [[1, 2.5], [3, np.nan]]),
        ("\ufeffx\n1\nNaN\n\n-2e1", [[1], [np.nan], [-20]]),
        ("1\t2", [[1, 2]]),
    ],
)
def test_csv_has_a_row_a_moment(text: str, expected: list[list[float]]) -> None:
    """A first row of names is passed over, an empty cell is missing."""
    found = decode_content(text.encode(), "text/csv; charset=utf-8")
    np.testing.assert_array_equal(found.array, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, null, 2.5]", [[1], [np.nan], [2.5]]),
        ("[[1, 2], [3, null]]", [[1, 2], [3, np.nan]]),
    ],
)
def test_json_has_numbers_or_rows(text: str, expected: list[list[float]]) -> None:
    """Null is missing."""
    found = decode_content(text.encode(), "application/json")
    np.testing.assert_array_equal(found.array, expected)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.ones((2, 2, 3), np.uint8),
    ],
)
def test_numpy_arrays_come_as_they_are(array: np.ndarray) -> None:
    """In the machine's byte order, row by row."""
    found = decode_content(npy(array), "application/octet-stream").array
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "media_type", "match"),
    [
        (b"hello", "text/plain", "of no kind that is known"),
        (b"", "", "of no kind that is known"),
        (b"RIFF....WAVE", "audio/wav", "cannot decode the WAV"),
        (b"\xff\xd8\xff..", "", "cannot decode picture"),
        (b"x", "image/jpeg", "cannot decode picture"),
        (b"", "text/csv", "the CSV has 0 rows"),
        (b"1,2\n3", "text/csv", "the CSV has 2 rows of 1 to 2"),
        (b"1\nx", "text/csv", "holds 'x', expected a number"),
        (b"\xff\xfe", "text/csv", "cannot decode the CSV"),
        (b"[", "application/json", "cannot decode the JSON"),
        (b'{"a": 1}', "application/json", "cannot decode the JSON"),
        (b"[]", "application/json", "the JSON has 0 rows"),
        (b"[1, [2, 3]]", "application/json", "the JSON has 2 rows of 1 to 2"),
        (npy(np.array(["a"])), "", "expected numbers"),
        (npy(np.zeros(0)), "", "its header says 0"),
        (npy(np.ones(4))[:-1], "", "its header says 32"),
        (b"\x93NUMPY\x01\x00\x02\x00{}", "", "cannot decode the numpy array"),
    ],
)
def test_what_cannot_be_decoded_is_refused(
    content: bytes, media_type: str, match: str
) -> None:
    """Each time with what was expected."""
    with pytest.raises(DataError, match=match) as caught:
        decode_content(content, media_type)
    assert caught.value.hint


def test_what_is_too_large_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size alone refuses it."""
    monkeypatch.setattr(_content, "LARGEST_CONTENT_BYTES", 3)
    with pytest.raises(DataError, match="has 4 bytes, expected at most 3"):
        decode_content(b"[12]", "application/json")

from __future__ import annotations

import builtins
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skerry.core.errors import DataError, MissingExtraError
from skerry.tasks import _image


def _picture(rows: int = 5, columns: int = 7) -> _image.Picture:
    values = np.arange(rows * columns * 3) % 251
    return values.reshape(rows, columns, 3).astype(np.uint8)


def _encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _bomb_png(side: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", checksum)
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_png_keeps_each_pixel() -> None:
    """What is encoded as PNG is decoded as it was."""
    decoded = _image.decode_picture(_image.encode_png(_picture()), name="p")
    np.testing.assert_array_equal(decoded, _picture())


def test_gray_becomes_three_equal_channels() -> None:
    """A gray picture decodes to RGB."""
    gray = _picture()[:, :, 0]
    decoded = _image.decode_picture(_image.encode_png(gray), name="p")
    np.testing.assert_array_equal(decoded, np.repeat(gray[:, :, None], 3, axis=2))


def test_sixteen_bit_gray_keeps_its_upper_bits() -> None:
    """16-bit gray is scaled, not clipped."""
    deep = np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16)
    decoded = _image.decode_picture(_encode(Image.fromarray(deep)), name="p")
    assert decoded[0, :, 0].tolist() == [0, 0x80, 0xFF]


def test_transparent_pixels_are_white() -> None:
    """Transparency is laid on white, whatever colour hides in it."""
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    decoded = _image.decode_picture(_encode(image), name="p")
    assert decoded.tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_camera_orientation_is_applied() -> None:
    """A photo that is noted as turned is turned back."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: rotate by 90° clockwise to show
    content = _encode(Image.fromarray(_picture()), "JPEG", exif=exif)
    assert _image.decode_picture(content, name="p").shape == (7, 5, 3)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", _image.encode_png(_picture())[:-40], _bomb_png(400)],
)
def test_damaged_pictures_are_refused(content: bytes) -> None:
    """What is not a whole picture is a DataError that names it."""
    with pytest.raises(DataError, match=r"cannot decode picture p\.png"):
        _image.decode_picture(content, name="p.png")


@pytest.mark.parametrize("side", [8200, 12000, 60000])
def test_bombs_are_refused_unread(side: int) -> None:
    """More pixels than allowed are refused, without a warning of Pillow's."""
    with pytest.raises(DataError, match=r"pixels|decompression bomb"):
        _image.decode_picture(_bomb_png(side), name="p")


def test_missing_and_huge_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be read, or is too large, is a DataError."""
    with pytest.raises(DataError, match="No such file"):
        _image.read_picture(tmp_path / "none.png")
    (tmp_path / "p.png").write_bytes(_image.encode_png(_picture()))
    assert _image.read_picture(tmp_path / "p.png").shape == (5, 7, 3)
    monkeypatch.setattr(_image, "LARGEST_FILE_BYTES", 10)
    with pytest.raises(DataError, match="expected at most 10"):
        _image.read_picture(tmp_path / "p.png")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_resize_gives_the_size_and_keeps_flat_pictures(
    interpolation: _image.Interpolation,
) -> None:
    """The result has the size asked for, and a picture of one colour keeps it."""
    flat = np.full((5, 7, 3), 200, dtype=np.uint8)
    resized = _image.resize(flat, 12, 3, interpolation)
    assert resized.shape == (12, 3, 3)
    assert (resized == 200).all()


def test_resize_averages_when_it_shrinks() -> None:
    """A fine chequerboard shrinks to gray: nothing is subsampled away."""
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.ptp(_image.resize(board, 4, 4, "bilinear").astype(int)) < 20


def test_resize_refuses_no_pixels() -> None:
    """An empty picture cannot be resized."""
    with pytest.raises(DataError, match="0 × 4"):
        _image.resize(np.zeros((0, 4, 3), np.uint8), 2, 2, "nearest")


def test_text_is_drawn_dark_on_white(font_path: Path) -> None:
    """Ink stays within the padding, and a longer line is wider."""
    short = _image.draw_text("ab", font_path=font_path, size_px=20, padding_px=6)
    long = _image.draw_text("abab", font_path=font_path, size_px=20, padding_px=6)
    assert short.dtype == np.uint8
    assert short.ndim == 2
    assert short.min() < 100
    assert (short[:6] == 255).all()
    assert (short[:, :4] == 255).all()
    assert long.shape[1] > short.shape[1]


def test_a_font_that_is_none_is_refused(tmp_path: Path) -> None:
    """A file that is not a font is a DataError."""
    (tmp_path / "f.ttf").write_bytes(b"no font")
    with pytest.raises(DataError, match="cannot read font"):
        _image.draw_text("a", font_path=tmp_path / "f.ttf", size_px=9)


def test_without_pillow_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where Pillow is missing, the error says what to install."""
    original = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name == "PIL":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError) as caught:
        _image.decode_picture(b"", name="p")
    assert caught.value.hint == "pip install 'skerry[image]'"

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError
from skerry.edge import sealing
from skerry.edge.sealing import SealedFile, seal_pieces
from skerry.evolve.trust.at_rest import DeviceKey, TextCipher
from tests.strategies import damaged

KEY, PLACE = DeviceKey(b"k" * 32), "slots/meter/a/model.onnx"
CONTENTS = (b"", b"one", bytes(range(256)) * 257, bytes(3 * sealing.BLOCK_BYTES))
SEALED = tuple(b"".join(seal_pieces(KEY, PLACE, [content])) for content in CONTENTS)
LARGEST = 3 * sealing.BLOCK_BYTES
BY = st.integers(0, LARGEST)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), BY, st.integers(0, 90_000)),
        st.tuples(st.just("truncate"), BY, st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=8,
)


def opened(path: Path) -> SealedFile:
    """A download."""
    raw = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT), "r+")
    return SealedFile(raw, KEY, PLACE, is_growing=True, is_writable=True)


@given(lies=damaged(SEALED))
def test_what_is_read_is_what_was_sealed(lies: bytes) -> None:
    """Or nothing: not one byte that was not written there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(lies)
        try:
            with SealedFile(io.FileIO(path), KEY, PLACE) as file:
                content = file.readall()
        except DataError:
            assert lies not in SEALED
        else:
            assert content in CONTENTS


@given(lies=damaged(SEALED))
def test_any_file_can_be_gone_on_with_as_a_download(lies: bytes) -> None:
    """It reads as something, and takes what is written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(lies)
        with opened(path) as file:
            file.readall()
            file.seek(0)
            file.write(b"new")
        with opened(path) as file:
            assert file.read(3) == b"new"


@given(steps=STEPS)
def test_a_download_is_a_file_like_any_other(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is written where, cut off and opened again."""
    with tempfile.TemporaryDirectory() as folder:
        path, expected = Path(folder) / "file", bytearray()
        file = opened(path)
        for step, at, size_bytes in steps:
            if step == "write":
                content = bytes([at % 255 + 1]) * size_bytes
                file.seek(at)
                left = memoryview(content)
                while left:
                    left = left[file.write(left) :]
                if content:
                    expected.extend(bytes(max(0, at - len(expected))))
                    expected[at : at + size_bytes] = content
            elif step == "truncate":
                file.truncate(at)
                del expected[at:]
            else:
                file.close()
                file = opened(path)
        file.seek(0)
        assert file.readall() == bytes(expected)
        file.close()


@given(text=damaged((TextCipher(KEY, "outbox").seal(b"text", b"about"),)))
def test_a_text_is_what_was_sealed(text: bytes) -> None:
    """Or a data error."""
    with contextlib.suppress(DataError):
        assert TextCipher(KEY, "outbox").unseal(text, b"about") == b"text"

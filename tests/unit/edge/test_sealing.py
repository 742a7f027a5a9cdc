from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from skerry.core.errors import DataError
from skerry.edge.sealing import BLOCK_BYTES, SealedFile, seal_pieces, unsealed_bytes
from skerry.edge.vault import SEALED_MAGIC
from skerry.evolve.trust.at_rest import DeviceKey

KEY, OTHER = DeviceKey(b"k" * 32), DeviceKey(b"o" * 32)
PLACE = "slots/meter/a/model.onnx"
HEAD, SEALED = 48, BLOCK_BYTES + 28
SIZES = (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES)


def content_of(size_bytes: int) -> bytes:
    """Bytes of which no block is like another."""
    return b"".join(n.to_bytes(4) for n in range(size_bytes // 4 + 1))[:size_bytes]


def sealed(content: bytes) -> bytes:
    """It as it lies on the disk."""
    pieces = (content[at : at + 100_000] for at in range(0, len(content), 100_000))
    return b"".join(seal_pieces(KEY, PLACE, pieces))


def opened(
    path: Path, lies: bytes, *, key: DeviceKey = KEY, place: str = PLACE
) -> SealedFile:
    """What lies on the disk, to be read."""
    path.write_bytes(lies)
    return SealedFile(io.FileIO(path), key, place)


def growing(path: Path) -> SealedFile:
    """A download, to be read and written."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    raw = io.FileIO(descriptor, "r+")
    return SealedFile(raw, KEY, PLACE, is_growing=True, is_writable=True)


def write_all(file: SealedFile, content: bytes) -> None:
    """Write to the end."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file lies."""
    return tmp_path / "file"


@pytest.mark.parametrize("size_bytes", SIZES)
def test_what_was_sealed_is_read_again(path: Path, size_bytes: int) -> None:
    """All of it, from any place on; its size is known without reading it."""
    content = content_of(size_bytes)
    lies = sealed(content)
    assert lies.startswith(SEALED_MAGIC)
    assert unsealed_bytes(len(lies)) == size_bytes
    with opened(path, lies) as file:
        assert file.readall() == content
        for at in {0, size_bytes // 2, max(0, size_bytes - 1), size_bytes}:
            file.seek(at)
            assert file.read(10) == content[at : at + 10][:BLOCK_BYTES]
        assert file.seek(0, os.SEEK_END) == size_bytes
        assert file.readable()
        assert file.seekable()
        assert not file.writable()


def test_nothing_of_it_can_be_read_on_the_disk() -> None:
    """Nor is twice the same the same."""
    content = b"a secret that is repeated " * 1000
    lies = sealed(content)
    assert b"secret" not in lies
    assert lies != sealed(content)


def damages(lies: bytes) -> dict[str, bytes]:
    """What may become of a sealed file of four blocks."""
    first, second = lies[HEAD : HEAD + SEALED], lies[HEAD + SEALED : HEAD + 2 * SEALED]
    rest = lies[HEAD + 2 * SEALED :]
    return {
        "a byte of the head": lies[:20] + b"?" + lies[21:],
        "its kind": lies[:15] + b"g" + lies[16:],
        "a byte of a block": lies[: HEAD + 99] + b"\0\0\0\0" + lies[HEAD + 103 :],
        "two blocks change places": lies[:HEAD] + second + first + rest,
        "a block is repeated": lies[:HEAD] + first + first + rest,
        "a block is left out": lies[:HEAD] + first + rest,
        "the last block is cut off": lies[:-SEALED],
        "a byte is cut off": lies[:-1],
        "a byte is added": lies + b"\0",
        "a block is added": lies + first,
        "only the head is left": lies[:HEAD],
        "nothing is left": b"",
        "it is in the clear": content_of(3 * BLOCK_BYTES),
        "a block of another file": lies[:HEAD]
        + sealed(content_of(4 * BLOCK_BYTES))[HEAD : HEAD + SEALED]
        + second
        + rest,
    }


@pytest.mark.parametrize("damage", list(damages(b"")))
def test_a_change_is_noticed(path: Path, damage: str) -> None:
    """Whatever was changed: no byte of it is given out as if it were right."""
    content = content_of(4 * BLOCK_BYTES)
    lies = damages(sealed(content))[damage]
    assert lies != sealed(content)
    with (
        pytest.raises(DataError, match="is not what this gateway sealed there"),
        opened(path, lies) as file,
    ):
        file.readall()


def test_a_file_stands_for_no_other(path: Path) -> None:
    """With another key, or in another place, it is damaged."""
    lies = sealed(b"content")
    with pytest.raises(DataError):
        opened(path, lies, key=OTHER)
    with pytest.raises(DataError):
        opened(path, lies, place="slots/meter/b/model.onnx")


def test_a_whole_file_is_not_written_to(path: Path) -> None:
    """Those are replaced."""
    with opened(path, sealed(b"content")) as file:
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.truncate(0)


def test_a_download_grows_over_restarts(path: Path) -> None:
    """By pieces of any size; what is on the disk is never in the clear."""
    content = content_of(3 * BLOCK_BYTES + 500)
    for start in range(0, len(content), 30_001):
        with growing(path) as file:
            assert file.seek(0, os.SEEK_END) == start
            write_all(file, content[start : start + 30_001])
    with growing(path) as file:
        assert file.readall() == content
    lies = path.read_bytes()
    assert content[1000:1100] not in lies
    assert unsealed_bytes(len(lies)) == len(content)


def test_a_download_is_written_anywhere(path: Path) -> None:
    """Over what is there, cut off, and past the end."""
    content = bytearray(content_of(2 * BLOCK_BYTES + 10))
    with growing(path) as file:
        write_all(file, bytes(content))
        file.seek(BLOCK_BYTES - 5)
        write_all(file, b"0123456789")
        content[BLOCK_BYTES - 5 : BLOCK_BYTES + 5] = b"0123456789"
        file.seek(0)
        assert file.readall() == content
        assert file.truncate(BLOCK_BYTES + 7) == BLOCK_BYTES + 7
        assert file.truncate(BLOCK_BYTES + 9) == BLOCK_BYTES + 7
    with growing(path) as file:
        assert file.readall() == content[: BLOCK_BYTES + 7]
        file.seek(2 * BLOCK_BYTES)
        write_all(file, b"end")
        file.seek(0)
        zeros = bytes(BLOCK_BYTES - 7)
        assert file.readall() == content[: BLOCK_BYTES + 7] + zeros + b"end"
        assert file.truncate(0) == 0
        assert file.seek(0, os.SEEK_END) == 0


def test_what_a_power_cut_tore_reads_as_zeros(path: Path) -> None:
    """A chunk of it is then not what was signed, and is fetched again."""
    content = content_of(3 * BLOCK_BYTES)
    with growing(path) as file:
        write_all(file, content)
    lies = bytearray(path.read_bytes())
    lies[HEAD + SEALED + 50] ^= 1
    path.write_bytes(lies)
    with growing(path) as file:
        zeros = bytes(BLOCK_BYTES)
        right = content[:BLOCK_BYTES] + zeros + content[2 * BLOCK_BYTES :]
        assert file.readall() == right
        file.seek(BLOCK_BYTES)
        write_all(file, content[BLOCK_BYTES : 2 * BLOCK_BYTES])
    with growing(path) as file:
        assert file.readall() == content


@pytest.mark.parametrize(
    "lies",
    [b"", b"clear", sealed(b"of the other kind")],
    ids=["nothing", "clear", "whole"],
)
def test_what_is_no_download_is_begun_anew(path: Path, lies: bytes) -> None:
    """Such as one from before the folder was sealed."""
    path.write_bytes(lies)
    with growing(path) as file:
        assert file.readall() == b""
        write_all(file, b"new")
    with growing(path) as file:
        assert file.readall() == b"new"

"""Files under a key: read and written anywhere, believed only where they were put.

```
FILE  = HEAD BLOCK*
HEAD  = "skerry.atrest/1" KIND SALT        15, 1 and 32 bytes
BLOCK = NONCE ciphertext TAG               12, up to 65,536 and 16 bytes
```

Each file has a key of its own, made of the device's key, the salt and the file's place
in the folder, and each block is sealed with it (`skerry.evolve.trust.at_rest`). So the
head, the block's number and whether it is the
last one are authenticated, as in STREAM (V. T. Hoang et al., "Online Authenticated-
Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): no block can be
changed, left out, repeated or taken from elsewhere, and no file can stand in for
another one.

A file that still grows, a download, is of another kind: its blocks are written again in
place, none is the last, and one that is damaged reads as zeros. What is in it is
compared with a signed hash before it is used.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from skerry.core.errors import DataError
from skerry.edge.vault import SEALED_MAGIC
from skerry.evolve.trust.at_rest import EXTRA_BYTES, DeviceKey, TextCipher

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

BLOCK_BYTES = 1 << 16
"""Bytes of a file that are in memory at a time."""

_WHOLE, _GROWING = b"w", b"g"
_BLOCKS_AT_ONCE = 16
_SALT_BYTES = 32
_HEAD_BYTES = len(SEALED_MAGIC) + 1 + _SALT_BYTES
_SEALED_BYTES = BLOCK_BYTES + EXTRA_BYTES


def seal_pieces(key: DeviceKey, place: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Seal a whole file, a few blocks at a time.

    Args:
        key: The device's.
        place: Where the file will stand, in the folder.
        pieces: Its content.
    """
    head = _new_head(_WHOLE)
    cipher = _BlockCipher(key, place, head)
    waiting = [head]
    for index, (block, is_last) in enumerate(_blocks(pieces)):
        waiting.append(cipher.seal(index, block, is_last=is_last))
        if is_last or len(waiting) > _BLOCKS_AT_ONCE:
            yield b"".join(waiting)
            waiting.clear()


def unsealed_bytes(sealed_bytes: int) -> int:
    """How much a sealed file of some size holds; too little of one holds nothing."""
    full, rest = divmod(max(0, sealed_bytes - _HEAD_BYTES), _SEALED_BYTES)
    return full * BLOCK_BYTES + max(0, rest - EXTRA_BYTES)


def _sealed_bytes(size_bytes: int) -> int:
    """How large a whole file is on the disk."""
    n_blocks = max(1, -(-size_bytes // BLOCK_BYTES))
    return _HEAD_BYTES + size_bytes + n_blocks * EXTRA_BYTES


class SealedFile(io.RawIOBase):
    """The content of a sealed file, as if it were in the clear.

    Args:
        raw: The file as it lies on the disk; it is closed with this.
        key: The device's.
        place: Where the file stands, in the folder.
        is_growing: Whether it is of the kind that grows.
        is_writable: Whether it is to be written to, for those that grow; what is not
            of this kind is begun anew.

    Raises:
        DataError: It is not what was sealed there; reading may find so later, too.
    """

    def __init__(
        self,
        raw: io.FileIO,
        key: DeviceKey,
        place: str,
        *,
        is_growing: bool = False,
        is_writable: bool = False,
    ) -> None:
        self._raw = raw
        self._place = place
        self._is_growing = is_growing
        self._is_writable = is_writable
        self._at = 0
        self._block = bytearray()
        self._index = -1
        self._is_changed = False
        head = raw.read(_HEAD_BYTES) or b""
        kind = _GROWING if is_growing else _WHOLE
        if not _is_head(head, kind):
            if not is_writable:
                raise _damaged(place)
            head = _new_head(kind)
            raw.truncate(0)
            _write_at(raw.fileno(), head, 0)
        self._cipher = _BlockCipher(key, place, head)
        sealed_bytes = raw.seek(0, os.SEEK_END)
        self._size_bytes = unsealed_bytes(sealed_bytes)
        if not is_growing:
            if sealed_bytes != _sealed_bytes(self._size_bytes):
                raise _damaged(place)
            # The last block says that it is: what was cut off is noticed at once.
            self._turn_to(max(0, self._size_bytes - 1) // BLOCK_BYTES)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """Whether it grows, and was opened for that."""
        return self._is_writable

    def fileno(self) -> int:
        """Of the file on the disk, to have it flushed."""
        return self._raw.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the content."""
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}
        self._at = max(0, starts[whence] + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read no further than to the end of a block.

        Raises:
            DataError: The block is not what was sealed there.
        """
        view = memoryview(buffer).cast("B")
        start = self._at % BLOCK_BYTES
        wanted = min(len(view), self._size_bytes - self._at, BLOCK_BYTES - start)
        if wanted <= 0:
            return 0
        self._turn_to(self._at // BLOCK_BYTES)
        view[:wanted] = self._block[start : start + wanted]
        self._at += wanted
        return wanted

    def write(self, content: ReadableBuffer) -> int:
        """Write no further than to the end of a block."""
        if not self._is_writable:
            raise io.UnsupportedOperation("write")
        while self._at > self._size_bytes:
            wanted, self._at = self._at, self._size_bytes
            self.write(bytes(min(wanted - self._at, BLOCK_BYTES)))
            self._at = wanted
        view = memoryview(content).cast("B")
        self._turn_to(self._at // BLOCK_BYTES)
        start = self._at % BLOCK_BYTES
        written = min(len(view), BLOCK_BYTES - start)
        self._block[start : start + written] = view[:written]
        self._is_changed = True
        self._at += written
        self._size_bytes = max(self._size_bytes, self._at)
        return written

    def truncate(self, size: int | None = None) -> int:
        """Cut the content off; it is never made longer."""
        if not self._is_writable:
            raise io.UnsupportedOperation("truncate")
        wanted = min(self._at if size is None else size, self._size_bytes)
        if wanted < self._size_bytes:
            index, rest = divmod(wanted, BLOCK_BYTES)
            self._turn_to(index)
            del self._block[rest:]
            self._size_bytes = wanted
            self._is_changed = rest > 0
            self._raw.truncate(_HEAD_BYTES + index * _SEALED_BYTES)
            self.flush()
        return wanted

    def flush(self) -> None:
        """Have what was written in the file; not yet safe from a power cut."""
        if self._is_changed:
            sealed = self._cipher.seal(self._index, bytes(self._block), is_last=False)
            at = _HEAD_BYTES + self._index * _SEALED_BYTES
            _write_at(self._raw.fileno(), sealed, at)
            self._is_changed = False

    def close(self) -> None:
        """Close the file."""
        try:
            super().close()
        finally:
            self._raw.close()

    def _turn_to(self, index: int) -> None:
        """Have a block in memory; that before it is written down first."""
        if index == self._index:
            return
        self.flush()
        self._block = self._load(index)
        self._index = index

    def _load(self, index: int) -> bytearray:
        start = index * BLOCK_BYTES
        size_bytes = max(0, min(BLOCK_BYTES, self._size_bytes - start))
        sealed = os.pread(
            self._raw.fileno(),
            size_bytes + EXTRA_BYTES,
            _HEAD_BYTES + index * _SEALED_BYTES,
        )
        is_last = not self._is_growing and start + BLOCK_BYTES >= self._size_bytes
        try:
            return bytearray(self._cipher.unseal(index, sealed, is_last=is_last))
        except DataError:
            if self._is_growing:
                return bytearray(size_bytes)
            raise _damaged(self._place) from None


class _BlockCipher:
    """Seals the blocks of one file."""

    def __init__(self, key: DeviceKey, place: str, head: bytes) -> None:
        self._head = head
        salt = head[-_SALT_BYTES:]
        self._cipher = TextCipher(key, f"file/{place}", salt=salt)

    def seal(self, index: int, block: bytes, *, is_last: bool) -> bytes:
        return self._cipher.seal(block, self._about(index, is_last=is_last))

    def unseal(self, index: int, sealed: bytes, *, is_last: bool) -> bytes:
        return self._cipher.unseal(sealed, self._about(index, is_last=is_last))

    def _about(self, index: int, *, is_last: bool) -> bytes:
        return self._head + index.to_bytes(8) + bytes([is_last])


def _new_head(kind: bytes) -> bytes:
    return SEALED_MAGIC + kind + secrets.token_bytes(_SALT_BYTES)


def _is_head(head: bytes, kind: bytes) -> bool:
    return len(head) == _HEAD_BYTES and head.startswith(SEALED_MAGIC + kind)


def _blocks(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Cut a content into blocks, and tell which is the last; there is at least one."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > BLOCK_BYTES:
            yield bytes(held[:BLOCK_BYTES]), False
            del held[:BLOCK_BYTES]
    yield bytes(held), True


def _write_at(descriptor: int, content: bytes, at: int) -> None:
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, at)
        left, at = left[written:], at + written


def _damaged(place: str) -> DataError:
    return DataError(
        f"{place} is not what this gateway sealed there",
        hint="The disk has spoilt it, or somebody has edited or moved it.",
    )

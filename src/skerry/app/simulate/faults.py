"""What a bad day does to a gateway: to its clock, its disk and its downloads."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skerry.app.simulate.disk import PowerCut
from skerry.core.clock import Alarm, FakeClock
from skerry.core.durable import RealDisk
from skerry.core.errors import LinkError, StateError
from skerry.core.seams import BlobStore

_LINE_BYTES = 1 << 14


class DeviceClock:
    """A clock that goes with the fleet's and may have another date.

    Args:
        shared: The fleet's.
    """

    def __init__(self, shared: FakeClock) -> None:
        self._shared = shared
        self._ahead_ms = 0
        self._busy_s = 0.0

    def wall_s(self) -> float:
        """Seconds since an arbitrary start."""
        return self._shared.wall_s() + self._busy_s

    def cpu_s(self) -> float:
        """CPU seconds used."""
        return self._shared.cpu_s() + self._busy_s

    def unix_ms(self) -> int:
        """The date, as this device believes."""
        return self._shared.unix_ms() + self._ahead_ms

    def set_unix_ms(self, unix_ms: int) -> None:
        """Set the date, as a power cut or a time server does."""
        self._ahead_ms = unix_ms - self._shared.unix_ms()

    def work(self, seconds: float) -> None:
        """Let computing take time that nobody else notices."""
        self._busy_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until this much time has passed in the fleet."""
        await self._shared.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Call it once this much time has passed in the fleet."""
        return self._shared.call_later(seconds, call)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Renamed:
    """A rename that a power cut may still undo."""

    source: Path
    target: Path
    before: bytes | None


class FaultyDisk(RealDisk):
    """A disk in a real folder that can be full, and that can lose power.

    Calls are counted from 0, each method of `skerry.core.durable.Disk` as one. What
    may be left after a power cut is what POSIX promises; see
    `skerry.app.simulate.disk`, which lists all of it where this draws one by chance.

    Args:
        rng: Chance.

    Attributes:
        calls: How many there were.
        cut_at: The call during which the power is cut, or None.
        is_full: Whether writes are refused.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.calls = 0
        self.cut_at: int | None = None
        self.is_full = False
        self._rng = rng
        self._is_dead = False
        self._unsafe: dict[Path, None] = {}
        self._renamed: list[_Renamed] = []

    def write(self, path: Path, content: bytes) -> None:
        """Create the file with this content; half of it if the disk is full."""
        self._begin()
        self._unsafe[path] = None
        if self.is_full:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(path, content)
        self._end()

    def append(self, path: Path, content: bytes) -> None:
        """Add to a file that was created; half of it if the disk is full."""
        self._begin()
        self._unsafe[path] = None
        if self.is_full:
            super().append(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().append(path, content)
        self._end()

    def sync(self, path: Path) -> None:
        """Make a file's content, or a folder's entries, safe."""
        self._begin()
        if self.calls != self.cut_at:
            self._unsafe.pop(path, None)
            self._renamed = [one for one in self._renamed if one.target.parent != path]
        self._end()

    def replace(self, source: Path, target: Path) -> None:
        """Rename, atomically replacing what stands at the target."""
        self._begin()
        before = target.read_bytes() if target.exists() else None
        self._renamed.append(_Renamed(source=source, target=target, before=before))
        super().replace(source, target)
        if source in self._unsafe:
            del self._unsafe[source]
            self._unsafe[target] = None
        self._end()

    def remove(self, path: Path) -> None:
        """Remove the file if it is there."""
        self._begin()
        super().remove(path)
        self._unsafe.pop(path, None)
        self._end()

    def lose_power(self) -> None:
        """Have happen to what was not synced what a power cut may do to it."""
        for path in self._unsafe:
            if path.exists() and self._rng.random() < 0.5:
                content = path.read_bytes()
                path.write_bytes(content[: len(content) // 2])
        for renamed in reversed(self._renamed):
            if self._rng.random() < 0.5:
                continue
            if renamed.target.exists():
                renamed.target.replace(renamed.source)
            if renamed.before is not None:
                renamed.target.write_bytes(renamed.before)

    def power_up(self) -> None:
        """Work again, with what is left."""
        self._is_dead = False
        self.cut_at = None
        self._unsafe.clear()
        self._renamed.clear()

    def _begin(self) -> None:
        if self._is_dead:
            raise PowerCut

    def _end(self) -> None:
        call, self.calls = self.calls, self.calls + 1
        if call == self.cut_at:
            self._is_dead = True
            raise PowerCut


class BadLine:
    """A line that flips bits and breaks, by chance.

    Args:
        rng: Chance.
        flips_per_mb: How many bits are flipped in a million bytes.
        breaks_per_mb: How often it breaks in a million bytes.

    Attributes:
        n_flips: How many bits were flipped.
        n_breaks: How often it broke.
    """

    def __init__(
        self, rng: np.random.Generator, *, flips_per_mb: float, breaks_per_mb: float
    ) -> None:
        self.n_flips = 0
        self.n_breaks = 0
        self._rng = rng
        self._flips_per_byte = flips_per_mb / 1e6
        self._breaks_per_byte = breaks_per_mb / 1e6

    def spoil(self, piece: bytes) -> tuple[bytes, bool]:
        """What comes of a piece, and whether the line broke after that."""
        content = bytearray(piece)
        if is_broken := self._rng.poisson(len(piece) * self._breaks_per_byte) > 0:
            del content[int(self._rng.integers(len(piece))) :]
            self.n_breaks += 1
        for _ in range(self._rng.poisson(len(content) * self._flips_per_byte)):
            content[self._rng.integers(len(content))] ^= 1 << self._rng.integers(8)
            self.n_flips += 1
        return bytes(content), is_broken


class FaultyBlobs:
    """The hub's blobs, over a bad line.

    Args:
        reach: Gives the hub's store; it raises `LinkError` where there is no way.

    Attributes:
        line: How bad the line is at any time, or None.
        flipped: Blobs that come with one byte changed.
        breaks: After how many bytes the next download of a blob breaks, once each.
        sent: How many bytes of each blob came.
    """

    def __init__(self, reach: Callable[[], BlobStore]) -> None:
        self._reach = reach
        self.line: BadLine | None = None
        self.flipped: set[str] = set()
        self.breaks: dict[str, int] = {}
        self.sent: dict[str, int] = {}

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give a blob in pieces, from an offset on and before an end.

        Raises:
            LinkError: The hub cannot be reached, or the stream broke.
            DataError: There is no such blob.
        """
        left = self.breaks.pop(sha256, None)
        given = self._reach().open(sha256, offset=offset, end=end)
        async for whole in given if self.line is None else _small_pieces(given):
            piece = whole if left is None else whole[:left]
            if piece and sha256 in self.flipped:
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            is_broken = False
            if self.line is not None:
                piece, is_broken = self.line.spoil(piece)
            self.sent[sha256] = self.sent.get(sha256, 0) + len(piece)
            yield piece
            self._reach()
            if is_broken:
                raise LinkError("the line broke", hint="Try again.")
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    raise LinkError(
                        "the stream broke", hint="Try again: it goes on from there."
                    )

    async def put(self, sha256: str, content: bytes) -> None:
        """Refuse: a gateway puts no blobs."""
        raise StateError(
            f"a gateway does not put blobs: {sha256[:12]} of {len(content)} bytes",
            hint="The publisher does.",
        )

    async def stat(self, sha256: str) -> int | None:
        """The blob's size in bytes, or None where there is none.

        Raises:
            LinkError: The hub cannot be reached.
        """
        return await self._reach().stat(sha256)


async def _small_pieces(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """As much at a time as comes of a line, whatever was read from a disk."""
    async for piece in pieces:
        for start in range(0, len(piece), _LINE_BYTES):
            yield piece[start : start + _LINE_BYTES]


Metadata = Mapping[str, bytes]
"""Files of the TUF repository by name."""

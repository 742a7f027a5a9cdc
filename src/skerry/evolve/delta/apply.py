"""Apply a delta: the new blob, a piece at a time, from the old one and the delta.

Neither blob is ever whole in memory. What is given out before the end is not proven:
the last piece is given only once the hash of all is the right one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError
from skerry.evolve.delta import first
from skerry.evolve.delta._zstd import WINDOW_LOG, Reader, open_packed
from skerry.evolve.delta.kinds import (
    Codes,
    Folded,
    Kind,
    from_codes,
    join_planes,
    to_codes,
    unfold,
)
from skerry.evolve.delta.plan import (
    HEADER,
    LARGEST_DICTIONARY_BYTES,
    LARGEST_PLAN_BYTES,
    MAGIC,
    Change,
    Copy,
    Kept,
    Literal,
    Part,
    Place,
    Plan,
    Scaling,
    Stream,
    read_plan,
    values_of,
)
from skerry.evolve.delta.planes import Layout, PlaneReader

Floats = NDArray[np.float32]

PIECE_BYTES = 1 << 16
"""Most bytes that are made at once."""

CODED_BYTES = 1 << 19
"""How many bytes of a stream are decoded at once, all planes together."""

Read = Callable[[int, int], bytes]
"""Gives bytes of a blob: from an offset, so many; fewer only at its end."""


def rebuild(old: Read, delta: Read, *, largest_bytes: int) -> Iterator[bytes]:
    """Apply a delta piece by piece.

    Args:
        old: What the device has.
        delta: What `diff` wrote.
        largest_bytes: Most bytes that the new blob may have; nothing larger is begun,
            whatever the delta says.

    Returns:
        The new blob in pieces. It can be made again from the beginning at any time.

    Raises:
        DataError: It is no delta, is damaged, starts from another blob, or gives more
            than allowed; what came before is then worth nothing.
    """
    if delta(0, len(first.MAGIC)) == first.MAGIC:
        most = first.LARGEST_BYTES
        yield first.patch(old(0, most), delta(0, most), largest_bytes=largest_bytes)
        return
    try:
        yield from _rebuild(old, delta, largest_bytes)
    except (ValueError, MemoryError, OverflowError) as error:
        raise _damaged(f"it is damaged: {error}") from error


def _rebuild(old: Read, delta: Read, largest_bytes: int) -> Iterator[bytes]:
    header = delta(0, HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise _damaged("it is no delta of a kind that this version applies")
    _, old_hash, new_hash, packed_size, plan_size = HEADER.unpack(header)
    if max(packed_size, plan_size) > LARGEST_PLAN_BYTES:
        raise _damaged(f"its plan has {plan_size} bytes")
    packed = delta(HEADER.size, packed_size)
    content = open_packed(packed, window_log=WINDOW_LOG).read(plan_size)
    plan = read_plan(content)
    if plan.new_size > largest_bytes:
        raise _damaged(
            f"it gives {plan.new_size} bytes, at most {largest_bytes} expected"
        )
    if _hash_of(old, plan.old_size) != old_hash:
        raise _damaged(f"it starts from another blob, of {plan.old_size} bytes")
    digest, last = hashlib.sha256(), b""
    for piece in _Applier(plan, old, delta, HEADER.size + packed_size).pieces():
        digest.update(piece)
        if last:
            yield last
        last = piece
    if digest.digest() != new_hash:
        raise _damaged("it gives other bytes than it says")
    yield last


class _Applier:
    """Makes the parts of a plan.

    Args:
        plan: What to make.
        old: The old blob.
        delta: The delta.
        place: Where in it the literals begin.
    """

    def __init__(self, plan: Plan, old: Read, delta: Read, place: int) -> None:
        self._plan = plan
        self._old = old
        dictionary = b""
        if plan.has_dictionary:
            dictionary = old(0, LARGEST_DICTIONARY_BYTES)
        self._literals = open_packed(
            _cursor(delta, place, plan.packed_size),
            dictionary,
            window_log=WINDOW_LOG + 2 * plan.has_dictionary,
        )
        place += plan.packed_size
        self._streams = {}
        for stream in plan.streams:
            key = (stream.kind, stream.is_foreseen)
            self._streams[key] = _StreamReader(stream, delta, place)
            place += sum(plane.size_bytes for plane in stream.planes)
        self._kept: list[bytes] = []
        for kept in plan.kept:
            self._kept.append(self._make_kept(kept))

    def pieces(self) -> Iterator[bytes]:
        """The new blob."""
        for part in self._plan.parts:
            yield from self._make(part)

    def _make_kept(self, kept: Kept) -> bytes:
        if isinstance(kept, Change):
            return b"".join(self._change(kept))
        single, array = (
            np.frombuffer(self._kept[place], "<f4")
            for place in (kept.single, kept.array)
        )
        with np.errstate(all="ignore"):
            made: Floats = single * array
        return made.astype("<f4").tobytes()

    def _make(self, part: Part) -> Iterator[bytes]:
        match part:
            case Copy():
                for first_byte, size in _steps(part.size, PIECE_BYTES):
                    yield _whole(self._old(part.offset + first_byte, size), size)
            case Literal():
                for _, size in _steps(part.size, PIECE_BYTES):
                    yield _literal(self._literals, size)
            case Place():
                yield self._kept[part.array]
            case Change():
                yield from self._change(part)

    def _change(self, part: Change) -> Iterator[bytes]:
        stream = self._streams[part.stream]
        per_piece = PIECE_BYTES // part.kind.width
        for start, count in _steps(values_of(part), per_piece):
            foreseen = self._foresee(part, start, count)
            values = unfold(part.kind, stream.take(count), foreseen)
            yield from_codes(part.kind, values)

    def _foresee(self, part: Change, start: int, count: int) -> Codes:
        if part.offset is None:
            return np.zeros(count, _code_type(part.kind))
        if part.row:
            return self._rows(part, part.offset, start, count)
        width = part.kind.width
        first_byte, size = start * width, count * width
        if part.kind is Kind.INT4:
            first_byte, size = start // 2, count // 2
        content = _whole(self._old(part.offset + first_byte, size), size)
        codes = to_codes(part.kind, content)
        if part.scaling is None:
            return codes
        return self._scale(part.kind, codes, part.scaling, start)

    def _rows(self, part: Change, offset: int, start: int, count: int) -> Codes:
        """Old values by row and column; 0 where an old row is shorter."""
        places = np.arange(start, start + count)
        row, column = np.divmod(places, part.row)
        is_there = column < part.old_row
        wanted = row * part.old_row + column
        found = np.zeros(count, _code_type(part.kind))
        if not is_there.any():
            return found
        low = int(wanted[is_there].min())
        size = (int(wanted[is_there].max()) + 1 - low) * part.kind.width
        content = _whole(self._old(offset + low * part.kind.width, size), size)
        found[is_there] = to_codes(part.kind, content)[wanted[is_there] - low]
        return found

    def _scale(self, kind: Kind, codes: Codes, scaling: Scaling, start: int) -> Codes:
        """What old integers are on the new scale."""
        size = 4 * scaling.channels
        before = np.frombuffer(_whole(self._old(scaling.offset, size), size), "<f4")
        now = np.frombuffer(self._kept[scaling.array], "<f4")
        return scale_codes(kind, codes, (before, now), scaling.inner, start)


def scale_codes(
    kind: Kind,
    codes: Codes,
    scales: tuple[Floats, Floats],
    inner: int,
    start: int = 0,
) -> Codes:
    """What integers of one scale are on another, the same on every machine.

    Args:
        kind: What they are.
        codes: The integers.
        scales: Old and new ones by channel, float32.
        inner: How many integers in a row are of one channel.
        start: Which of all integers the first one is.
    """
    least, most = _code_range(kind)
    with np.errstate(all="ignore"):
        before, now = (one.astype(np.float64) for one in scales)
        ratios = np.nan_to_num(before / now, nan=1.0, posinf=1.0, neginf=1.0)
        channels = np.arange(start, start + len(codes)) // inner % len(ratios)
        scaled = np.rint(codes * ratios[channels])
        return np.clip(scaled, least, most).astype(codes.dtype)


def _code_range(kind: Kind) -> tuple[int, int]:
    if kind is Kind.INT4:
        return -8, 7
    # The largest floats that surely fit, for 64 bits.
    bits = min(8 * kind.width, 54)
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def _code_type(kind: Kind) -> str:
    return f"<i{kind.width}"


class _StreamReader:
    """Gives the values of a stream in order, decoded as they are needed."""

    def __init__(self, stream: Stream, delta: Read, place: int) -> None:
        self._left = stream.size
        self._piece = piece_values(stream.kind)
        self._values: Folded = np.zeros(0, f"<u{stream.kind.width}")
        layout = Layout(
            size=stream.size, lanes=1 << stream.lanes_log, piece=self._piece
        )
        self._planes = []
        for plane in stream.planes:
            read = _cursor(delta, place, plane.size_bytes)
            self._planes.append(PlaneReader(plane, layout, read))
            place += plane.size_bytes

    def take(self, count: int) -> Folded:
        """The next values."""
        taken = []
        while count > len(self._values):
            taken.append(self._values)
            count -= len(self._values)
            self._values = self._next()
        taken.append(self._values[:count])
        self._values = self._values[count:]
        return np.concatenate(taken) if len(taken) > 1 else taken[0]

    def _next(self) -> Folded:
        size = min(self._piece, self._left)
        if not size:
            raise ValueError("a stream ends too early")
        self._left -= size
        planes: list[NDArray[np.uint8]] = []
        for plane in self._planes:
            above = planes[-1] if planes else None
            planes.append(plane.next(size, above))
        return join_planes(planes)


def piece_values(kind: Kind) -> int:
    """How many values of a stream are decoded at once."""
    return CODED_BYTES // kind.width


def reads_of(content: bytes) -> Read:
    """Read bytes that are in memory."""
    return lambda offset, size: content[offset : offset + size]


def _cursor(read: Read, place: int, size: int) -> Callable[[int], bytes]:
    """Give what lies there in order, at most so many bytes at once."""
    end = place + size

    def next_bytes(most: int) -> bytes:
        nonlocal place
        found = read(place, min(most, end - place))
        place += len(found)
        return found

    return next_bytes


def _steps(total: int, most: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, most):
        yield start, min(most, total - start)


def _hash_of(read: Read, size: int) -> bytes:
    """The hash of a blob, of which at most one byte too many is read."""
    digest, left = hashlib.sha256(), size + 1
    for start, most in _steps(left, PIECE_BYTES):
        digest.update(read(start, most))
    return digest.digest()


def _literal(literals: Reader, size: int) -> bytes:
    return _whole(literals.read(size), size)


def _whole(content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise ValueError(f"{len(content)} bytes were there, {size} expected")
    return content


def _damaged(what: str) -> DataError:
    return DataError(
        f"the delta cannot be applied: {what}", hint="Fetch the whole blob instead."
    )

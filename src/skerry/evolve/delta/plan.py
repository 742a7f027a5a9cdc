"""The plan of a delta: what the new blob is made of, in order, and how that is written.

```
SKDELTA2 | SHA-256 of the old blob | of the new | plan's length: packed, whole (u32)
         | plan (zstd) | literals (zstd) | planes of each stream, the highest first
```

Numbers in the plan are LEB128 varints; signed ones are folded. Where in the old blob a
part is taken from is told as the distance from where the part before has ended. All
lengths are in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from skerry.evolve.delta.kinds import Kind
from skerry.evolve.delta.planes import MOST_LANES_LOG, Coding, Mode
from skerry.evolve.delta.rans import SYMBOLS

MAGIC = b"SKDELTA2"
HEADER = struct.Struct(">8s32s32sII")
LARGEST_PLAN_BYTES = 1 << 20
"""Most bytes of a plan: it is in memory while the delta is applied."""

MOST_PARTS = 1 << 15
"""Most parts of a plan, for the same reason."""

LARGEST_KEPT_BYTES = 1 << 22
"""Most bytes of all arrays together that others are foreseen from."""

LARGEST_DICTIONARY_BYTES = 1 << 23
"""Largest old blob that literals may refer to: it is in memory then."""

_MOST_TIMES = 16
_HIGHEST_LEVEL, _HIGHEST_RATE = 3, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Bytes of the old blob as they are."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """The next literal bytes."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What integers were multiplied with, before and now, a channel each.

    Attributes:
        offset: Where the old scales lie in the old blob, float32.
        array: Which of the kept arrays has the new ones.
        channels: How many there are.
        inner: How many values in a row are of one channel.
    """

    offset: int
    array: int
    channels: int
    inner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Values, by how they differ from those of the old blob.

    Attributes:
        kind: What they are.
        size: How many bytes.
        offset: Where the old ones lie, or None where there are none.
        row: Values in a row, where rows are not as long as the old ones; else 0.
        old_row: Values in an old row; those further on are foreseen to be 0.
        scaling: What old and new ones are multiplied with, if that is known.
    """

    kind: Kind
    size: int
    offset: int | None = None
    row: int = 0
    old_row: int = 0
    scaling: Scaling | None = None

    @property
    def stream(self) -> tuple[Kind, bool]:
        """Which stream has the differences."""
        return self.kind, self.offset is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """An array that is one of a single float32, times another of float32."""

    single: int
    array: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A kept array."""

    array: int


Part = Copy | Literal | Change | Place
Kept = Change | Product


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """Differences of one kind.

    Attributes:
        kind: What they are of.
        is_foreseen: Whether they are differences from something old.
        size: How many values.
        lanes_log: How many are coded side by side, as a binary logarithm.
        planes: How each plane is written, the highest first.
    """

    kind: Kind
    is_foreseen: bool
    size: int
    lanes_log: int
    planes: tuple[Coding, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What the new blob is made of.

    Attributes:
        old_size: Of the old blob.
        new_size: Of the new one.
        parts: In the order of the new blob.
        kept: Arrays that others are foreseen from; they are read first.
        streams: The differences that parts and arrays take, in their order.
        literal_size: How many literal bytes there are.
        packed_size: How many they are packed into.
        has_dictionary: Whether the old blob is the dictionary of the literals.
    """

    old_size: int
    new_size: int
    parts: Sequence[Part]
    kept: Sequence[Kept] = ()
    streams: Sequence[Stream] = field(default_factory=tuple)
    literal_size: int = 0
    packed_size: int = 0
    has_dictionary: bool = False


class _Writer:
    def __init__(self) -> None:
        self.content = bytearray()
        self._end = 0

    def number(self, value: int) -> None:
        while value > 0x7F:
            self.content.append(value & 0x7F | 0x80)
            value >>= 7
        self.content.append(value)

    def numbers(self, *values: int) -> None:
        for value in values:
            self.number(value)

    def offset(self, value: int, size: int) -> None:
        distance = value - self._end
        self.number(2 * distance if distance >= 0 else -2 * distance - 1)
        self._end = value + size

    def part(self, part: Part | Kept) -> None:
        match part:
            case Copy():
                self.numbers(0, part.size)
                self.offset(part.offset, part.size)
            case Literal():
                self.numbers(1, part.size)
            case Place():
                self.numbers(2, part.array)
            case Product():
                self.numbers(3, part.single, part.array)
            case Change():
                self._change(part)

    def _change(self, part: Change) -> None:
        flags = 1 * (part.offset is not None) + 2 * bool(part.row)
        flags += 4 * (part.scaling is not None)
        self.numbers(4 + flags, part.kind, part.size)
        if part.offset is not None:
            self.offset(part.offset, part.size)
        if part.row:
            self.numbers(part.row, part.old_row)
        if part.scaling is not None:
            one = part.scaling
            self.numbers(one.offset, one.array, one.channels, one.inner)

    def stream(self, stream: Stream) -> None:
        self.numbers(stream.kind, stream.is_foreseen, stream.size, stream.lanes_log)
        for plane in stream.planes:
            self.numbers(plane.mode, plane.level, plane.rate, plane.size_bytes)
            if plane.weights is not None:
                for row in plane.weights:
                    used = np.flatnonzero(row)
                    size = int(used[-1]) + 1 if used.size else 0
                    self.number(size)
                    self.content += row[:size].tobytes()


def write_plan(plan: Plan) -> bytes:
    """Write a plan."""
    writer = _Writer()
    writer.numbers(plan.old_size, plan.new_size)
    writer.numbers(plan.literal_size, plan.packed_size, plan.has_dictionary)
    writer.number(len(plan.streams))
    for stream in plan.streams:
        writer.stream(stream)
    writer.number(len(plan.kept))
    for kept in plan.kept:
        writer.part(kept)
    for part in plan.parts:
        writer.part(part)
    return bytes(writer.content)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0
        self._end = 0

    @property
    def is_done(self) -> bool:
        return self._place >= len(self._content)

    def take(self, size: int) -> bytes:
        found = self._content[self._place : self._place + size]
        if len(found) < size:
            raise ValueError("the plan ends too early")
        self._place += size
        return found

    def number(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number is too large")

    def flag(self) -> bool:
        return self.within(1) == 1

    def within(self, most: int) -> int:
        value = self.number()
        if value > most:
            raise ValueError(f"{value} is more than {most}")
        return value

    def offset(self, size: int) -> int:
        folded = self.number()
        distance = folded >> 1 if folded % 2 == 0 else -(folded + 1) // 2
        value = self._end + distance
        if value < 0:
            raise ValueError("an offset is negative")
        self._end = value + size
        return value

    def part(self) -> Part | Kept:
        code = self.within(11)
        if code == 0:
            size = self.number()
            return Copy(size=size, offset=self.offset(size))
        if code == 1:
            return Literal(size=self.number())
        if code == 2:
            return Place(array=self.number())
        if code == 3:
            return Product(single=self.number(), array=self.number())
        return self._change(code - 4)

    def _change(self, flags: int) -> Change:
        kind, size = Kind(self.number()), self.number()
        offset = self.offset(size) if flags & 1 else None
        row, old_row = (self.number(), self.number()) if flags & 2 else (0, 0)
        scaling = None
        if flags & 4:
            scaling = Scaling(
                offset=self.number(),
                array=self.number(),
                channels=self.number(),
                inner=self.number(),
            )
        return Change(
            kind=kind,
            size=size,
            offset=offset,
            row=row,
            old_row=old_row,
            scaling=scaling,
        )

    def stream(self) -> Stream:
        kind, is_foreseen = Kind(self.number()), self.flag()
        size, lanes_log = self.number(), self.within(MOST_LANES_LOG)
        planes = tuple(self._coding() for _ in range(kind.width))
        return Stream(
            kind=kind,
            is_foreseen=is_foreseen,
            size=size,
            lanes_log=lanes_log,
            planes=planes,
        )

    def _coding(self) -> Coding:
        mode, level = Mode(self.number()), self.within(_HIGHEST_LEVEL)
        rate, size_bytes = self.within(_HIGHEST_RATE), self.number()
        plain = Coding(mode=mode, level=level, rate=rate, size_bytes=size_bytes)
        if mode in {Mode.ZEROS, Mode.RAW}:
            return plain
        weights = np.zeros((plain.contexts, SYMBOLS), np.uint8)
        for row in weights:
            size = self.within(SYMBOLS)
            row[:size] = np.frombuffer(self.take(size), np.uint8)
        return Coding(
            mode=mode, level=level, rate=rate, size_bytes=size_bytes, weights=weights
        )


def read_plan(content: bytes) -> Plan:
    """Read a plan from outside.

    Raises:
        ValueError: It is none, or makes no sense.
    """
    reader = _Reader(content)
    old_size, new_size = reader.number(), reader.number()
    literal_size, packed_size = reader.number(), reader.number()
    has_dictionary = reader.flag()
    most_streams = 2 * len(Kind)
    streams = tuple(reader.stream() for _ in range(reader.within(most_streams)))
    kept = [reader.part() for _ in range(reader.within(MOST_PARTS))]
    parts = []
    while not reader.is_done:
        parts.append(reader.part())
        if len(parts) > MOST_PARTS:
            raise ValueError(f"it has more than {MOST_PARTS} parts")
    plan = Plan(
        old_size=old_size,
        new_size=new_size,
        parts=[part for part in parts if not isinstance(part, Product)],
        kept=[one for one in kept if isinstance(one, Change | Product)],
        streams=streams,
        literal_size=literal_size,
        packed_size=packed_size,
        has_dictionary=has_dictionary,
    )
    if len(plan.kept) != len(kept) or len(plan.parts) != len(parts):
        raise ValueError("a part is where it cannot be")
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Check that each part of a plan can be made.

    Raises:
        ValueError: One cannot, or they make more or less than the new blob.
    """
    sizes = list(_kept_sizes(plan))
    if sum(sizes) > LARGEST_KEPT_BYTES:
        raise ValueError(f"{sum(sizes)} bytes are to be kept")
    if plan.has_dictionary and plan.old_size > LARGEST_DICTIONARY_BYTES:
        raise ValueError(f"a dictionary has {plan.old_size} bytes")
    made = literal = 0
    for part in plan.parts:
        if isinstance(part, Place):
            if part.array >= len(sizes):
                raise ValueError(f"there is no array {part.array}")
            made += sizes[part.array]
            continue
        made += part.size
        if isinstance(part, Copy):
            _check_inside(plan, part.offset, part.size)
        elif isinstance(part, Literal):
            literal += part.size
        else:
            _check_change(plan, part, sizes)
    if (made, literal) != (plan.new_size, plan.literal_size):
        raise ValueError(f"its parts make {made} bytes, {literal} of them literal")
    taken = dict.fromkeys(((one.kind, one.is_foreseen) for one in plan.streams), 0)
    for change in [*plan.kept, *plan.parts]:
        if isinstance(change, Change):
            taken[change.stream] = taken.get(change.stream, 0) + values_of(change)
    if {(s.kind, s.is_foreseen): s.size for s in plan.streams} != taken:
        raise ValueError("its streams are not those that its parts take")


def is_near(row: int, old_row: int) -> bool:
    """Whether rows are of lengths so near that few bytes are read in vain."""
    return 0 < old_row <= _MOST_TIMES * row


def values_of(change: Change) -> int:
    """How many values a change has."""
    if change.kind is Kind.INT4:
        return 2 * change.size
    return change.size // change.kind.width


def _kept_sizes(plan: Plan) -> Iterator[int]:
    """The size of each kept array."""
    sizes: list[int] = []
    for kept in plan.kept:
        if isinstance(kept, Product):
            if max(kept.single, kept.array) >= len(sizes) or sizes[kept.single] != 4:
                raise ValueError("a product is of what is not there")
            sizes.append(sizes[kept.array])
        else:
            _check_change(plan, kept, sizes)
            sizes.append(kept.size)
        if sizes[-1] % 4 or sum(sizes) > LARGEST_KEPT_BYTES:
            raise ValueError("a kept array is too large, or none of float32")
        yield sizes[-1]


def _check_change(plan: Plan, change: Change, kept: Sequence[int]) -> None:
    if change.size % change.kind.width or change.size > plan.new_size:
        raise ValueError(f"{change.size} bytes are to be changed")
    size = change.size
    if change.row:
        if change.kind is Kind.INT4 or not is_near(change.row, change.old_row):
            raise ValueError("rows cannot be told apart")
        rows = -(-values_of(change) // change.row)
        size = rows * change.old_row * change.kind.width
    if change.offset is not None:
        _check_inside(plan, change.offset, size)
    elif change.row or change.scaling:
        raise ValueError("something is foreseen from nothing")
    if change.scaling is not None:
        one = change.scaling
        if change.kind.is_float or change.row or not one.inner or not one.channels:
            raise ValueError("these values cannot be scaled")
        if one.array >= len(kept) or kept[one.array] != 4 * one.channels:
            raise ValueError("the scales are not there")
        _check_inside(plan, one.offset, 4 * one.channels)


def _check_inside(plan: Plan, offset: int, size: int) -> None:
    if offset + size > plan.old_size:
        raise ValueError(f"bytes {offset} to {offset + size} of the old blob are asked")

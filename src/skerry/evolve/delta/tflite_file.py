"""Find the tensors of a TFLite file without any package.

A TFLite file is a FlatBuffer (flatbuffers.dev, "Binary format"; field numbers are those
of `schema.fbs` of LiteRT): tables say by a list of offsets where their fields lie. Only
what leads to constants and scales is looked at, and each offset is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from skerry.evolve.delta.kinds import Kind
from skerry.evolve.delta.tensors import Contents, Tensor, in_order

IDENTIFIER = b"TFL3"
"""What stands at the fifth byte of each TFLite file."""

_KINDS = {
    0: Kind.FLOAT32,
    1: Kind.FLOAT16,
    2: Kind.INT32,
    3: Kind.INT8,
    4: Kind.INT64,
    6: Kind.INT8,
    7: Kind.INT16,
    9: Kind.INT8,
    10: Kind.FLOAT64,
    12: Kind.INT64,
    15: Kind.INT32,
    16: Kind.INT16,
    17: Kind.INT4,
    18: Kind.FLOAT16,
}
_FLOAT_BYTES = 4
_MOST_TENSORS = 1 << 16
"""More are in no model, but in a file whose offsets lead round in circles."""

Span = tuple[int, int]


def read_tflite(content: bytes) -> Contents:
    """Find the tensors of a TFLite file.

    Raises:
        ValueError: It is none.
    """
    if content[4:8] != IDENTIFIER:
        raise ValueError("this is no TFLite file")
    try:
        return _Walk(content).contents()
    except struct.error as error:
        raise ValueError(f"an offset leads out of the file: {error}") from error


class _Walk:
    """Walks through a file, and collects tensors and what they are summed with."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tensors: dict[str, Tensor] = {}
        self._products: dict[str, tuple[str, str]] = {}
        self._buffers: list[Span] = []
        self._n_seen = 0

    def contents(self) -> Contents:
        """What there is, in the order of the file."""
        model = self._follow(0)
        self._buffers = [self._buffer(one) for one in self._tables(model, 4)]
        for graph in self._tables(model, 2):
            self._graph(graph)
        if not self._tensors:
            raise ValueError("there are no tensors")
        return Contents(
            tensors=in_order(list(self._tensors.values()), len(self._content)),
            products=self._products,
        )

    def _graph(self, graph: int) -> None:
        scales = [self._tensor(one) for one in self._tables(graph, 0)]
        for operator in self._tables(graph, 3):
            inputs = self._numbers(operator, 1)[:3]
            named = [scales[one] for one in inputs if 0 <= one < len(scales)]
            if len(named) == len(inputs) == 3 and all(named):
                self._products[named[2]] = (named[0], named[1])

    def _tensor(self, table: int) -> str:
        """Note a tensor and its scales; the name of the latter, or nothing."""
        self._n_seen += 1
        if self._n_seen > _MOST_TENSORS:
            raise ValueError("there are too many tensors")
        name = self._text(table, 3)
        while name in self._tensors:  # Several graphs may use a name.
            name += "'"
        scale, axis = "", 0
        quantization = self._field(table, 4)
        if quantization is not None:
            scale = self._scales(self._follow(quantization), f"{name}:scale")
            place = self._field(self._follow(quantization), 6)
            axis = 0 if place is None else self._unpack("<i", place)
        kind = _KINDS.get(self._small(table, 1, "<b"))
        number = self._small(table, 2, "<I")
        if kind is None or not 0 <= number < len(self._buffers):
            return scale
        start, end = self._buffers[number]
        shape = tuple(self._numbers(table, 0))
        if start < end and all(size >= 0 for size in shape):
            self._tensors[name] = Tensor(
                name=name,
                kind=kind,
                shape=shape,
                offset=start,
                size=end - start,
                scale=scale,
                axis=min(max(axis, 0), max(len(shape) - 1, 0)),
            )
        return scale

    def _scales(self, table: int, name: str) -> str:
        vector = self._vector(table, 2, _FLOAT_BYTES)
        if vector is None or not vector[1]:
            return ""
        start, count = vector
        self._tensors[name] = Tensor(
            name=name,
            kind=Kind.FLOAT32,
            shape=(count,),
            offset=start,
            size=_FLOAT_BYTES * count,
        )
        return name

    def _buffer(self, table: int) -> Span:
        """Where the bytes of a buffer begin and end; behind the tables if large."""
        start, size = self._small(table, 1, "<Q"), self._small(table, 2, "<Q")
        if start > 1:
            return (start, start + size)
        start, count = self._vector(table, 0, 1) or (0, 0)
        return (start, start + count)

    # How a FlatBuffer is read.

    def _unpack(self, form: str, place: int) -> int:
        if place < 0:
            raise ValueError("an offset leads before the file")
        number: int = struct.unpack_from(form, self._content, place)[0]
        return number

    def _follow(self, place: int) -> int:
        return place + self._unpack("<I", place)

    def _field(self, table: int, number: int) -> int | None:
        """Where a field of a table lies; None where it has its default."""
        list_place = table - self._unpack("<i", table)
        if 4 + 2 * number >= self._unpack("<H", list_place):
            return None
        offset = self._unpack("<H", list_place + 4 + 2 * number)
        return table + offset if offset else None

    def _small(self, table: int, number: int, form: str) -> int:
        place = self._field(table, number)
        return 0 if place is None else self._unpack(form, place)

    def _vector(self, table: int, number: int, width: int) -> tuple[int, int] | None:
        """Where a vector's elements begin, and how many there are."""
        place = self._field(table, number)
        if place is None:
            return None
        start = self._follow(place)
        count = self._unpack("<I", start)
        if start + 4 + width * count > len(self._content):
            raise ValueError("a vector is longer than the file")
        return start + 4, count

    def _tables(self, table: int, number: int) -> Iterator[int]:
        start, count = self._vector(table, number, 4) or (0, 0)
        if count > _MOST_TENSORS:
            raise ValueError("there are too many tables")
        for place in range(start, start + 4 * count, 4):
            yield self._follow(place)

    def _numbers(self, table: int, number: int) -> list[int]:
        start, count = self._vector(table, number, 4) or (0, 0)
        if count > _MOST_TENSORS:
            raise ValueError("a list is too long")
        return list(struct.unpack_from(f"<{count}i", self._content, start))

    def _text(self, table: int, number: int) -> str:
        start, count = self._vector(table, number, 1) or (0, 0)
        return self._content[start : start + count].decode("utf-8", "replace")

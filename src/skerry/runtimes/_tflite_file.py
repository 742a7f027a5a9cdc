"""Read the signature of a TFLite file; neither LiteRT nor flatbuffers is needed.

A TFLite file is a FlatBuffer (https://flatbuffers.dev/internals) of TensorFlow Lite's
`schema.fbs`, version 3: tables whose fields are found through offsets. Each offset is
followed only inside the file, so a damaged file ends in an error of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from skerry.core.errors import ModelError, UsageError
from skerry.core.model import TensorSpec

MAX_FILE_BYTES = 2**31 - 1
"""FlatBuffers' own limit."""

MAGIC = b"TFL3"
MAGIC_OFFSET = 4

_MOST_NAME_BYTES = 1 << 12
_MOST_RANK = 8
_MOST_TENSORS = 1 << 20

# The numbers of the fields of schema.fbs that are read here.
_MODEL_SUBGRAPHS, _MODEL_SIGNATURES = 2, 7
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_OPEN_SHAPE = 0, 1, 3, 7
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_GRAPH = 0, 1, 4
_MAP_NAME, _MAP_TENSOR = 0, 1

_DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    11: "complex128",
    12: "uint64",
    15: "uint32",
    16: "uint16",
}
"""Names by number of schema.fbs's TensorType; strings and handles are left out."""

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class TflitePort:
    """An input or output of a TFLite file.

    Attributes:
        spec: Its name, dtype and shape.
        tensor: The number of its tensor in the file's first subgraph.
    """

    spec: TensorSpec
    tensor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteSignature:
    """What goes into a TFLite file and what comes out, in the file's order."""

    inputs: tuple[TflitePort, ...]
    outputs: tuple[TflitePort, ...]


def is_tflite(head: bytes) -> bool:
    """Whether a file that begins with these bytes says that it is TFLite."""
    return head.startswith(MAGIC, MAGIC_OFFSET)


def read_tflite(path: Path) -> TfliteSignature:
    """Read the signature of a TFLite file.

    Names are those of the file's one signature, where it has one, as TensorFlow's
    converter writes it; else the tensors' own.

    Raises:
        UsageError: The file cannot be read.
        ModelError: It is not TFLite, damaged, or takes what is not an array of numbers.
    """
    return parse_tflite(tflite_content(path), name=path.name)


def tflite_content(path: Path) -> bytes:
    """The bytes of a TFLite file.

    Raises:
        UsageError: The file cannot be read.
        ModelError: It is larger than any can be.
    """
    try:
        if (size_bytes := path.stat().st_size) > MAX_FILE_BYTES:
            raise ModelError(
                f"{path} has {size_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read",
                hint="Give the model it was made from.",
            )
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the model {path} cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error


def parse_tflite(content: bytes, *, name: str = "the model") -> TfliteSignature:
    """Read the signature of a TFLite model from its bytes.

    Raises:
        ModelError: It is not TFLite, damaged, or takes what is not an array of numbers.
    """
    if not is_tflite(content[:8]):
        raise ModelError(
            f"{name} is not a TFLite model, or only a part of one",
            hint="Export the model again, or fetch the whole file.",
        )
    try:
        return _signature(_Buffer(content), name)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise _damaged(name) from error


def _damaged(name: str) -> ModelError:
    return ModelError(
        f"{name} is a damaged TFLite model, or only a part of one",
        hint="Export the model again, or fetch the whole file.",
    )


class _Buffer:
    """Bytes, and where a table's fields lie in them; `IndexError` past their end."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def number(self, form: str, at: int) -> int:
        """One number; a negative place would count from the end of the file."""
        if at < 0:
            raise IndexError(at)
        (value,) = struct.unpack_from(form, self._content, at)
        return int(value)

    def follow(self, at: int) -> int:
        """Where an offset leads."""
        return at + self.number("<I", at)

    def field(self, table: int, number: int) -> int | None:
        """Where a table's field lies; None where it is left out."""
        vtable = table - self.number("<i", table)
        place = 4 + 2 * number
        if place + 2 > self.number("<H", vtable):
            return None
        offset = self.number("<H", vtable + place)
        return table + offset if offset else None

    def scalar(self, table: int, number: int, form: str) -> int:
        """A table's number; 0 where it is left out."""
        at = self.field(table, number)
        return 0 if at is None else self.number(form, at)

    def vector(
        self, table: int, number: int, item: Callable[[int], ItemT], *, most: int
    ) -> list[ItemT]:
        """A table's vector of four-byte items; empty where it is left out."""
        return list(self._items(table, number, item, most))

    def text(self, table: int, number: int) -> str:
        """A table's string; empty where it is left out."""
        at = self.field(table, number)
        if at is None:
            return ""
        start = self.follow(at)
        size = self.number("<I", start)
        end = start + 4 + size
        if size > _MOST_NAME_BYTES or end > len(self._content):
            raise IndexError(size)
        return self._content[start + 4 : end].decode()

    def integer(self, at: int) -> int:
        """An item of a vector of integers."""
        return self.number("<i", at)

    def _items(
        self, table: int, number: int, item: Callable[[int], ItemT], most: int
    ) -> Iterator[ItemT]:
        at = self.field(table, number)
        if at is None:
            return
        start = self.follow(at)
        count = self.number("<I", start)
        if count > most:
            raise IndexError(count)
        for place in range(start + 4, start + 4 + 4 * count, 4):
            yield item(place)


def _signature(buffer: _Buffer, name: str) -> TfliteSignature:
    model = buffer.follow(0)
    graphs = buffer.vector(model, _MODEL_SUBGRAPHS, buffer.follow, most=_MOST_TENSORS)
    tensors = buffer.vector(
        graphs[0], _GRAPH_TENSORS, buffer.follow, most=_MOST_TENSORS
    )
    named = [
        signature
        for signature in buffer.vector(
            model, _MODEL_SIGNATURES, buffer.follow, most=_MOST_TENSORS
        )
        if buffer.scalar(signature, _SIGNATURE_GRAPH, "<I") == 0
    ]

    def ports(graph_field: int, signature_field: int) -> tuple[TflitePort, ...]:
        order = buffer.vector(
            graphs[0], graph_field, buffer.integer, most=_MOST_TENSORS
        )
        names = _names(buffer, named[0], signature_field) if len(named) == 1 else {}
        found = []
        for tensor in order:
            if not 0 <= tensor < len(tensors):
                raise IndexError(tensor)
            spec = _spec(buffer, tensors[tensor], names.get(tensor, ""), name)
            found.append(TflitePort(spec=spec, tensor=tensor))
        if len({port.spec.name for port in found}) < len(found):
            raise _damaged(name)
        return tuple(found)

    inputs = ports(_GRAPH_INPUTS, _SIGNATURE_INPUTS)
    outputs = ports(_GRAPH_OUTPUTS, _SIGNATURE_OUTPUTS)
    if not outputs:
        raise _damaged(name)
    return TfliteSignature(inputs=inputs, outputs=outputs)


def _names(buffer: _Buffer, signature: int, number: int) -> dict[int, str]:
    """The names that a signature gives to tensors, by the tensor's number."""
    maps = buffer.vector(signature, number, buffer.follow, most=_MOST_TENSORS)
    return {
        buffer.scalar(each, _MAP_TENSOR, "<I"): buffer.text(each, _MAP_NAME)
        for each in maps
    }


def _spec(buffer: _Buffer, tensor: int, alias: str, name: str) -> TensorSpec:
    called = alias or buffer.text(tensor, _TENSOR_NAME)
    number = buffer.scalar(tensor, _TENSOR_TYPE, "<b")
    if number not in _DTYPES:
        raise ModelError(
            f"{name} takes or gives {called!r}, which is not an array of numbers "
            f"(type {number} of TFLite's schema)",
            hint="Export the model with plain tensors as inputs and outputs.",
        )
    sizes = buffer.vector(
        tensor, _TENSOR_OPEN_SHAPE, buffer.integer, most=_MOST_RANK
    ) or buffer.vector(tensor, _TENSOR_SHAPE, buffer.integer, most=_MOST_RANK)
    shape = tuple(size if size >= 0 else None for size in sizes)
    return TensorSpec(name=called, dtype=_DTYPES[number], shape=shape)

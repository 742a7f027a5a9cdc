"""Protocol Buffers on the wire, for the few messages of the inference protocol.

The library of that name would copy each tensor twice; here bytes are views of the
message. Messages are declared as tables, read into dictionaries and written from them
("Encoding" in the documentation of Protocol Buffers). Fields that no table names are
passed over, as the format has it; of a field that is given twice the last one counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from skerry.core.errors import DataError

MOST_FIELDS = 50_000
"""Most fields of one message, those of the messages in it included."""

LARGEST_PACKED_BYTES = 1 << 20
"""Most bytes of numbers that are packed in one field; tensors go as bytes."""

Kind = Literal[
    "bool",
    "int32",
    "int64",
    "uint32",
    "uint64",
    "float",
    "double",
    "string",
    "bytes",
]
Values = dict[str, Any]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOATS = {"float": ("<f", "<f4", _FIXED32), "double": ("<d", "<f8", _FIXED64)}
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_BITS = {"int32": 32, "uint32": 32, "int64": 64, "uint64": 64}
_WHOLE = 1 << 64
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a message.

    Attributes:
        name: Its name.
        kind: The type of its value.
        message: The fields of its value, by number, where that is a message.
        is_repeated: Whether there may be many values: they are read into a list.
        is_map: Whether it is a map from strings: it is read into a dictionary.
    """

    name: str
    kind: Kind = "bytes"
    message: Mapping[int, Field] | None = None
    is_repeated: bool = False
    is_map: bool = False


Message = Mapping[int, Field]


def decode_message(content: bytes | memoryview, message: Message) -> Values:
    """Read a message.

    Returns:
        The values by the name of the field; those that were not sent are left out.
        Bytes are views of what was given.

    Raises:
        DataError: It is no such message.
    """
    try:
        return _Reader().read(memoryview(content), message)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        why = "it is cut off" if isinstance(error, IndexError) else error
        raise DataError(
            f"the message cannot be read: {why}",
            hint="Send what grpc_service.proto of the protocol declares.",
        ) from error


def encode_message(values: Mapping[str, Any], message: Message) -> bytes:
    """Write a message; fields whose value is missing or None are left out."""
    return b"".join(_pieces(values, message))


class _Reader:
    """Reads one message and those in it, for as long as there are not too many."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def read(self, content: memoryview, message: Message) -> Values:
        values: Values = {}
        at, end = 0, len(content)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {MOST_FIELDS} fields")
            tag, at = _read_varint(content, at)
            wire = tag & 7
            value, at = _read_value(content, at, wire)
            field = message.get(tag >> 3)
            if tag < 8:
                raise ValueError("a field has the number 0")
            if field is not None:
                self._keep(values, field, wire, value)
        return values

    def _keep(self, values: Values, field: Field, wire: int, value: Any) -> None:
        if field.message is not None:
            if wire != _BYTES:
                raise ValueError(f"{field.name} is no message")
            inner = self.read(value, field.message)
            if field.is_map:
                entries = values.setdefault(field.name, {})
                entries[inner.get("key", "")] = inner.get("value", {})
            elif field.is_repeated:
                values.setdefault(field.name, []).append(inner)
            else:
                values[field.name] = inner
        elif not field.is_repeated:
            values[field.name] = _one(field, wire, value)
        elif wire == _BYTES and field.kind not in {"string", "bytes"}:
            values.setdefault(field.name, []).extend(_packed(field, value))
        else:
            values.setdefault(field.name, []).append(_one(field, wire, value))


def _read_varint(content: memoryview, at: int) -> tuple[int, int]:
    byte = content[at]
    if byte < 0x80:  # most are short
        return byte, at + 1
    value = byte & 0x7F
    for index in range(1, _LONGEST_VARINT):
        byte = content[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value % _WHOLE, at + index + 1
    raise ValueError("a number is longer than ten bytes")


def _read_value(content: memoryview, at: int, wire: int) -> tuple[Any, int]:
    if wire == _VARINT:
        return _read_varint(content, at)
    if wire == _BYTES:
        size_bytes, at = _read_varint(content, at)
    elif wire in _SIZES:
        size_bytes = _SIZES[wire]
    else:
        raise ValueError(f"a field has the wire type {wire}")
    end = at + size_bytes
    if end > len(content):
        raise ValueError("it is cut off")
    return content[at:end], end


def _one(field: Field, wire: int, value: Any) -> Any:
    kind = field.kind
    if kind in _FLOATS:
        form, _, expected = _FLOATS[kind]
        _check_wire(field, wire, expected)
        return struct.unpack(form, value)[0]
    if kind in {"string", "bytes"}:
        _check_wire(field, wire, _BYTES)
        return str(value, "utf-8") if kind == "string" else value
    _check_wire(field, wire, _VARINT)
    return bool(value) if kind == "bool" else _wrap(value, kind)


def _check_wire(field: Field, got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(f"{field.name} has the wire type {got}, expected {expected}")


def _wrap(value: int, kind: str) -> int:
    bits = _BITS[kind]
    value %= 1 << bits
    return value - (1 << bits) if kind[0] == "i" and value >> (bits - 1) else value


def _packed(field: Field, value: memoryview) -> list[Any]:
    if len(value) > LARGEST_PACKED_BYTES:
        raise ValueError(
            f"{field.name} has {len(value)} bytes of numbers, expected at most "
            f"{LARGEST_PACKED_BYTES}: send raw_input_contents"
        )
    if field.kind in _FLOATS:
        numbers: list[Any] = np.frombuffer(value, _FLOATS[field.kind][1]).tolist()
        return numbers
    wide = _packed_varints(np.frombuffer(value, np.uint8))
    if field.kind == "bool":
        return [bool(number) for number in wide]
    return [_wrap(number, field.kind) for number in wide]


def _packed_varints(content: np.ndarray[Any, np.dtype[np.uint8]]) -> list[int]:
    """Read numbers of seven bits a byte, the lowest first; the last has no high bit."""
    if not content.size:
        return []
    ends = np.flatnonzero(content < 0x80)
    if not ends.size or ends[-1] != content.size - 1:
        raise ValueError("a packed number is cut off")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST_VARINT:
        raise ValueError("a packed number is longer than ten bytes")
    within = np.arange(content.size) - np.repeat(starts, lengths)
    shifted = (content & 0x7F).astype(np.uint64) << (7 * within).astype(np.uint64)
    numbers: list[int] = np.add.reduceat(shifted, starts).tolist()
    return numbers


def _pieces(values: Mapping[str, Any], message: Message) -> Iterator[Any]:
    for number, field in message.items():
        value = values.get(field.name)
        if value is None:
            continue
        if field.is_map:
            value = [{"key": key, "value": inner} for key, inner in value.items()]
        elif not field.is_repeated:
            value = [value]
        elif field.message is None and field.kind in _BITS:
            packed = b"".join(_varint(each) for each in value)
            yield _varint(number << 3 | _BYTES) + _varint(len(packed)) + packed
            continue
        for each in value:
            yield from _piece(number << 3, field, each)


def _piece(tag: int, field: Field, value: Any) -> Iterator[Any]:
    if field.message is not None:
        value = encode_message(value, field.message)
    elif field.kind in _FLOATS:
        form, _, wire = _FLOATS[field.kind]
        yield _varint(tag | wire) + struct.pack(form, value)
        return
    elif field.kind == "string":
        value = value.encode()
    elif field.kind != "bytes":
        yield _varint(tag | _VARINT) + _varint(int(value))
        return
    yield _varint(tag | _BYTES) + _varint(len(value))
    yield value


def _varint(value: int) -> bytes:
    value %= _WHOLE
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)

"""Find the tensors of an ONNX file without the `onnx` package.

An ONNX file is a protobuf message (protobuf.dev, "Encoding"; field numbers are those of
`onnx.proto3`): only the fields that lead to constants are looked at, and of those only
what is stored as raw bytes, as exporters do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from skerry.evolve.delta.kinds import Kind
from skerry.evolve.delta.tensors import Contents, Tensor, in_order

_KINDS = {
    1: Kind.FLOAT32,
    2: Kind.INT8,
    3: Kind.INT8,
    4: Kind.INT16,
    5: Kind.INT16,
    6: Kind.INT32,
    7: Kind.INT64,
    9: Kind.INT8,
    10: Kind.FLOAT16,
    11: Kind.FLOAT64,
    12: Kind.INT32,
    13: Kind.INT64,
    16: Kind.FLOAT16,
    **dict.fromkeys(range(17, 21), Kind.INT8),
    21: Kind.INT4,
    22: Kind.INT4,
}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MOST_DEPTH = 16
_DEQUANTIZE = "DequantizeLinear"
_SUMMING = {"Conv", "Gemm", "ConvTranspose"}

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    kind: str
    inputs: list[str]
    outputs: list[str]
    axis: int = 1


def read_onnx(content: bytes) -> Contents:
    """Find the tensors of an ONNX file.

    Raises:
        ValueError: It is none.
    """
    walk = _Walk(content)
    for number, wire, span in walk.fields((0, len(content))):
        if number == 7 and wire == _LENGTH:
            walk.graph(span, 0)
    if not walk.tensors:
        raise ValueError("there are no tensors")
    return walk.contents()


class _Walk:
    """Walks through a file, and collects tensors and nodes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.tensors: dict[str, Tensor] = {}
        self._nodes: list[_Node] = []

    def fields(self, span: Span) -> Iterator[tuple[int, int, Span]]:
        """Number, wire type and bytes of each field; of a varint, its value twice."""
        place, end = span
        while place < end:
            key, place = self._varint(place, end)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, place = self._varint(place, end)
                yield number, wire, (value, value)
                continue
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
            if wire == _LENGTH:
                size, place = self._varint(place, end)
            if size is None or place + size > end:
                raise ValueError("this is no protobuf message")
            yield number, wire, (place, place + size)
            place += size

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self._content[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
        raise ValueError("a varint does not end")

    def _text(self, span: Span) -> str:
        return self._content[slice(*span)].decode("utf-8", "replace")

    def graph(self, span: Span, depth: int) -> None:
        """Walk through a GraphProto."""
        if depth > _MOST_DEPTH:
            raise ValueError("graphs are nested too deeply")
        for number, wire, inner in self.fields(span):
            if wire == _LENGTH and number == 1:
                self._node(inner, depth)
            elif wire == _LENGTH and number == 5:
                self._tensor(inner, "")

    def _node(self, span: Span, depth: int) -> None:
        kind, axis = "", 1
        inputs: list[str] = []
        outputs: list[str] = []
        attributes = []
        for number, wire, inner in self.fields(span):
            if wire != _LENGTH:
                continue
            if number == 1:
                inputs.append(self._text(inner))
            elif number == 2:
                outputs.append(self._text(inner))
            elif number == 4:
                kind = self._text(inner)
            elif number == 5:
                attributes.append(inner)
        for inner in attributes:
            axis = self._attribute(inner, outputs, axis, depth)
        node = _Node(kind=kind, inputs=inputs, outputs=outputs, axis=axis)
        self._nodes.append(node)

    def _attribute(self, span: Span, outputs: list[str], axis: int, depth: int) -> int:
        """Walk through an AttributeProto; the axis, where it is that."""
        name, value = "", 0
        for number, wire, inner in self.fields(span):
            if number == 1 and wire == _LENGTH:
                name = self._text(inner)
            elif number == 3 and wire == _VARINT:
                value = inner[0]
            elif number == 5 and wire == _LENGTH:
                self._tensor(inner, outputs[0] if outputs else "")
            elif number == 6 and wire == _LENGTH:
                self.graph(inner, depth + 1)
        return value if name == "axis" else axis

    def _tensor(self, span: Span, name: str) -> None:
        shape: list[int] = []
        kind, raw = None, None
        for number, wire, inner in self.fields(span):
            if number == 1 and wire == _VARINT:
                shape.append(inner[0])
            elif number == 1 and wire == _LENGTH:
                place, end = inner
                while place < end:
                    value, place = self._varint(place, end)
                    shape.append(value)
            elif number == 2 and wire == _VARINT:
                kind = _KINDS.get(inner[0])
            elif number == 8 and wire == _LENGTH:
                name = name or self._text(inner)
            elif number == 9 and wire == _LENGTH:
                raw = inner
        if kind is None or raw is None or not name:
            return
        while name in self.tensors:  # Inner graphs may use a name again.
            name += "'"
        self.tensors[name] = Tensor(
            name=name,
            kind=kind,
            shape=tuple(shape),
            offset=raw[0],
            size=raw[1] - raw[0],
        )

    def contents(self) -> Contents:
        """What was found, with the scales that quantized tensors have."""
        dequantized: dict[str, str] = {}
        for node in self._nodes:
            if node.kind != _DEQUANTIZE or len(node.inputs) < 2 or not node.outputs:
                continue
            source, scale = node.inputs[:2]
            dequantized[node.outputs[0]] = scale
            if source in self.tensors and scale in self.tensors:
                one = self.tensors[source]
                # A negative axis is written as a varint of 64 bits.
                axis = node.axis - (1 << 64) if node.axis >> 63 else node.axis
                axis = axis + len(one.shape) if axis < 0 else axis
                self.tensors[source] = replace(one, scale=scale, axis=axis)
        products = {}
        for node in self._nodes:
            scales = [dequantized.get(name, "") for name in node.inputs]
            if node.kind in _SUMMING and len(scales) > 2 and all(scales[:3]):
                products[scales[2]] = (scales[0], scales[1])
        tensors = in_order(list(self.tensors.values()), len(self._content))
        return Contents(tensors=tensors, products=products)

"""The recipe step `codebook`: weights as indices into a table of a few numbers.

The file holds the codes (4 bits: two a byte) and the table, and decodes them with
standard operators of opset 13: Cast, Mod, Div, Concat, Reshape, Gather, Mul. They
depend on constants alone, so runtimes decode once, when they load the model
(onnxruntime and OpenVINO both fold them): the file and its transfer become smaller,
while memory and speed are those of float32 weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skerry.compress.numbers.arrays import along_axis
from skerry.compress.numbers.codebooks import (
    CodebookKind,
    CodedTensor,
    check_codebook,
    encode,
    pack,
)
from skerry.compress.numbers.schemes import PACKED_BITS
from skerry.compress.ptq.operators import quantizable, weight, weight_axis
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import StepContext
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Choices, ParamValue, Space, StepSpec
from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Node,
    Value,
    dtype_code,
    make_initializer,
    make_node,
    place_after,
    remove_dead,
)

_DECODER_BYTES = 1024
"""About what the operators that decode one tensor take of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codebook:
    """Store the weights of layers as codes and a codebook each.

    Attributes:
        bits: 4 (16 entries) or 8 (256 entries).
        kind: `kmeans`, or `power-of-two` (4 bits): sign · 2^k and zero.
        per_channel: Whether each output channel scales the entries by a factor.
        keep_float: Names of nodes whose weights stay float; as they are called after
            `prepare`.

    Raises:
        UsageError: There is no such kind or width.
    """

    SPACE: ClassVar[Space] = {
        "bits": Choices(values=(PACKED_BITS, 8)),
        "per_channel": Choices(values=(True, False)),
    }

    bits: int = PACKED_BITS
    kind: CodebookKind = "kmeans"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_codebook(self.bits, self.kind)
        # A recipe file knows lists only.
        object.__setattr__(self, "keep_float", tuple(self.keep_float))

    def apply(self, graph: Graph, context: StepContext) -> Graph:
        """Code the weights; the graph given is left as it was.

        Weights that would take more room as codes stay float.

        Args:
            graph: Any float graph.
            context: Only its progress is told; no sample is run.

        Raises:
            ModelError: The graph has no weights to code; see `prepare`.
            UsageError: There is no node of a name to keep float.
        """
        coded = prepare(graph)
        nodes = [
            node
            for node in quantizable(coded, "weights")
            if node.name not in self.keep_float
        ]
        self._check_names(coded)
        decoded: dict[tuple[str, int | None], Value] = {}
        for done, node in enumerate(nodes, start=1):
            value = weight(coded, node)
            array = coded.constant(value)
            if value is None or array is None or not self._is_worth_it(array):
                continue
            axis = weight_axis(node, array.ndim) if self.per_channel else None
            key = (str(value.name), axis)
            if key not in decoded:
                found = encode(array, bits=self.bits, kind=self.kind, axis=axis)
                decoded[key] = _Decoder(coded, str(value.name)).place(found, self.bits)
            node.replace_input_with(1, decoded[key])
            if context.progress is not None:
                context.progress("codebook", done, len(nodes))
        return remove_dead(coded)

    def spec(self) -> StepSpec:
        """This step as a recipe holds it."""
        params: dict[str, ParamValue] = {
            "bits": self.bits,
            "kind": self.kind,
            "per_channel": self.per_channel,
            "keep_float": list(self.keep_float),
        }
        return StepSpec(name="codebook", params=params)

    def _is_worth_it(self, array: Array) -> bool:
        table = 4 * ((1 << self.bits) + max(array.shape, default=0))
        return array.size * self.bits // 8 + table + _DECODER_BYTES < array.nbytes

    def _check_names(self, graph: Graph) -> None:
        names = [str(node.name) for node in graph.nodes]
        for name in self.keep_float:
            if name not in names:
                raise UsageError(
                    f"{graph.name} has no operator {name!r} to keep float",
                    hint=did_you_mean(name, names),
                )


class _Decoder:
    """Writes the operators that make one tensor of its codes."""

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self._name = name
        self._nodes: list[Node] = []

    def place(self, coded: CodedTensor, bits: int) -> Value:
        """Put codes, entries and operators into the graph; returns the weights."""
        if bits == PACKED_BITS:
            index = self._unpacked(coded.codes)
        else:
            index = self._whole(self._constant("codes", coded.codes))
        weights = self._op("Gather", self._constant("entries", coded.entries), index)
        if coded.axis is not None:
            scale = along_axis(coded.scale, coded.codes, coded.axis)
            weights = self._op("Mul", weights, self._constant("scale", scale))
        place_after(self._graph, self._graph.initializers[0], self._nodes)
        return weights

    def _unpacked(self, codes: Array) -> Value:
        """Take two codes out of each byte: the rest of a division, and its quotient."""
        both = self._whole(self._constant("codes", pack(codes)[:, None]))
        divisor = self._constant("divisor", np.array(1 << PACKED_BITS, np.int32))
        low, high = self._op("Mod", both, divisor), self._op("Div", both, divisor)
        index = self._op("Concat", low, high, axis=1)
        if codes.size % 2:
            index = self._op("Reshape", index, self._integers("flat", [-1]))
            ends = self._integers("start", [0]), self._integers("end", [codes.size])
            index = self._op("Slice", index, *ends)
        return self._op("Reshape", index, self._integers("shape", codes.shape))

    def _whole(self, codes: Value) -> Value:
        return self._op("Cast", codes, to=dtype_code("int32"))

    def _integers(self, what: str, numbers: Sequence[int]) -> Value:
        return self._constant(what, np.array(numbers, np.int64))

    def _constant(self, what: str, array: Array) -> Value:
        name = self._graph.unique_name(f"{self._name}.{what}")
        return self._graph.add_initializer(make_initializer(array, name))

    def _op(self, op_type: str, *inputs: Value, **attributes: int) -> Value:
        name = self._graph.unique_name(f"{self._name}.{op_type}")
        node = make_node(op_type, inputs, attributes, outputs=[name], name=name)
        self._nodes.append(node)
        return node.outputs[0]

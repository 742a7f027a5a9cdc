"""Follow the shapes of a graph at two resolutions at once, node by node."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph import _onnx
from skerry.graph._onnx import (
    Node,
    Value,
    attribute,
    dims,
    make_initializer,
    make_node,
    make_value,
)
from skerry.graph.model_graph import Graph
from skerry.graph.new import make_graph
from skerry.graph.resolution.axes import Axes, axis_of
from skerry.graph.resolution.grids import CellConstant
from skerry.graph.resolution.known import Known, numbers, refuse
from skerry.graph.resolution.rules import (
    OPERATORS,
    cell_axes,
    made_axes,
    repaired_operands,
)
from skerry.graph.shapes import infer_shapes

_MOST_BYTES = 1 << 20
"""Results of constants up to here are computed."""

_MOST_SAID = 64
"""Numbers that shape inference may look at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Followed:
    """What following a graph found.

    Attributes:
        known: By value.
        operands: New constants by node and the index of its input.
    cells: Constants with entries for cells, by who reads them.
        cells: Constants with entries for cells, by who reads them.
        attributes: New attributes by node.
    """

    known: Mapping[Value, Known]
    operands: dict[tuple[Node, int], Array] = field(default_factory=dict)
    cells: dict[tuple[Node, int], CellConstant] = field(default_factory=dict)
    attributes: dict[Node, dict[str, list[int]]] = field(default_factory=dict)


def follow(graph: Graph, inputs: Mapping[Value, Axes]) -> Followed:
    """Follow a graph whose constants are initializers.

    Args:
        graph: At the old resolution; its nodes have names.
        inputs: The axes of each input at both.

    Raises:
        ModelError: A node cannot be followed, or a constant that it reads says a shape
            of which it cannot be told how it depends on the resolution.
    """
    return _Walk(graph, inputs).found


class _Walk:
    def __init__(self, graph: Graph, inputs: Mapping[Value, Axes]) -> None:
        self._opset = graph.opset
        known: dict[Value, Known] = {}
        for value, axes in inputs.items():
            known[value] = Known(axes=axes, dtype=_onnx.dtype_name(value) or "float32")
        for value in graph.initializers:
            array = graph.constant(value)
            if array is not None:
                known[value] = numbers(array, array)
        self._known = known
        self.found = Followed(known=known)
        for node in graph.nodes:
            self._visit(node)

    def _visit(self, node: Node) -> None:
        if any(_onnx.subgraphs(node)):
            raise refuse(node, "has a graph inside")
        reads = [None if v is None else self._known.get(v) for v in node.inputs]
        if not any(one is not None and one.follows for one in reads):
            self._infer_same(node, reads)
            return
        if node.domain != "" or node.op_type not in OPERATORS:
            raise refuse(node, "is none whose shapes can be followed")
        if self._compute(node, reads):
            return
        self._repair(node, reads, repaired_operands(node, reads))
        self._keep_whole_map_pools(node, reads)
        self._note_cells(node, reads)
        old, new = self._sizes(node, reads, 0), self._sizes(node, reads, 1)
        for which, value in enumerate(node.outputs):
            if value.name:
                sizes = old[which][1], new[which][1]
                axes = made_axes(node, reads, *sizes, which)
                self._known[value] = Known(axes=axes, dtype=old[which][0])

    def _infer_same(self, node: Node, reads: Sequence[Known | None]) -> None:
        if self._compute(node, reads):
            return
        for value, (dtype, sizes) in zip(
            node.outputs, self._sizes(node, reads, 0), strict=True
        ):
            axes = tuple(axis_of(size, size) for size in sizes)
            self._known[value] = Known(axes=axes, dtype=dtype)

    def _compute(self, node: Node, reads: Sequence[Known | None]) -> bool:
        """Compute what depends on constants and shapes alone, at both resolutions."""
        if node.op_type in {"Shape", "Size"} and reads[0] is not None:
            axes = reads[0].axes
            old = _shape_result(node, [axis.old for axis in axes])
            new = _shape_result(node, [axis.new for axis in axes])
            self._known[node.outputs[0]] = numbers(old, new)
            return True
        if node.op_type == "DequantizeLinear" or node.domain != "":
            return False
        given = {
            v.name or "": one
            for v, one in zip(node.inputs, reads, strict=True)
            if v and one
        }
        if any(one.old is None or one.new is None for one in given.values()):
            return False
        if (
            sum(one.old.nbytes for one in given.values() if one.old is not None)
            > _MOST_BYTES
        ):
            return False
        olds = {name: one.old for name, one in given.items() if one.old is not None}
        news = {name: one.new for name, one in given.items() if one.new is not None}
        try:
            before = after = _onnx.evaluate(node, olds, self._opset)
            if any(one.follows for one in given.values()):
                after = _onnx.evaluate(node, news, self._opset)
        except ModelError:
            # Runtimes know more operators than the reference.
            return False
        for value, *held in zip(node.outputs, before, after, strict=True):
            self._known[value] = numbers(*held)
        return True

    def _repair(
        self, node: Node, reads: list[Known | None], changes: Mapping[int, Array]
    ) -> None:
        """Let a node read other constants, where these differ from what it reads."""
        for index, array in changes.items():
            one = reads[index]
            if one is None or one.new is None or np.array_equal(one.new, array):
                continue
            self.found.operands[node, index] = array
            reads[index] = replace(one, new=array)

    def _note_cells(self, node: Node, reads: list[Known | None]) -> None:
        """Let constants with an entry a cell have one for each cell there will be."""
        for index, axes in cell_axes(node, reads).items():
            one, value = reads[index], node.inputs[index]
            if one is not None and one.old is not None and value is not None:
                self.found.cells[node, index] = CellConstant(
                    name=value.name or "", array=one.old, axes=axes
                )
                reads[index] = Known(axes=axes, dtype=one.dtype)

    def _keep_whole_map_pools(self, node: Node, reads: Sequence[Known | None]) -> None:
        """A pool over the whole map stays one."""
        kernel: list[int] = attribute(node, "kernel_shape", [])
        if node.op_type not in {"AveragePool", "MaxPool"} or reads[0] is None:
            return
        axes = reads[0].axes[-len(kernel) :]
        covers = [size == axis.old for size, axis in zip(kernel, axes, strict=True)]
        is_mean = node.op_type == "AveragePool"
        if not all(covers) or not (is_mean or min(kernel) > 3):
            return
        if any(attribute(node, "pads", [0])):
            return
        self.found.attributes[node] = {"kernel_shape": [axis.new for axis in axes]}

    def _sizes(
        self, node: Node, reads: Sequence[Known | None], which: int
    ) -> list[tuple[str, tuple[int, ...]]]:
        """The dtype and the sizes of what a node makes, at a resolution."""
        inputs, initializers = [], []
        made: dict[Value, Value] = {}
        for value, one in zip(node.inputs, reads, strict=True):
            if value is None or one is None:
                continue
            array = (one.old, one.new)[which]
            if value in made:
                continue
            if array is not None and array.size <= _MOST_SAID:
                made[value] = make_initializer(array, value.name or "")
                initializers.append(made[value])
            else:
                sizes = [(axis.old, axis.new)[which] for axis in one.axes]
                made[value] = make_value(value.name or "", one.dtype, sizes)
                inputs.append(made[value])
        copied = make_node(
            node.op_type,
            [None if value is None else made[value] for value in node.inputs],
            outputs=[value.name or "" for value in node.outputs],
            name=node.name,
        )
        copied.attributes.update(node.attributes)
        if which:
            changed = self.found.attributes.get(node, {})
            copied.attributes.update(make_node(node.op_type, [], changed).attributes)
        part = make_graph(
            [copied],
            inputs=inputs,
            outputs=[value for value in copied.outputs if value.name],
            initializers=initializers,
            opset=self._opset,
            name=node.name or node.op_type,
        )
        try:
            inferred = infer_shapes(part, max_folded_bytes=0)
            outputs = iter(inferred.output_values)
            return [
                _told(node, next(outputs)) if value.name else ("", ())
                for value in node.outputs
            ]
        except ModelError as error:
            shapes = [str(list(dims(value) or ())) for value in inputs]
            raise refuse(
                node,
                f"would read {' and '.join(shapes)}, which do not fit together",
                "Choose sides that the strides divide, such as multiples of 32.",
            ) from error


def _told(node: Node, value: Value) -> tuple[str, tuple[int, ...]]:
    dtype, sizes = _onnx.dtype_name(value), dims(value)
    if dtype is None or sizes is None or not all(isinstance(n, int) for n in sizes):
        raise refuse(node, "makes something whose shape depends on values")
    return dtype, tuple(size for size in sizes if isinstance(size, int))


def _shape_result(node: Node, sizes: list[int]) -> Array:
    if node.op_type == "Size":
        return np.array(math.prod(sizes), np.int64)
    start, end = attribute(node, "start", 0), attribute(node, "end", len(sizes))
    return np.array(sizes[start:end], np.int64)

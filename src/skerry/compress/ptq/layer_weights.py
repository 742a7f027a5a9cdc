"""The weights of a graph's layers while they are changed, in float64.

Layers differ in where their weights have input and output channels; here each shows
them the same way, in three dimensions: groups, output channels and input channels of a
group, with all that is summed over together (a kernel's positions) in a fourth.
"""

from __future__ import annotations

import numpy as np

from skerry.compress.ptq.operators import Role, role
from skerry.compress.ptq.regions import Region, Sink, constant_operand, scaled_along
from skerry.core.seams import Array
from skerry.graph import Graph, Node, attribute, dims, make_initializer


class LayerWeights:
    """Constants of nodes, read from a graph once and written to it at the end.

    Args:
        graph: It is changed by `write` alone.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._arrays: dict[tuple[Node, int], Array] = {}

    def read_by(self, sink: Sink, channels: int) -> Array:
        """What a sink multiplies each channel with: `[groups, out, in, others]`."""
        weights = self._constant(sink.node, 1)
        if sink.node.op_type == "Conv":
            groups = attribute(sink.node, "group", 1)
            return weights.reshape(groups, len(weights) // groups, weights.shape[1], -1)
        if not _is_transposed(sink.node):
            weights = weights.T
        return weights.reshape(1, len(weights), channels, -1)

    def made_by(self, region: Region) -> Array | None:
        """What makes each channel of a region, `[channels, others]`.

        None where its source is a product with constants: it has no such weights.
        """
        node = region.source
        if role(node) is not Role.WEIGHTS:
            return None
        weights = self._constant(node, 1)
        return np.moveaxis(weights, _output_axis(node), 0).reshape(region.channels, -1)

    def divide(self, region: Region, scale: Array) -> None:
        """Divide a region's channels by one number each; its sinks make up for it."""
        source = region.source
        if role(source) is Role.WEIGHTS:
            shape = [1] * self._constant(source, 1).ndim
            shape[_output_axis(source)] = -1
            self._multiply(source, 1, 1 / scale.reshape(shape))
            if len(source.inputs) > 2 and source.inputs[2] is not None:
                self._multiply(source, 2, 1 / scale)
        elif source.op_type == "LayerNormalization":
            for index, value in enumerate(source.inputs[1:], start=1):
                if value is not None:
                    self._multiply(source, index, 1 / scale)
        else:
            along = scaled_along(region.place, _rank(source), scale)
            index = self._operand(source)
            is_quotient = source.op_type == "Div"
            self._multiply(source, index, along if is_quotient else 1 / along)
        for node, place in region.shifts:
            along = scaled_along(place, _rank(node), scale)
            self._multiply(node, self._operand(node), 1 / along)
        for sink in region.sinks:
            self._make_up(sink, scale)

    def _make_up(self, sink: Sink, scale: Array) -> None:
        node, weights = sink.node, self._constant(sink.node, 1)
        along = scale.repeat(sink.place.repeats)
        if node.op_type == "Conv":
            groups = attribute(node, "group", 1)
            tail = (1,) * (weights.ndim - 2)
            rows = along.reshape(groups, 1, weights.shape[1], *tail)
            rows = rows.repeat(len(weights) // groups, axis=1)
            self._multiply(node, 1, rows.reshape(-1, weights.shape[1], *tail))
        else:
            self._multiply(node, 1, along if _is_transposed(node) else along[:, None])

    def write(self) -> None:
        """Put the changed constants into the graph; those who share the old keep it."""
        for (node, index), array in self._arrays.items():
            old = node.inputs[index]
            name = self._graph.unique_name(f"{old.name if old else ''}.equalized")
            constant = make_initializer(array.astype(np.float32), name)
            node.replace_input_with(index, self._graph.add_initializer(constant))

    def _multiply(self, node: Node, index: int, factor: Array) -> None:
        self._arrays[node, index] = self._constant(node, index) * factor

    def _constant(self, node: Node, index: int) -> Array:
        found = self._arrays.get((node, index))
        if found is not None:
            return found
        constant = self._graph.constant(node.inputs[index])
        if constant is None:
            raise ValueError(f"input {index} of {node.name} is not a constant")
        return constant.astype(np.float64)

    def _operand(self, node: Node) -> int:
        index = constant_operand(self._graph, node)
        if index is None:
            raise ValueError(f"{node.name} is not computed with a constant")
        return index


def _output_axis(node: Node) -> int:
    is_first = node.op_type == "Conv" or _is_transposed(node)
    return 0 if is_first else 1


def _is_transposed(node: Node) -> bool:
    return node.op_type == "Gemm" and bool(attribute(node, "transB", 0))


def _rank(node: Node) -> int:
    return len(dims(node.outputs[0]) or ())

"""What training begins with in a quantized graph, and which sums its layers make.

The quantizer has decided where numbers are rounded and has written that as pairs of
QuantizeLinear and DequantizeLinear. Nothing is decided again here: what trains is what
was written, so what is exported is what was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skerry.compress.numbers.arrays import along_axis
from skerry.compress.ptq.operators import Role, role
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, attribute, dtype_name

_DEQUANTIZES = "DequantizeLinear"
_QUANTIZES = "QuantizeLinear"

_MOST_OFF = 0.499
"""How far from the middle of its code a weight may begin, in steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSums:
    """The sums of products of codes that a layer makes.

    Attributes:
        read: Name of the scale of what the layer reads.
        weights: Name of the scale of its weights.
        axis: Of the channels in what it makes.
    """

    read: str
    weights: str
    axis: int


def weights_before(quantized: Graph, floats: Graph) -> dict[str, Array]:
    """The weights that training begins with, by the initializer of their codes.

    They are those of the float model, moved as little as it takes to round to the
    codes that the quantizer chose.

    Args:
        quantized: What `insert_qdq` wrote.
        floats: What it was written from.
    """
    before: dict[str, Array] = {}
    layers = {node.name: node for node in floats.nodes}
    for node in quantized.nodes:
        stored = _maker(node.inputs[1], _DEQUANTIZES) if len(node.inputs) > 1 else None
        if stored is None or role(node) is not Role.WEIGHTS:
            continue
        codes = quantized.constant(stored.inputs[0])
        weights = floats.constant(layers[node.name].inputs[1])
        if codes is None or weights is None or codes.shape != weights.shape:
            continue
        scale, zero_point = (_array(quantized, value) for value in stored.inputs[1:3])
        axis = attribute(stored, "axis", 1) if scale.ndim else None
        step = along_axis(scale, weights, axis).astype(np.float64)
        zero = along_axis(zero_point, weights, axis).astype(np.float64)
        chosen = codes.astype(np.float64) - zero
        # Beyond the last code there is no gradient to come back by.
        limit = max(float(np.abs(chosen).max()), 1.0)
        steps = np.clip(weights / step, chosen - _MOST_OFF, chosen + _MOST_OFF)
        steps = np.clip(steps, -limit, limit)
        before[_name(stored.inputs[0])] = (steps * step).astype(np.float32)
    return before


def sums_before_pairs(graph: Graph) -> dict[str, LayerSums]:
    """The sums that pairs round, by the name of the pair's scale.

    Args:
        graph: What `insert_qdq` wrote. Pairs behind what is no layer of weights and
            activations that are rounded, with its bias, are left out.
    """
    found: dict[str, LayerSums] = {}
    for node in graph.nodes:
        if node.op_type != _QUANTIZES:
            continue
        layer = _layer_before(node.inputs[0])
        if layer is None or attribute(layer, "alpha", 1.0) != 1.0:
            continue
        read = _maker(layer.inputs[0], _DEQUANTIZES)
        stored = _maker(layer.inputs[1], _DEQUANTIZES)
        if read is None or graph.constant(read.inputs[0]) is not None:
            continue
        if stored is None or graph.constant(stored.inputs[0]) is None:
            continue
        bias = layer.inputs[2] if len(layer.inputs) > 2 else None
        if bias is not None and not _is_int32(bias):
            continue
        is_convolution = layer.op_type in ("Conv", "ConvTranspose")
        found[_name(node.inputs[1])] = LayerSums(
            read=_name(read.inputs[1]),
            weights=_name(stored.inputs[1]),
            axis=1 if is_convolution else -1,
        )
    return found


def _layer_before(value: Value | None) -> Node | None:
    """The layer that makes a value, with a ReLU behind it or without."""
    relu = _maker(value, "Relu")
    made = value if relu is None else relu.inputs[0]
    layer = None if made is None else made.producer()
    if layer is not None and layer.op_type == "Add":
        # A bias that is added to a matrix product is stored as int32 like any other.
        products = [_maker(one, "MatMul") for one in layer.inputs]
        addend = layer.inputs[0] if products[0] is None else layer.inputs[1]
        product = products[0] or products[1]
        layer = product if _is_int32(addend) else None
    return layer if layer is not None and role(layer) is Role.WEIGHTS else None


def _is_int32(value: Value | None) -> bool:
    stored = _maker(value, _DEQUANTIZES)
    codes = None if stored is None else stored.inputs[0]
    return codes is not None and dtype_name(codes) == "int32"


def _maker(value: Value | None, op_type: str) -> Node | None:
    """The node that makes a value, where it is of this type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _array(graph: Graph, value: Value | None) -> Array:
    found = graph.constant(value)
    if found is None:
        raise ValueError("the graph was not written by the quantizer")
    return found


def _name(value: Value | None) -> str:
    return "" if value is None else value.name or ""

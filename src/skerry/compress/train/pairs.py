"""Where a graph rounds: its pairs of QuantizeLinear and DequantizeLinear, read."""

from __future__ import annotations

from typing import Literal

import numpy as np

from skerry.compress.train.layers import as_tensor, is_trained
from skerry.compress.train.rounding import LIMITS, Pair
from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, attribute, dtype_name
from skerry.runtimes.torch import Tensor

QUANTIZES, DEQUANTIZES = "QuantizeLinear", "DequantizeLinear"
_DEFAULT_AXIS = 1
_DEFAULT_CODES = "uint8"


def read_pair(graph: Graph, node: Node) -> Pair:
    """Read the place where a graph rounds.

    Args:
        graph: Its constants are initializers.
        node: A DequantizeLinear: of a constant, or of what a QuantizeLinear makes.

    Raises:
        ModelError: Its scale is no constant, or of blocks; or it dequantizes what no
            QuantizeLinear made.
    """
    source = node.inputs[0]
    codes = graph.constant(source)
    scale, zero_point = graph.constant(node.inputs[1]), _zero_point(graph, node)
    producer = None if source is None else source.producer()
    is_pair = producer is not None and producer.op_type == QUANTIZES
    is_known = codes is not None or is_pair
    if source is None or scale is None or zero_point is None or not is_known:
        raise unknown(graph, node)
    rounded = producer.inputs[0] if producer is not None else source
    dtype = dtype_name(source) or _DEFAULT_CODES
    if attribute(node, "block_size", 0) or dtype not in LIMITS or rounded is None:
        raise unknown(graph, node)
    axis = attribute(node, "axis", _DEFAULT_AXIS) if scale.ndim else None
    if scale.size == 1:
        axis, scale, zero_point = None, scale.reshape(()), zero_point.reshape(())
    return Pair(
        name=str(node.inputs[1].name if node.inputs[1] is not None else ""),
        kind="activation" if codes is None else _kind(node.outputs[0], codes),
        source=str(rounded.name),
        consumers=tuple(str(user.name) for user, _ in node.outputs[0].uses()),
        scale=scale,
        zero_point=zero_point,
        axis=axis if axis is None or codes is None else axis % codes.ndim,
        dtype=dtype,
    )


def check_quantizes(graph: Graph, node: Node) -> None:
    """Refuse a QuantizeLinear whose codes are read by anything but DequantizeLinear.

    Raises:
        ModelError: They are.
    """
    codes = node.outputs[0]
    readers = {user.op_type for user, _ in codes.uses()}
    if codes.is_graph_output() or readers - {DEQUANTIZES}:
        raise unknown(graph, node)


def dequantized(pair: Pair, codes: Array) -> Tensor:
    """The floats that codes stand for, as a tensor of its own."""
    shape = [1] * codes.ndim
    if pair.axis is not None:
        shape[pair.axis] = -1
    zero_point = pair.zero_point.astype(np.float64).reshape(shape)
    floats = (codes.astype(np.float64) - zero_point) * pair.scale.reshape(shape)
    return as_tensor(floats.astype(np.float32).reshape(codes.shape))


def multiplied(node: Node) -> tuple[str, ...]:
    """The names of what a layer multiplies whose bias a DequantizeLinear makes.

    The bias belongs to the layer that reads it, or to the one whose product it is
    added to.
    """
    for user, index in node.outputs[0].uses():
        layer: Node | None = user
        if user.op_type == "Add":
            other = user.inputs[1 - index]
            layer = None if other is None else other.producer()
        if layer is not None and len(layer.inputs) > 1:
            return tuple(str(one.name) for one in layer.inputs[:2] if one is not None)
    return ()


def unknown(graph: Graph, node: Node) -> ModelError:
    """The error of a node that torch is not told how to compute."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return ModelError(
        f"{graph.name}: the node {node.name!r} cannot be trained: its operator "
        f"{operator} is not known, or not with these attributes and inputs",
        hint="Train the module that it was exported from, or cut that node off.",
    )


def _kind(value: Value, codes: Array) -> Literal["weight", "bias", "constant"]:
    if codes.dtype == np.int32:
        return "bias"
    floats = np.zeros(codes.shape, np.float32)
    return "weight" if is_trained(value, floats) else "constant"


def _zero_point(graph: Graph, node: Node) -> Array | None:
    """The code of 0; None where it is no constant."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero_point = graph.constant(node.inputs[2])
        return None if zero_point is None else zero_point.astype(np.int64)
    scale = graph.constant(node.inputs[1])
    return None if scale is None else np.zeros(scale.shape, np.int64)

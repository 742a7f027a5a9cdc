"""Fold multiplications and additions by constants into what is computed before them."""

from __future__ import annotations

import numpy as np

from skerry.core.seams import Array
from skerry.graph import _onnx
from skerry.graph._onnx import Node, Value, make_initializer
from skerry.graph.edit import replace_all_uses
from skerry.graph.match import sole_use
from skerry.graph.model_graph import Graph


def fold_affine(graph: Graph) -> Graph:
    """Return a copy in which convolutions do the scaling and shifting behind them.

    A `Mul` or `Add` with a constant, one number or one a channel, that alone reads a
    convolution's result becomes part of its weights and bias: a·(W x + b) + c is
    (a·W) x + (a·b + c). Computed in float64. Networks with learnable affine blocks
    (PP-LCNetV3) and unfused normalization have them by the dozen.
    """
    folded = graph.copy()
    for conv in folded.nodes:
        if conv.op_type == "Conv" and conv.domain in _onnx.STANDARD_DOMAINS:
            while (operation := _affine_reader(folded, conv)) is not None:
                if not _fold(folded, conv, *operation):
                    break
    _onnx.remove_unused(folded.ir)
    return folded


def fold_products(graph: Graph) -> Graph:
    """Return a copy in which products and quotients by constants in a row are one.

    x / a · b becomes x · (b / a), where nothing else reads what is between; the
    constant is computed in float64. Exporters write activations such as hard-swish
    with a division of their own.
    """
    folded = graph.copy()
    for node in folded.nodes:
        first = _factor(folded, node)
        use = sole_use(node.outputs[0])
        if first is None or use is None:
            continue
        second, index = use
        constant = _factor(folded, second) if second.graph is node.graph else None
        if constant is None or constant[1] is not second.inputs[1 - index]:
            continue
        is_like_first = node.op_type == second.op_type
        with np.errstate(over="ignore"):
            made = (
                constant[0] * first[0] if is_like_first else constant[0] / first[0]
            ).astype(np.float32)
        if not np.isfinite(made).all():
            continue
        name = folded.unique_name(f"{second.outputs[0].name}.factor")
        merged = folded.add_initializer(make_initializer(made, name))
        varying = next(value for value in node.inputs if value is not first[1])
        second.replace_input_with(1 - index, merged)
        second.replace_input_with(index, varying)
    _onnx.remove_unused(folded.ir)
    return folded


def _factor(graph: Graph, node: Node) -> tuple[Array, Value] | None:
    """The constant, not zero, that a node multiplies with or divides by."""
    if node.op_type not in ("Mul", "Div") or node.domain not in _onnx.STANDARD_DOMAINS:
        return None
    for value in node.inputs[1:] if node.op_type == "Div" else reversed(node.inputs):
        constant = graph.constant(value)
        if value is None or constant is None or constant.dtype != np.float32:
            continue
        return (constant.astype(np.float64), value) if constant.all() else None
    return None


def _affine_reader(graph: Graph, conv: Node) -> tuple[Node, Array] | None:
    """The Mul or Add that alone reads a convolution, and its constant a channel."""
    use = sole_use(conv.outputs[0])
    if use is None:
        return None
    node, index = use
    if node.op_type not in ("Mul", "Add") or node.domain not in _onnx.STANDARD_DOMAINS:
        return None
    constant = graph.constant(node.inputs[1 - index])
    weight = graph.constant(conv.inputs[1])
    if constant is None or weight is None:
        return None
    per_channel = _per_channel(constant, channels=weight.shape[0], rank=weight.ndim)
    return None if per_channel is None else (node, per_channel)


def _per_channel(constant: Array, *, channels: int, rank: int) -> Array | None:
    """A constant as one number a channel, None where it differs within a channel."""
    if constant.size == 1 and constant.ndim <= rank:
        return np.full(channels, constant.reshape(-1)[0], np.float64)
    shape = (1,) * (rank - constant.ndim) + constant.shape
    if len(shape) != rank or shape != (1, channels, *(1,) * (rank - 2)):
        return None
    return constant.reshape(-1).astype(np.float64)


def _fold(graph: Graph, conv: Node, node: Node, constant: Array) -> bool:
    given_bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    weight, bias = graph.constant(conv.inputs[1]), graph.constant(given_bias)
    if weight is None or (given_bias is not None and bias is None):
        return False
    wide, shift = weight.astype(np.float64), np.zeros(len(weight))
    if bias is not None:
        shift = bias.astype(np.float64)
    if node.op_type == "Mul":
        wide = wide * constant.reshape(-1, *(1,) * (weight.ndim - 1))
        shift = shift * constant
    else:
        shift = shift + constant
    # What a narrower dtype cannot hold becomes infinite, and is left as it was.
    with np.errstate(over="ignore"):
        made = (wide.astype(weight.dtype), shift.astype(weight.dtype))
    if not all(np.isfinite(array).all() for array in made):
        return False
    conv.resize_inputs(3)
    for index, array in enumerate(made, start=1):
        conv.replace_input_with(index, _stored(graph, conv, array, index))
    replace_all_uses(graph, node.outputs[0], conv.outputs[0])
    graph.ir.graph.remove(node, safe=True)
    return True


def _stored(graph: Graph, conv: Node, array: Array, index: int) -> Value:
    part = "weight" if index == 1 else "bias"
    name = graph.unique_name(f"{conv.outputs[0].name}.{part}")
    return graph.add_initializer(make_initializer(array, name))

"""Change graphs.

Two kinds of function: small edits change the graph they are given (`insert_after`,
`replace_all_uses`), and whole rewrites return a changed copy. All of them keep what
the model computes, up to the rounding of floats, and the names of inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from skerry.core.seams import Array
from skerry.graph import _onnx
from skerry.graph._onnx import (
    Node,
    Use,
    Value,
    attribute,
    constant_array,
    make_initializer,
    make_node,
)
from skerry.graph.match import chain, find
from skerry.graph.model_graph import Graph
from skerry.graph.shapes import infer_shapes

_BATCH_NORM_EPSILON = 1e-5
"""What the ONNX standard takes where the attribute is missing."""


def replace_all_uses(graph: Graph, old: Value, new: Value) -> None:
    """Let all that reads one value read another, in place.

    Where the old value is an output of the graph, the new one becomes that output,
    under its name; an input that is also an output stays that output.

    Args:
        graph: The graph of both.
        old: The value that nothing will read any more.
        new: What is read in its stead; made before all that reads the old one.
    """
    _move_uses(graph, old, new, list(old.uses()))


def insert_after(graph: Graph, value: Value, nodes: Sequence[Node]) -> None:
    """Put a chain of new nodes between a value and all that reads it, in place.

    Where the value is an output of the graph, the chain's result becomes that output,
    under its name; an input that is also an output stays that output.

    Args:
        graph: The graph of the value.
        value: An input, an initializer, or what a node makes.
        nodes: The chain, in order: its first node reads the value, its last makes
            what is read in the value's stead. The nodes are in no graph yet.
    """
    uses = [use for use in value.uses() if use[0] not in nodes]
    place_after(graph, value, nodes)
    _move_uses(graph, value, nodes[-1].outputs[0], uses)


def place_after(graph: Graph, value: Value, nodes: Sequence[Node]) -> None:
    """Put nodes into the order right after what makes a value, in place.

    Nothing else changes: what reads the value still does.

    Args:
        graph: The graph of the value.
        value: An input, an initializer, or what a node makes.
        nodes: In order; they are in no graph yet.
    """
    producer, first = value.producer(), next(iter(graph.nodes), None)
    if producer is not None:
        graph.ir.graph.insert_after(producer, nodes)
    elif first is not None:
        graph.ir.graph.insert_before(first, nodes)
    else:
        graph.ir.graph.extend(nodes)


def set_constant(value: Value, array: Array) -> None:
    """Let an initializer hold another array, as its own dtype, in place.

    Copies of its graph keep the tensor that they share.
    """
    old = constant_array(value)
    stored = array if old is None else array.astype(old.dtype)
    made = make_initializer(stored, value.name or "")
    value.const_value, value.shape = made.const_value, made.shape


def set_attribute(node: Node, name: str, number: int) -> None:
    """Give a node an attribute that is a whole number, in place."""
    made = make_node(node.op_type, [], {name: number})
    node.attributes[name] = made.attributes[name]


def remove_dead(graph: Graph) -> Graph:
    """Return a copy without the nodes and initializers that no output depends on."""
    alive = graph.copy()
    _onnx.remove_unused(alive.ir)
    return alive


def fold_constants(graph: Graph, *, max_folded_bytes: int = 2**26) -> Graph:
    """Return a copy in which what depends on constants alone is one constant.

    Args:
        graph: The model's graph; left as it was.
        max_folded_bytes: No node with a larger result is folded.

    Raises:
        ModelError: The shapes in the graph do not fit together.
    """
    return infer_shapes(graph, max_folded_bytes=max_folded_bytes)


def constants_to_initializers(graph: Graph) -> Graph:
    """Return a copy in which Constant nodes are initializers of the same names.

    A Constant node that makes an output of the graph stays.
    """
    lifted = graph.copy()
    _onnx.lift_constants(lifted.ir)
    return lifted


def upgrade_opset(graph: Graph, minimum: int) -> Graph:
    """Return a copy in an opset of at least a minimum.

    Raises:
        ModelError: An operator cannot be converted.
    """
    if graph.opset >= minimum:
        return graph.copy()
    return Graph(_onnx.convert_opset(graph.ir, minimum, graph.name), name=graph.name)


def name_all_nodes(graph: Graph) -> Graph:
    """Return a copy in which each node has a name of its own.

    Names that are there and unique stay; the others are taken from the node's first
    output, so the same graph always gets the same names.
    """
    named = graph.copy()
    taken = {node.name for node in named.all_nodes if node.name}
    seen: set[str] = set()
    for node in named.all_nodes:
        if not node.name or node.name in seen:
            wish = next((v.name for v in node.outputs if v.name), node.op_type)
            name, number = wish, 1
            while name in taken:
                number += 1
                name = f"{wish}_{number}"
            taken.add(name)
            node.name = name
        seen.add(node.name)
    return named


def fold_batch_norm(graph: Graph) -> Graph:
    """Return a copy in which batch norms are part of the convolutions before them.

    With s = scale / √(variance + ε), the convolution's weights become s·W and its
    bias s·(b − mean) + shift (B. Jacob et al., "Quantization and Training of Neural
    Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2),
    computed in float64. A batch norm whose parameters are not constant, or whose
    convolution's result is read by others too, stays.
    """
    folded = graph.copy()
    for found in find(folded, chain("Conv", "BatchNormalization")):
        conv, norm = found.nodes
        conv.resize_inputs(3)
        weights = _folded_weights(folded, conv, norm)
        if weights is None:
            continue
        for index, array in enumerate(weights, start=1):
            old = conv.inputs[index]
            wish = f"{conv.outputs[0].name}.bias" if old is None else f"{old.name}"
            name = folded.unique_name(f"{wish}.folded")
            new = folded.add_initializer(make_initializer(array, name))
            conv.replace_input_with(index, new)
        replace_all_uses(folded, norm.outputs[0], conv.outputs[0])
    _onnx.remove_unused(folded.ir)
    return folded


def _folded_weights(graph: Graph, conv: Node, norm: Node) -> tuple[Array, Array] | None:
    """The weights and bias of a convolution that does its batch norm's work."""
    if attribute(norm, "training_mode", 0):
        return None
    if any(value.uses() for value in norm.outputs[1:]):
        return None
    weight = graph.constant(conv.inputs[1])
    if weight is None:
        return None
    operands = [graph.constant(value) for value in norm.inputs[1:]]
    if conv.inputs[2] is None:
        operands.append(np.zeros(weight.shape[:1]))
    else:
        operands.append(graph.constant(conv.inputs[2]))
    if any(array is None or array.shape != weight.shape[:1] for array in operands):
        return None
    epsilon = attribute(norm, "epsilon", _BATCH_NORM_EPSILON)
    with np.errstate(all="ignore"):
        scale, shift, mean, variance, bias = np.array(operands, dtype=np.float64)
        factor = scale / np.sqrt(variance + epsilon)
        folded_weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        folded = (
            folded_weight.astype(weight.dtype),
            ((bias - mean) * factor + shift).astype(weight.dtype),
        )
    return folded if all(np.isfinite(array).all() for array in folded) else None


def _move_uses(graph: Graph, old: Value, new: Value, uses: Iterable[Use]) -> None:
    if old.is_graph_output() and not old.is_graph_input():
        if new.producer() is None or new.is_graph_output():
            # It must keep the name it has: a copy of it becomes the output.
            copied = make_node("Identity", [new])
            place_after(graph, new, [copied])
            new = copied.outputs[0]
        new.type = new.type or old.type
        new.shape = new.shape or old.shape
        name, old.name = old.name, graph.unique_name(f"{old.name}.inner")
        new.name = name
        outputs = graph.ir.graph.outputs
        for index, output in enumerate(graph.output_values):
            if output is old:
                outputs[index] = new
    for node, index in uses:
        node.replace_input_with(index, new)

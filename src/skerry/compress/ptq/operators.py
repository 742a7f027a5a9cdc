"""Which ONNX operators an INT8 runtime computes in integers, and how.

The roles are those that onnxruntime's QDQ selectors and OpenVINO's low-precision
transformations share: operators with weights, arithmetic on activations, and operators
that only carry values and so keep the scale of their input.
Source: onnxruntime, `core/optimizer/qdq_transformer/selectors_actions`; ONNX operator
schemas, opset 17, for the position of weights and channels.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Node,
    Value,
    attribute,
    dims,
    dtype_name,
    is_tensor,
    sole_use,
)

Operators = Literal["weights", "all", "fused"]
"""How much of a graph is quantized: operators with weights, all that can be, or what
the runtime at hand computes faster in integers than in float."""


class Role(StrEnum):
    """What quantization does to an operator."""

    WEIGHTS = "weights"
    ARITHMETIC = "arithmetic"
    CARRY = "carry"
    FLOAT = "float"


_ROLES = {
    Role.WEIGHTS: ("Conv", "ConvTranspose", "Gemm", "MatMul"),
    Role.ARITHMETIC: (
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "GlobalAveragePool",
        "LeakyRelu",
        "Mul",
        "Relu",
        "Resize",
        "Sigmoid",
        "Softmax",
    ),
    Role.CARRY: (
        "Flatten",
        "MaxPool",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ),
}
_ROLE_OF = {op_type: role for role, names in _ROLES.items() for op_type in names}
_FUSED_ACTIVATIONS = frozenset({"Clip", "Relu"})
_TWO_OPERANDS = frozenset({"Add", "Mul", "Sub", *_ROLES[Role.WEIGHTS]})


def standard(node: Node) -> bool:
    """Whether a node's operator is one of the ONNX standard."""
    return node.domain in ("", "ai.onnx")


def role(node: Node) -> Role:
    """The role of a node; `FLOAT` for what no INT8 runtime is known to run."""
    if not standard(node) or _multiplies_a_vector(node):
        return Role.FLOAT
    return _ROLE_OF.get(node.op_type, Role.FLOAT)


def _multiplies_a_vector(node: Node) -> bool:
    """Whether what a product reads has one dimension.

    OpenVINO gives its integer product another shape than the standard says.
    """
    read = node.inputs[0] if node.op_type == "MatMul" else None
    return read is not None and len(dims(read) or "?!") == 1


def is_float(value: Value | None) -> bool:
    """Whether a value is known to be a float32 tensor that a pair may stand behind.

    Its rank must be known, for its samples to be looked at, and it must not be taken
    from a list of tensors, whose types OpenVINO does not know in time.
    """
    if value is None or dtype_name(value) != "float32" or dims(value) is None:
        return False
    producer = value.producer()
    read = () if producer is None else producer.inputs
    return all(is_tensor(one) for one in read if one is not None)


def operands(node: Node) -> tuple[Value | None, ...]:
    """The inputs that are computed with; scales of Resize, limits of Clip are none.

    The bias is none either: it is stored as int32, or it stays float.
    """
    if node.op_type == "Concat":
        return tuple(node.inputs)
    return tuple(node.inputs[: 2 if node.op_type in _TWO_OPERANDS else 1])


def activations(graph: Graph, node: Node) -> list[Value]:
    """The float operands of a node that change from sample to sample."""
    return [
        value
        for value in operands(node)
        if value is not None and is_float(value) and graph.constant(value) is None
    ]


def weight(graph: Graph, node: Node) -> Value | None:
    """The constant weights of a node, None where both operands are activations."""
    if role(node) is not Role.WEIGHTS or len(node.inputs) < 2:
        return None
    value = node.inputs[1]
    return value if value is not None and graph.constant(value) is not None else None


def left_constant(graph: Graph, node: Node) -> Value | None:
    """The constant that a product has on its left, where the right one varies."""
    if node.op_type not in ("Gemm", "MatMul") or role(node) is Role.FLOAT:
        return None
    value = node.inputs[0]
    is_only = value is not None and weight(graph, node) is None
    return value if is_only and graph.constant(value) is not None else None


def has_weights(graph: Graph, node: Node) -> bool:
    """Whether one operand of a layer is constant."""
    return weight(graph, node) is not None or left_constant(graph, node) is not None


def runs_wrong(graph: Graph, node: Node) -> bool:
    """Whether a layer must stay float for every runtime to compute it right.

    OpenVINO 2026.4 gives garbage for a product of two matrices to which nothing, or
    the same number everywhere, is added, where a pair follows: it is fused into the
    product. So that happens to none behind which there is another layer.
    """
    if node.op_type not in ("Gemm", "MatMul") or len(dims(node.outputs[0]) or ()) != 2:
        return False
    if weight(graph, node) is None:
        return False
    addends = list(node.inputs[2:])
    addends.extend(
        use.node.inputs[1 - use.idx]
        for use in node.outputs[0].uses()
        if use.node.op_type == "Add"
    )
    constants = [graph.constant(value) for value in addends]
    if any(found is not None and _varies(found) for found in constants):
        return False
    return _feeds_a_layer(node)


def _varies(array: Array) -> bool:
    return bool((array != array.reshape(-1)[:1]).any())


def _feeds_a_layer(node: Node) -> bool:
    """Whether a layer reads what a node makes, whatever is between."""
    seen: set[Node] = set()
    waiting = [node]
    while waiting:
        for use in (use for value in waiting.pop().outputs for use in value.uses()):
            if role(use.node) is Role.WEIGHTS:
                return True
            if use.node not in seen:
                seen.add(use.node)
                waiting.append(use.node)
    return False


def weight_axis(node: Node, rank: int) -> int | None:
    """The axis of output channels in a node's weights.

    Args:
        node: A node with weights.
        rank: Number of dimensions of the weights.

    Returns:
        The axis along which scales may differ, or None where the runtimes take one
        scale only (matrices stacked in a batch, grouped transposed convolutions).
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if rank == 2 else None


def quantizable(graph: Graph, operators: Literal["weights", "all"]) -> list[Node]:
    """The nodes that a choice of operators quantizes, in topological order.

    Operators that only carry values are not listed: they follow their input. What
    `fused` chooses depends on a runtime: see `integer_chains`.
    """
    wanted = (
        {Role.WEIGHTS} if operators == "weights" else {Role.WEIGHTS, Role.ARITHMETIC}
    )
    return [
        node
        for node in graph.nodes
        if role(node) in wanted
        and activations(graph, node)
        and is_float(node.outputs[0])
        and not runs_wrong(graph, node)
        and (operators == "all" or has_weights(graph, node))
    ]


def fused_activation(node: Node) -> Node | None:
    """The activation behind a node that a runtime fuses into it, or None.

    A `Relu` or `Clip` that is the only consumer of a node with weights disappears into
    the requantization, whose range it narrows (Jacob et al. 2018, section 2.4).
    """
    use = sole_use(node.outputs[0]) if role(node) is Role.WEIGHTS else None
    if use is None or use[1] != 0:
        return None
    reader = use[0]
    # A reader inside If or Loop belongs to another graph.
    is_fused = reader.op_type in _FUSED_ACTIVATIONS and reader.graph is node.graph
    return reader if is_fused else None

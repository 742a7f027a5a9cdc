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

from skerry.graph import Graph, Node, Value, attribute, dtype_name

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
    if not standard(node):
        return Role.FLOAT
    return _ROLE_OF.get(node.op_type, Role.FLOAT)


def is_float(value: Value | None) -> bool:
    """Whether a value is known to hold float32."""
    return value is not None and dtype_name(value) == "float32"


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
        and (operators == "all" or weight(graph, node) is not None)
    ]


def fused_activation(node: Node) -> Node | None:
    """The activation behind a node that a runtime fuses into it, or None.

    A `Relu` or `Clip` that is the only consumer of a node with weights disappears into
    the requantization, whose range it narrows (Jacob et al. 2018, section 2.4).
    """
    output = node.outputs[0]
    if role(node) is not Role.WEIGHTS or output.is_graph_output():
        return None
    uses = list(output.uses())
    if len(uses) != 1 or uses[0].idx != 0:
        return None
    reader = uses[0].node
    # A reader inside If or Loop belongs to another graph.
    is_fused = reader.op_type in _FUSED_ACTIVATIONS and reader.graph is node.graph
    return reader if is_fused else None

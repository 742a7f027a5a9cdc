"""Layers of torch for the nodes of a graph that have constant weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skerry.compress.train.operators.making import Operator, makes_one
from skerry.compress.train.operators.windows import crop, window_of
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, attribute, dims
from skerry.runtimes.torch import Tensor, nn, torch

# torch's types know of one size a tensor of each rank.
_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_MOMENTUM = 0.9
"""What the ONNX standard takes where the attribute is missing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """A tensor of a layer that an initializer of the graph holds.

    Attributes:
        index: The input of the node that the initializer is.
        tensor: What the layer calls it.
        is_turned: Whether the layer has its transpose.
    """

    index: int
    tensor: str
    is_turned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A layer that does a node's work, together with what it cannot do itself.

    Attributes:
        module: The layer, without weights as yet.
        held: Where its weights are.
        before: What is done to its input first.
        after: What is done to its output.
    """

    module: nn.Module
    held: tuple[Held, ...]
    before: Operator | None = None
    after: Operator | None = None


def layer_of(graph: Graph, node: Node) -> Layer | None:
    """The layer for a node; None where there is none, or a weight is no constant."""
    make = _MAKERS.get(node.op_type)
    if make is None or node.domain not in ("", "ai.onnx") or len(node.inputs) < 2:
        return None
    weights: list[Array] = []
    for value in node.inputs[1:]:
        array = None if value is None else _initializer(graph, value)
        if value is not None and array is None:
            return None
        if array is not None:
            weights.append(array)
    layer = make(node, weights)
    if layer is None or any(
        _is_torn(node.inputs[one.index], one) for one in layer.held
    ):
        return None
    return layer


def _initializer(graph: Graph, value: Value) -> Array | None:
    array = graph.constant(value) if value.producer() is None else None
    return array if array is not None and array.dtype.kind == "f" else None


def _is_torn(value: Value | None, held: Held) -> bool:
    """Whether others read a weight as it is, of which the layer has a transpose."""
    return held.is_turned and value is not None and len(list(value.uses())) > 1


def _weight_and_bias(
    weights: list[Array], *, is_turned: bool = False
) -> tuple[Held, ...]:
    weight = Held(index=1, tensor="weight", is_turned=is_turned)
    return (weight, Held(index=2, tensor="bias"))[: len(weights)]


def _convolution(node: Node, weights: list[Array]) -> Layer | None:
    shape = weights[0].shape
    kind = _CONVOLUTIONS.get(len(shape) - 2)
    if kind is None:
        return None
    window, groups = window_of(node, shape[2:]), attribute(node, "group", 1)
    padding = window.padding
    module = kind(
        shape[1] * groups,
        shape[0],
        shape[2:],
        window.strides,
        (0,) * len(window.kernel) if padding is None else padding,
        window.dilations,
        groups,
        len(weights) > 1,
        device="meta",
    )
    return Layer(
        module=module,
        held=_weight_and_bias(weights),
        before=window.pad if padding is None else None,
    )


def _transposed(node: Node, weights: list[Array]) -> Layer | None:
    shape = weights[0].shape
    kind = _TRANSPOSED.get(len(shape) - 2)
    window, groups = window_of(node, shape[2:]), attribute(node, "group", 1)
    ends = window.ends
    if kind is None or ends is None or attribute(node, "output_shape", None):
        return None
    padding = window.padding
    module = kind(
        shape[0],
        shape[1] * groups,
        shape[2:],
        window.strides,
        (0,) * len(window.kernel) if padding is None else padding,
        tuple(attribute(node, "output_padding", (0,) * len(window.kernel))),
        groups,
        len(weights) > 1,
        window.dilations,
        device="meta",
    )
    after = None if padding is not None else lambda x: crop(x, ends)
    return Layer(module=module, held=_weight_and_bias(weights), after=after)


def _product(node: Node, weights: list[Array]) -> Layer | None:
    is_gemm = node.op_type == "Gemm"
    is_plain = not is_gemm or (
        attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
        and not attribute(node, "transA", 0)
    )
    if weights[0].ndim != 2 or not is_plain:
        return None
    is_turned = not attribute(node, "transB", 0)
    out, read = weights[0].shape[::-1] if is_turned else weights[0].shape
    if len(weights) > 1 and weights[1].shape != (out,):
        return None
    return Layer(
        module=nn.Linear(read, out, bias=len(weights) > 1, device="meta"),
        held=_weight_and_bias(weights, is_turned=is_turned),
    )


def _batch_norm(node: Node, weights: list[Array]) -> Layer | None:
    source = node.inputs[0]
    kind = None if source is None else _NORMS.get(len(dims(source) or ()))
    is_training = attribute(node, "training_mode", 0) or not makes_one(node)
    if kind is None or is_training or len(weights) != 4:
        return None
    module = kind(
        weights[0].shape[0],
        eps=attribute(node, "epsilon", 1e-5),
        momentum=1 - attribute(node, "momentum", _MOMENTUM),
    )
    names = ("weight", "bias", "running_mean", "running_var")
    held = tuple(Held(index=i, tensor=name) for i, name in enumerate(names, start=1))
    return Layer(module=module, held=held)


_MAKERS = {
    "BatchNormalization": _batch_norm,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _product,
    "MatMul": _product,
}

_TRAINED = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
}
"""Which inputs of an operator are weights where they are constant."""


def is_trained(value: Value, array: Array) -> bool:
    """Whether a constant is a weight rather than a number of a formula.

    Weights are what layers have, and a vector that is added to a matrix product.
    """
    if array.dtype.kind != "f":
        return False
    return any(
        index in _TRAINED.get(node.op_type, ())
        or (node.op_type == "Add" and array.ndim == 1 and _adds_to_product(node, index))
        or (node.op_type == "Gather" and index == 0 and array.ndim == 2)
        for node, index in value.uses()
    )


def _adds_to_product(node: Node, index: int) -> bool:
    other = node.inputs[1 - index]
    producer = None if other is None else other.producer()
    return producer is not None and producer.op_type == "MatMul"


def as_tensor(array: Array) -> Tensor:
    """A tensor of its own with what an array holds."""
    if array.dtype.name not in _NATIVE:
        # numpy's codes of 4 bits, one a byte, and what else torch does not know.
        array = array.astype(np.int8 if array.dtype.kind == "V" else np.float32)
    return torch.from_numpy(np.array(array))


_NATIVE = frozenset(
    {
        "bool",
        "float16",
        "float32",
        "float64",
        "int16",
        "int32",
        "int64",
        "int8",
        "uint8",
    }
)

"""Random quantized nets for the audit: operators that NPUs take, and some they do not.

A net follows from its seed alone. Each layer is drawn with attributes on both sides of
what compilers take: strides up to 5, kernels up to 9, paddings that are not TFLite's,
activations without an integer kernel, permutations, scales of 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skerry.core.seams import Array
from skerry.graph import Graph, Value, make_graph, make_initializer, make_node
from skerry.graph import make_value as new_value

OPSET = 20
LAYERS = 14
LONGEST_AFTER_PAD = 3
"""Vela 5.2.0 crashes on longer strides behind a Pad, and says nothing of placement."""

LARGEST = 64
"""Most of a side of a picture."""

Shape = tuple[int, ...]


class _Builder:
    """A QDQ graph, layer by layer; all codes are int8."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[Any] = []
        self.constants: list[Value] = []
        self.inputs: list[Value] = []

    def constant(self, array: Array, name: str) -> Value:
        value = make_initializer(array, f"{name}_{len(self.constants)}")
        self.constants.append(value)
        return value

    def pair(self, scale: float, zero: int, dtype: str = "int8") -> tuple[Value, Value]:
        return (
            self.constant(np.array(scale, np.float32), "scale"),
            self.constant(np.array(zero, dtype), "zero"),
        )

    def node(
        self,
        op_type: str,
        read: Sequence[Value | None],
        shape: Shape,
        attributes: Mapping[str, Any] | None = None,
        dtype: str = "float32",
    ) -> Value:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        made = new_value(name, dtype, shape)
        made_by = make_node(op_type, read, attributes or {}, outputs=[made], name=name)
        self.nodes.append(made_by)
        return made

    def input(self, shape: Shape) -> Value:
        value = new_value(f"x{len(self.inputs)}", "int8", shape)
        self.inputs.append(value)
        return self.node("DequantizeLinear", [value, *self.pair(0.05, 3)], shape)

    def codes(self, value: Value, shape: Shape, how: tuple[float, int]) -> Value:
        return self.node(
            "QuantizeLinear", [value, *self.pair(*how)], shape, dtype="int8"
        )

    def kept(self, value: Value, shape: Shape, how: tuple[float, int]) -> Value:
        """A value through codes and back."""
        stored = self.codes(value, shape, how)
        return self.node("DequantizeLinear", [stored, *self.pair(*how)], shape)

    def weight(self, shape: Shape) -> Value:
        array = self.rng.integers(-90, 91, shape).astype(np.int8)
        stored = self.constant(array, "w")
        return self.node("DequantizeLinear", [stored, *self.pair(0.01, 0)], shape)

    def drawn(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]


LIKE_ITS_INPUT = (0.05, 3)
SOFT = {"Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0), "Softmax": (1 / 256, -128)}


def random_net(seed: int) -> Graph:
    """Draw a net.

    Args:
        seed: The same seed gives the same net.
    """
    builder = _Builder(np.random.default_rng(seed))
    side = int(builder.drawn(16, 24, 32, 41))
    shape: Shape = (1, int(builder.drawn(1, 3, 4, 8)), side, side)
    value = builder.input(shape)
    held: list[tuple[Value, Shape]] = []
    for _ in range(LAYERS):
        layer = builder.drawn(*KINDS)
        value, shape = layer(builder, value, shape, held)
        held.append((value, shape))
    value, shape = _head(builder, value, shape)
    how = SOFT["Softmax"]
    result = builder.codes(value, shape, how)
    return make_graph(
        builder.nodes,
        inputs=builder.inputs,
        outputs=[result],
        initializers=builder.constants,
        opset=OPSET,
        name=f"random-{seed}",
    )


Held = list[tuple[Value, Shape]]
Layer = Callable[[_Builder, Value, Shape, Held], tuple[Value, Shape]]


def _window(
    builder: _Builder,
    shape: Shape,
    kernel: int,
    stride: int,
    dilation: int = 1,
) -> tuple[Shape, tuple[int, int, int, int]]:
    """The sizes that a square window leaves, and its paddings: three ways to pad."""
    span, size = (kernel - 1) * dilation + 1, shape[2]
    way = builder.drawn("none", "same", "same", "other")
    if span > size or (way == "other" and stride > LONGEST_AFTER_PAD):
        way = "same"
    before = after = 0
    if way == "same":
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        before, after = total // 2, total - total // 2
    elif way == "other":
        before, after = 1, 0
    made = (size + before + after - span) // stride + 1
    return (made, made), (before, before, after, after)


def _conv(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    channels, filters = shape[1], int(builder.drawn(4, 8, 12, 16))
    kernel = int(builder.drawn(1, 1, 3, 3, 5, 7))
    stride = int(builder.drawn(1, 1, 1, 2, 2, 3, 4, 5))
    dilation = int(builder.drawn(1, 1, 1, 2)) if kernel > 1 else 1
    is_depthwise = bool(builder.drawn(0, 1)) and channels > 1
    groups, filters = (channels, channels) if is_depthwise else (1, filters)
    if shape[2] < kernel:
        stride = 1
    if any(node.op_type == "Pad" for node in builder.nodes[-3:]):
        stride = min(stride, LONGEST_AFTER_PAD)
    sizes, pads = _window(builder, shape, kernel, stride, dilation)
    made = (1, filters, *sizes)
    weights = builder.weight((filters, channels // groups, kernel, kernel))
    value = builder.node(
        "Conv",
        [value, weights],
        made,
        {
            "kernel_shape": (kernel, kernel),
            "strides": (stride, stride),
            "dilations": (dilation, dilation),
            "pads": pads,
            "group": groups,
        },
    )
    if builder.drawn(0, 1):
        value = builder.node("Relu", [value], made)
    return builder.kept(value, made, LIKE_ITS_INPUT), made


def _pool(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    op_type = builder.drawn("MaxPool", "AveragePool")
    kernel = min(int(builder.drawn(2, 3, 5, 9)), shape[2])
    stride = int(builder.drawn(1, 2, 3, 4))
    sizes, pads = _window(builder, shape, kernel, stride)
    if op_type == "AveragePool" and pads[0] > pads[2]:
        return value, shape  # TFLite has no such pool
    made = (*shape[:2], *sizes)
    attributes = {
        "kernel_shape": (kernel, kernel),
        "strides": (stride, stride),
        "pads": pads,
    }
    value = builder.node(op_type, [value], made, attributes)
    return builder.kept(value, made, LIKE_ITS_INPUT), made


_ACTIVATIONS = (
    *("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Elu"),
    *("Exp", "Sin", "Abs", "Sqrt", "Neg", "Floor"),
)


def _activation(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    op_type = builder.drawn(*_ACTIVATIONS)
    attributes = {"alpha": 0.1} if op_type == "LeakyRelu" else {}
    value = builder.node(op_type, [value], shape, attributes)
    return builder.kept(value, shape, SOFT.get(op_type, LIKE_ITS_INPUT)), shape


def _with_constant(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    op_type = builder.drawn("Add", "Mul", "Sub", "Div")
    value = builder.node(op_type, [value, builder.weight((1, shape[1], 1, 1))], shape)
    return builder.kept(value, shape, LIKE_ITS_INPUT), shape


def _residual(
    builder: _Builder, value: Value, shape: Shape, held: Held
) -> tuple[Value, Shape]:
    alike = [other for other, size in held if size == shape]
    if not alike:
        return _with_constant(builder, value, shape, held)
    op_type = builder.drawn("Add", "Mul", "Sub", "Max", "Min")
    value = builder.node(op_type, [value, builder.drawn(*alike)], shape)
    return builder.kept(value, shape, LIKE_ITS_INPUT), shape


def _joined(
    builder: _Builder, value: Value, shape: Shape, held: Held
) -> tuple[Value, Shape]:
    alike = [
        (other, size)
        for other, size in held
        if size[2:] == shape[2:] and len(size) == len(shape)
    ]
    if not alike or shape[1] > 24:
        return value, shape
    other, size = builder.drawn(*alike)
    made = (1, shape[1] + size[1], *shape[2:])
    value = builder.node("Concat", [value, other], made, {"axis": 1})
    return builder.kept(value, made, LIKE_ITS_INPUT), made


def _resize(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    scale = int(builder.drawn(2, 2, 3, 4))
    if shape[2] * scale > LARGEST:
        return value, shape
    mode = builder.drawn("nearest", "linear")
    made = (*shape[:2], shape[2] * scale, shape[3] * scale)
    sizes = builder.constant(np.array(made, np.int64), "sizes")
    attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    value = builder.node("Resize", [value, None, None, sizes], made, attributes)
    return builder.kept(value, made, LIKE_ITS_INPUT), made


def _blocks(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    if shape[2] % 2:
        return value, shape
    made = (1, shape[1] * 4, shape[2] // 2, shape[3] // 2)
    value = builder.node("SpaceToDepth", [value], made, {"blocksize": 2})
    return builder.kept(value, made, LIKE_ITS_INPUT), made


def _turned(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    value = builder.node("Transpose", [value], shape, {"perm": (0, 1, 3, 2)})
    return builder.kept(value, shape, LIKE_ITS_INPUT), shape


def _padded(
    builder: _Builder, value: Value, shape: Shape, _: Held
) -> tuple[Value, Shape]:
    made = (*shape[:2], shape[2] + 1, shape[3] + 1)
    pads = builder.constant(np.array([0, 0, 1, 1, 0, 0, 0, 0], np.int64), "pads")
    value = builder.node("Pad", [value, pads], made)
    return builder.kept(value, made, LIKE_ITS_INPUT), made


KINDS: tuple[Layer, ...] = (
    *(_conv,) * 5,
    *(_activation,) * 3,
    *(_residual,) * 2,
    *(_pool, _with_constant, _joined, _resize, _blocks, _turned, _padded),
)
"""What a layer is drawn from, each as often as it stands here."""


def _head(builder: _Builder, value: Value, shape: Shape) -> tuple[Value, Shape]:
    """The mean over the picture, a product, Softmax."""
    channels = shape[1]
    if builder.drawn(0, 1):
        value = builder.node("GlobalAveragePool", [value], (1, channels, 1, 1))
    else:
        axes = builder.constant(np.array([2, 3], np.int64), "axes")
        made = (1, channels, 1, 1)
        value = builder.node("ReduceMean", [value, axes], made, {"keepdims": 1})
    value = builder.kept(value, (1, channels, 1, 1), LIKE_ITS_INPUT)
    value = builder.node("Flatten", [value], (1, channels), {"axis": 1})
    value = builder.kept(value, (1, channels), LIKE_ITS_INPUT)
    weights = builder.weight((10, channels))
    value = builder.node("Gemm", [value, weights], (1, 10), {"transB": 1})
    value = builder.kept(value, (1, 10), LIKE_ITS_INPUT)
    return builder.node("Softmax", [value], (1, 10), {"axis": -1}), (1, 10)

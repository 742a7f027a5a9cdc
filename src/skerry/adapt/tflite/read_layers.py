"""Operators with weights, pools and resizing: from TFLite to ONNX."""

from __future__ import annotations

import numpy as np

from skerry.adapt.tflite.net import SAME, Operator
from skerry.adapt.tflite.reading import Reading, given, option
from skerry.core.errors import ModelError
from skerry.graph import Value

_HEIGHT, _WIDTH, _CHANNELS = 1, 2, 3


def read_conv(reading: Reading, operator: Operator) -> None:
    """CONV_2D: weights out, height, width, in; groups where in is a part of it."""
    x, w = operator.inputs[:2]
    channels = reading.size(x, _CHANNELS)
    groups, rest = divmod(channels, reading.size(w, _CHANNELS))
    if rest:
        raise ValueError(channels)
    _convolve(reading, operator, groups, (0, 3, 1, 2))


def read_depthwise(reading: Reading, operator: Operator) -> None:
    """DEPTHWISE_CONV_2D: weights 1, height, width, channels times multiplier."""
    groups = reading.size(operator.inputs[0], _CHANNELS)
    _convolve(reading, operator, groups, (3, 0, 1, 2))


def _convolve(
    reading: Reading, operator: Operator, groups: int, order: tuple[int, ...]
) -> None:
    x, w = operator.inputs[:2]
    kernel = [reading.size(w, _HEIGHT), reading.size(w, _WIDTH)]
    strides = _strides(operator)
    dilations = [
        option(operator, "dilation_h_factor", 1),
        option(operator, "dilation_w_factor", 1),
    ]
    weights = reading.read_permuted(w, order)
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": _pads(reading, operator, kernel, dilations),
        "group": groups,
    }
    inputs = [reading.read(x, "first"), weights, *_bias(reading, operator, 2)]
    made = reading.add("Conv", inputs, attributes)
    reading.write(operator.outputs[0], reading.activated(made, operator), "first")


def read_transposed(reading: Reading, operator: Operator) -> None:
    """TRANSPOSE_CONV: the output's shape, weights out, height, width, in; then x."""
    _, w, x = operator.inputs[:3]
    y = operator.outputs[0]
    strides = _strides(operator)
    kernel = [reading.size(w, axis) for axis in (_HEIGHT, _WIDTH)]
    begins, ends, extra = [], [], []
    for place, axis in enumerate((_HEIGHT, _WIDTH)):
        whole = (reading.size(x, axis) - 1) * strides[place] + kernel[place]
        total = whole - reading.size(y, axis)
        begins.append(max(total, 0) // 2)
        ends.append(max(total, 0) - max(total, 0) // 2)
        extra.append(max(-total, 0))
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": [*begins, *ends],
        "output_padding": extra,
    }
    weights = reading.read_permuted(w, (3, 0, 1, 2))
    inputs = [reading.read(x, "first"), weights, *_bias(reading, operator, 3)]
    made = reading.add("ConvTranspose", inputs, attributes)
    reading.write(y, reading.activated(made, operator), "first")


def read_dense(reading: Reading, operator: Operator) -> None:
    """FULLY_CONNECTED: weights out, in; what it reads is flattened to rows of in."""
    x, w = operator.inputs[:2]
    y = operator.outputs[0]
    if option(operator, "weights_format", 0):
        raise ModelError(
            f"{reading.name} shuffles the weights of {reading.tensor(y).name!r}, which "
            "are then not read",
            hint="Convert the model again without that option.",
        )
    wide = reading.tensor(w).shape[1]
    value = reading.read_flat(x)
    if len(reading.tensor(x).shape) != 2:
        value = reading.add("Reshape", [value, reading.integers([-1, wide])])
    inputs = [value, _dense_weights(reading, w), *_bias(reading, operator, 2)]
    made = reading.add("Gemm", inputs, {"transB": 1})
    made = reading.activated(made, operator)
    shape = reading.tensor(y).shape
    if len(shape) != 2:
        made = reading.add("Reshape", [made, reading.integers(shape)])
    reading.write(y, made)


def _dense_weights(reading: Reading, w: int) -> Value:
    return (
        reading.read_permuted(w, (0, 1)) if reading.is_constant(w) else reading.read(w)
    )


def read_product(reading: Reading, operator: Operator) -> None:
    """BATCH_MATMUL: the last two dimensions, each as it is or transposed."""
    sides = []
    for index, name in zip(operator.inputs[:2], ("adj_x", "adj_y"), strict=True):
        value = reading.read(index)
        rank = len(reading.tensor(index).shape)
        if operator.options.get(name):
            order = [*range(rank - 2), rank - 1, rank - 2]
            value = reading.add("Transpose", [value], {"perm": order})
        sides.append(value)
    reading.write(operator.outputs[0], reading.add("MatMul", sides))


def read_average_pool(reading: Reading, operator: Operator) -> None:
    """AVERAGE_POOL_2D: what is padded does not count."""
    _pool(reading, operator, "AveragePool", {"count_include_pad": 0})


def read_max_pool(reading: Reading, operator: Operator) -> None:
    """MAX_POOL_2D."""
    _pool(reading, operator, "MaxPool", {})


def _pool(
    reading: Reading, operator: Operator, op_type: str, attributes: dict[str, int]
) -> None:
    kernel = [option(operator, "filter_height", 1), option(operator, "filter_width", 1)]
    if min(kernel) < 1:
        raise ValueError(kernel)
    shaped = {
        "kernel_shape": kernel,
        "strides": _strides(operator),
        "pads": _pads(reading, operator, kernel, [1, 1]),
    }
    read = reading.read(operator.inputs[0], "first")
    made = reading.add(op_type, [read], {**shaped, **attributes})
    reading.write(operator.outputs[0], reading.activated(made, operator), "first")


def read_resize_bilinear(reading: Reading, operator: Operator) -> None:
    """RESIZE_BILINEAR."""
    _resize(reading, operator, {"mode": "linear"})


def read_resize_nearest(reading: Reading, operator: Operator) -> None:
    """RESIZE_NEAREST_NEIGHBOR: halves go up, but for the plain mode, which cuts."""
    is_plain = not (
        operator.options.get("half_pixel_centers")
        or operator.options.get("align_corners")
    )
    rounding = "floor" if is_plain else "round_prefer_ceil"
    _resize(reading, operator, {"mode": "nearest", "nearest_mode": rounding})


def _resize(reading: Reading, operator: Operator, attributes: dict[str, str]) -> None:
    x, y = operator.inputs[0], operator.outputs[0]
    places = "asymmetric"
    if operator.options.get("align_corners"):
        places = "align_corners"
    elif operator.options.get("half_pixel_centers"):
        places = "half_pixel"
    batch, height, width, channels = reading.tensor(y).shape
    sizes = reading.integers([batch, channels, height, width])
    inputs = [reading.read(x, "first"), None, None, sizes]
    attributes = {"coordinate_transformation_mode": places, **attributes}
    reading.write(y, reading.add("Resize", inputs, attributes), "first")


def read_depth_to_space(reading: Reading, operator: Operator) -> None:
    """DEPTH_TO_SPACE: with channels last it is what ONNX calls DCR."""
    _blocks(reading, operator, "DepthToSpace")


def read_space_to_depth(reading: Reading, operator: Operator) -> None:
    """SPACE_TO_DEPTH."""
    _blocks(reading, operator, "SpaceToDepth")


def _blocks(reading: Reading, operator: Operator, op_type: str) -> None:
    size = option(operator, "block_size", 1)
    read = reading.read(operator.inputs[0], "first")
    made = reading.add(op_type, [read], {"blocksize": size})
    reading.write(operator.outputs[0], made, "first")


def _strides(operator: Operator) -> list[int]:
    strides = [option(operator, "stride_h", 1), option(operator, "stride_w", 1)]
    if min(strides) < 1:
        raise ValueError(strides)
    return strides


def _pads(
    reading: Reading, operator: Operator, kernel: list[int], dilations: list[int]
) -> list[int]:
    """Top, left, bottom, right; what is odd about `SAME` goes to the end."""
    if option(operator, "padding", SAME) != SAME:
        return [0, 0, 0, 0]
    begins, ends = [], []
    for place, axis in enumerate((_HEIGHT, _WIDTH)):
        stride = _strides(operator)[place]
        size = reading.size(operator.inputs[0], axis)
        reach = (kernel[place] - 1) * dilations[place] + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return [*begins, *ends]


def _bias(reading: Reading, operator: Operator, place: int) -> list[Value]:
    index = given(operator, place)
    if index is None:
        return []
    tensor = reading.tensor(index)
    if tensor.dtype == "int32" and tensor.quantization is None:
        raise ModelError(
            f"{reading.name} keeps the bias {tensor.name!r} without a scale",
            hint="Convert the model again with a newer converter.",
        )
    if not reading.is_constant(index):
        return [reading.read(index)]
    if len(tensor.shape) != 1:
        # Some converters write 1×n.
        array = tensor.content
        if array is None or array.size != tensor.shape[-1] or array.dtype != np.float32:
            raise ValueError(tensor.shape)
        return [reading.constant(array.ravel(), tensor.name)]
    return [reading.read_permuted(index, (0,))]

"""Operators that move numbers and compute none: from TFLite to ONNX."""

from __future__ import annotations

import numpy as np

from skerry.adapt.tflite.net import Operator
from skerry.adapt.tflite.reading import (
    PICTURE_RANK,
    TO_FIRST,
    TO_LAST,
    Layout,
    Reading,
    given,
    option,
)
from skerry.core.errors import ModelError
from skerry.graph import Value, dtype_code

_BIT_LIMIT = 32


def read_reshape(reading: Reading, operator: Operator) -> None:
    """RESHAPE: to a shape that is given, or else is that of the output's tensor."""
    x, y = operator.inputs[0], operator.outputs[0]
    given_shape = given(operator, 1)
    if given_shape is None:
        shape = reading.integers(reading.tensor(y).shape)
    elif reading.is_constant(given_shape):
        shape = reading.integers(reading.numbers(given_shape))
    else:
        varying = reading.stored(given_shape)
        shape = reading.add("Cast", [varying], {"to": dtype_code("int64")})
    reading.write(y, reading.add("Reshape", [reading.read_flat(x), shape]))


def read_reshaped(reading: Reading, operator: Operator) -> None:
    """SQUEEZE and EXPAND_DIMS: the output's tensor has the shape."""
    x, y = operator.inputs[0], operator.outputs[0]
    shape = reading.integers(reading.tensor(y).shape)
    reading.write(y, reading.add("Reshape", [reading.read_flat(x), shape]))


def read_transpose(reading: Reading, operator: Operator) -> None:
    """TRANSPOSE: none where the tensor is kept in the other layout already."""
    x, y = operator.inputs[0], operator.outputs[0]
    order = reading.numbers(operator.inputs[1])
    if tuple(order) == TO_FIRST and not reading.is_constant(x):
        reading.keep(y, reading.stored(x, "first"))
        return
    if tuple(order) == TO_LAST and not reading.is_constant(x):
        reading.keep(y, reading.stored(x), "first")
        return
    reading.write(y, reading.add("Transpose", [reading.read(x)], {"perm": order}))


def read_concat(reading: Reading, operator: Operator) -> None:
    """CONCATENATION."""
    y = operator.outputs[0]
    layout = reading.layout(*operator.inputs)
    axis = _axis(reading, y, option(operator, "axis", 0), layout)
    values = [reading.read(index, layout) for index in operator.inputs]
    made = reading.add("Concat", values, {"axis": axis})
    reading.write(y, reading.activated(made, operator), layout)


def read_pad(reading: Reading, operator: Operator) -> None:
    """PAD, and PADV2, which says with what."""
    x = operator.inputs[0]
    layout = reading.layout(x)
    inputs = [
        reading.read(x, layout),
        reading.integers(_paddings(reading, operator, layout)),
    ]
    filling = given(operator, 2)
    if filling is not None:
        inputs.append(reading.number(_single(reading, filling)))
    reading.write(operator.outputs[0], reading.add("Pad", inputs), layout)


def _single(reading: Reading, index: int) -> float:
    """What a constant of one number stands for."""
    (number,) = reading.content(index).ravel()
    quantization = reading.tensor(index).quantization
    if quantization is None or reading.tensor(index).dtype == "float32":
        return float(number)
    return float((int(number) - quantization.zero_point[0]) * quantization.scale[0])


def read_mirror_pad(reading: Reading, operator: Operator) -> None:
    """MIRROR_PAD: with or without the edge itself."""
    x, y = operator.inputs[0], operator.outputs[0]
    if option(operator, "mode", 0):
        raise ModelError(
            f"{reading.name} pads {reading.tensor(y).name!r} symmetrically, which ONNX "
            "has no operator for",
            hint="Pad by reflection instead.",
        )
    layout = reading.layout(x)
    pads = reading.integers(_paddings(reading, operator, layout))
    made = reading.add("Pad", [reading.read(x, layout), pads], {"mode": "reflect"})
    reading.write(y, made, layout)


def _paddings(reading: Reading, operator: Operator, layout: Layout) -> list[int]:
    """What is added before each dimension, then what is added after."""
    rank = len(reading.tensor(operator.inputs[0]).shape)
    pairs = np.array(reading.numbers(operator.inputs[1])).reshape(rank, 2)
    if layout == "first" and rank == PICTURE_RANK:
        pairs = pairs[list(TO_FIRST)]
    return [int(number) for number in pairs.T.ravel()]


def read_slice(reading: Reading, operator: Operator) -> None:
    """SLICE: from where, and how many; −1 for all that follow."""
    x = operator.inputs[0]
    begins = reading.numbers(operator.inputs[1])
    sizes = reading.numbers(operator.inputs[2])
    shape = reading.tensor(x).shape
    ends = [
        size if count < 0 else begin + count
        for begin, count, size in zip(begins, sizes, shape, strict=True)
    ]
    axes = list(range(len(shape)))
    inputs = [reading.read(x), *map(reading.integers, (begins, ends, axes))]
    reading.write(operator.outputs[0], reading.add("Slice", inputs))


def read_strided_slice(reading: Reading, operator: Operator) -> None:
    """STRIDED_SLICE: bits say which ends are open and which dimensions go."""
    x, y = operator.inputs[0], operator.outputs[0]
    if option(operator, "ellipsis_mask", 0) or option(operator, "new_axis_mask", 0):
        raise ModelError(
            f"{reading.name} slices {reading.tensor(y).name!r} with an ellipsis or a "
            "new axis, which is not read",
            hint="Write out all dimensions, and reshape afterwards.",
        )
    begins, ends, steps = (reading.numbers(index) for index in operator.inputs[1:4])
    shrunk = _bits(option(operator, "shrink_axis_mask", 0))
    for axis in range(len(begins)):
        is_back = steps[axis] < 0
        if axis in shrunk:
            ends[axis], steps[axis] = begins[axis] + 1, 1
            if begins[axis] == -1:
                ends[axis] = np.iinfo(np.int32).max
            continue
        if axis in _bits(option(operator, "begin_mask", 0)):
            begins[axis] = np.iinfo(np.int32).max if is_back else 0
        if axis in _bits(option(operator, "end_mask", 0)):
            ends[axis] = np.iinfo(np.int32).min if is_back else np.iinfo(np.int32).max
    axes = list(range(len(begins)))
    lists = map(reading.integers, (begins, ends, axes, steps))
    made = reading.add("Slice", [reading.read(x), *lists])
    if shrunk:
        shape = reading.integers(reading.tensor(y).shape)
        made = reading.add("Reshape", [made, shape])
    reading.write(y, made)


def _bits(mask: int) -> set[int]:
    return {bit for bit in range(_BIT_LIMIT) if mask >> bit & 1}


def read_split(reading: Reading, operator: Operator) -> None:
    """SPLIT: the axis, then what is split; SPLIT_V: what, the sizes, the axis."""
    is_sized = operator.code == "SPLIT_V"
    x, at = operator.inputs[0 if is_sized else 1], operator.inputs[2 if is_sized else 0]
    layout = reading.layout(x)
    rank = len(reading.tensor(x).shape)
    plain = reading.numbers(at)[0] % rank
    axis = _axis(reading, x, plain, layout)
    sizes = [reading.tensor(y).shape[plain] for y in operator.outputs]
    inputs = [reading.read(x, layout), reading.integers(sizes)]
    made = reading.add_many("Split", inputs, len(sizes), axis)
    for y, value in zip(operator.outputs, made, strict=True):
        reading.write(y, value, layout)


def read_pack(reading: Reading, operator: Operator) -> None:
    """PACK: stack tensors along a new dimension."""
    y = operator.outputs[0]
    shape = reading.tensor(y).shape
    axis = option(operator, "axis", 0) % len(shape)
    apart = [1 if place == axis else size for place, size in enumerate(shape)]
    values = [
        reading.add("Reshape", [reading.read(index), reading.integers(apart)])
        for index in operator.inputs
    ]
    reading.write(y, reading.add("Concat", values, {"axis": axis}))


def read_unpack(reading: Reading, operator: Operator) -> None:
    """UNPACK: take apart what PACK puts together."""
    x = operator.inputs[0]
    axis = option(operator, "axis", 0) % len(reading.tensor(x).shape)
    sizes = reading.integers([1] * len(operator.outputs))
    count = len(operator.outputs)
    parts: list[Value] = [reading.read(x)]
    if count > 1:
        parts = reading.add_many("Split", [parts[0], sizes], count, axis)
    for y, value in zip(operator.outputs, parts, strict=True):
        shape = reading.integers(reading.tensor(y).shape)
        reading.write(y, reading.add("Reshape", [value, shape]))


def read_gather(reading: Reading, operator: Operator) -> None:
    """GATHER."""
    x, places = operator.inputs[:2]
    if option(operator, "batch_dims", 0):
        raise ModelError(
            f"{reading.name} gathers {reading.tensor(x).name!r} by batches, which is "
            "not read",
            hint="Gather from the whole tensor.",
        )
    axis = option(operator, "axis", 0)
    inputs = [reading.read(x), reading.stored(places)]
    reading.write(operator.outputs[0], reading.add("Gather", inputs, {"axis": axis}))


def read_shape(reading: Reading, operator: Operator) -> None:
    """SHAPE: shapes are fixed when a file is read, so this is a constant."""
    y = operator.outputs[0]
    shape = reading.tensor(operator.inputs[0]).shape
    array = np.array(shape, reading.tensor(y).dtype)
    reading.keep(y, reading.constant(array, reading.tensor(y).name))


def read_space_to_batch(reading: Reading, operator: Operator) -> None:
    """SPACE_TO_BATCH_ND of pictures: pad, cut into blocks, one batch a place."""
    x, y = operator.inputs[0], operator.outputs[0]
    blocks, rows = reading.numbers(operator.inputs[1]), _pairs(reading, operator)
    _, height, width, channels = reading.tensor(x).shape
    pads = [0, rows[0][0], rows[1][0], 0, 0, rows[0][1], rows[1][1], 0]
    high, wide = height + sum(rows[0]), width + sum(rows[1])
    value = reading.add("Pad", [reading.read(x), reading.integers(pads)])
    few, narrow = high // blocks[0], wide // blocks[1]
    tiles = [-1, few, blocks[0], narrow, blocks[1], channels]
    value = reading.add("Reshape", [value, reading.integers(tiles)])
    value = reading.add("Transpose", [value], {"perm": [2, 4, 0, 1, 3, 5]})
    shape = reading.integers([-1, few, narrow, channels])
    reading.write(y, reading.add("Reshape", [value, shape]))


def read_batch_to_space(reading: Reading, operator: Operator) -> None:
    """BATCH_TO_SPACE_ND of pictures: the way back, and cut off what was padded."""
    x, y = operator.inputs[0], operator.outputs[0]
    blocks, rows = reading.numbers(operator.inputs[1]), _pairs(reading, operator)
    _, height, width, channels = reading.tensor(x).shape
    tiles = reading.integers([*blocks, -1, height, width, channels])
    value = reading.add("Reshape", [reading.read(x), tiles])
    value = reading.add("Transpose", [value], {"perm": [2, 3, 0, 4, 1, 5]})
    high, wide = height * blocks[0], width * blocks[1]
    whole = reading.integers([-1, high, wide, channels])
    value = reading.add("Reshape", [value, whole])
    begins = reading.integers([rows[0][0], rows[1][0]])
    ends = reading.integers([high - rows[0][1], wide - rows[1][1]])
    axes = reading.integers([1, 2])
    reading.write(y, reading.add("Slice", [value, begins, ends, axes]))


def _pairs(reading: Reading, operator: Operator) -> list[list[int]]:
    """What is padded or cut off, before and after, of height and of width."""
    flat = reading.numbers(operator.inputs[2])
    if len(flat) != 4 or len(reading.numbers(operator.inputs[1])) != 2:
        raise ValueError(flat)
    return [flat[:2], flat[2:]]


def _axis(reading: Reading, index: int, axis: int, layout: Layout) -> int:
    """Where a dimension stands in a layout."""
    rank = len(reading.tensor(index).shape)
    axis %= rank
    is_moved = layout == "first" and rank == PICTURE_RANK
    return TO_FIRST.index(axis) if is_moved else axis

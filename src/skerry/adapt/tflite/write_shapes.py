"""Operators that move numbers and compute none: from ONNX to TFLite.

Codes keep their scale in all of them but Concat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skerry.adapt.tflite.net import Option
from skerry.adapt.tflite.pairs import constant_of
from skerry.adapt.tflite.sinks import sink_of
from skerry.adapt.tflite.writing import (
    CHANNELS_LAST,
    PICTURE_RANK,
    Held,
    Order,
    Writing,
    plain,
    to_codes,
    unwritten,
)
from skerry.core.seams import Array
from skerry.graph import Node, Value, attribute

_RESIZES = {
    ("linear", "half_pixel"): (False, True),
    ("linear", "pytorch_half_pixel"): (False, True),
    ("linear", "align_corners"): (True, False),
    ("linear", "asymmetric"): (False, False),
    ("nearest", "asymmetric", "floor"): (False, False),
    ("nearest", "half_pixel", "round_prefer_ceil"): (False, True),
    ("nearest", "align_corners", "round_prefer_ceil"): (True, False),
}
"""TFLite's `align_corners` and `half_pixel_centers` by ONNX's modes."""

_ENLARGING = frozenset({"asymmetric", "half_pixel"})
"""Places that, in a picture enlarged by a whole factor, all mean the same neighbour."""


def write_identity(writing: Writing, node: Node) -> None:
    """Identity and Dropout: no operator."""
    value = _read(writing, node)
    held, is_codes = writing.where(value)
    writing.keep(node.outputs[0], held, is_codes=is_codes)


def write_transpose(writing: Writing, node: Node) -> None:
    """Transpose: none either; the value stands in another order."""
    value = _read(writing, node)
    held, is_codes = writing.where(value)
    rank = len(writing.shape(value))
    moves = list(attribute(node, "perm", list(range(rank))[::-1]))
    order = tuple(moves.index(axis) for axis in held.order)
    writing.keep(
        node.outputs[0], Held(tensor=held.tensor, order=order), is_codes=is_codes
    )


def write_reshape(writing: Writing, node: Node) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze.

    Where a picture with channels last is flattened for dense layers alone, its numbers
    stay where they are, and the layers' weights follow them.
    """
    value, result = _read(writing, node), node.outputs[0]
    held, is_codes = writing.where(value)
    before, after = writing.shape(value), writing.shape(result)
    shuffle = None
    if held.order == CHANNELS_LAST and after == (before[0], int(np.prod(before[1:]))):
        numbers = np.arange(after[1]).reshape(before[1:])
        shuffle = numbers.transpose(1, 2, 0).ravel()
        if (shuffle == np.arange(after[1])).all() or not _is_for_dense(writing, result):
            shuffle = None
    is_alike = _is_alike(before, held.order)
    source = held.tensor
    if shuffle is None and not is_alike:
        source = writing.arranged(held, plain(before))
    made = writing.add_tensor(writing.tensor(source), after, str(result.name))
    writing.operate("RESHAPE", [source, writing.integers(after)], [made])
    if shuffle is not None:
        writing.shuffles[made] = shuffle
    writing.keep(result, Held(tensor=made, order=plain(after)), is_codes=is_codes)


def _is_alike(shape: Sequence[int], order: Order) -> bool:
    """Whether numbers lie in the same order however dimensions are counted."""
    wide = [axis for axis in order if shape[axis] > 1]
    return wide == sorted(wide)


def _is_for_dense(writing: Writing, value: Value) -> bool:
    """Whether nothing but dense layers reads a value, through pairs or not."""
    if value.is_graph_output() or not value.uses():
        return False
    for use in value.uses():
        node = use.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if use.idx or not _is_for_dense(writing, node.outputs[0]):
                return False
            continue
        is_dense = node.op_type == "Gemm" or (
            node.op_type == "MatMul" and len(writing.shape(value)) == 2
        )
        if (
            not is_dense
            or use.idx
            or constant_of(writing.graph, node.inputs[1]) is None
        ):
            return False
    return True


def write_concat(writing: Writing, node: Node) -> None:
    """Concat: codes are all given the scale of the result."""
    result = node.outputs[0]
    values = [value for value in node.inputs if value is not None]
    varying = [value for value in values if not writing.is_constant(value)]
    is_integer = all(writing.quantization(value) is not None for value in varying)
    sink = sink_of(writing, node, fuses=False, is_integer=is_integer)
    order = writing.order(varying[0]) if varying else plain(writing.shape(result))
    axis = attribute(node, "axis", 0) % len(order)
    inputs = []
    for value in values:
        found = constant_of(writing.graph, value)
        if found is not None:
            array: Array = found.floats.transpose(order)
            if sink.quantization is not None:
                stored = to_codes(array, sink.quantization)
            else:
                stored = array.astype(np.float32)
            stored = np.ascontiguousarray(stored)
            inputs.append(writing.constant(stored, str(value.name), sink.quantization))
            continue
        index = writing.take(value, order, integer=sink.quantization is not None)
        scale = sink.quantization
        if scale is not None and not scale.is_like(writing.tensor(index).quantization):
            index = writing.requantized(index, scale)
        inputs.append(index)
    options: dict[str, Option] = {
        "axis": order.index(axis),
        "fused_activation_function": 0,
    }
    writing.write("CONCATENATION", inputs, sink, order, options)


def write_slice(writing: Writing, node: Node) -> None:
    """Slice: STRIDED_SLICE."""
    value = _read(writing, node)
    held, is_codes = writing.where(value)
    shape = writing.shape(value)
    parts = [_numbers(writing, node, place) for place in range(1, len(node.inputs))]
    starts, stops = parts[0] or [], parts[1] or []
    axes = (parts[2] if len(parts) > 2 else None) or list(range(len(starts)))
    steps = (parts[3] if len(parts) > 3 else None) or [1] * len(starts)
    begins, ends, strides = [0] * len(shape), list(shape), [1] * len(shape)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        if step < 1:
            raise unwritten(writing, node, "goes backwards", "Reverse it elsewhere.")
        begins[axis], ends[axis], strides[axis] = slice(start, stop, step).indices(
            shape[axis]
        )
    lists = [
        writing.integers([each[axis] for axis in held.order])
        for each in (begins, ends, strides)
    ]
    masks: dict[str, Option] = {
        f"{name}_mask": 0
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    _carry(
        writing,
        node,
        held,
        is_codes=is_codes,
        code="STRIDED_SLICE",
        further=lists,
        options=masks,
    )


def write_split(writing: Writing, node: Node) -> None:
    """Split: SPLIT into equal parts, else SPLIT_V."""
    held, is_codes = writing.where(_read(writing, node))
    source = writing.tensor(held.tensor)
    axis = attribute(node, "axis", 0) % len(held.order)
    place = held.order.index(axis)
    sizes = [writing.shape(value)[axis] for value in node.outputs]
    made = []
    for value in node.outputs:
        shape = [writing.shape(value)[each] for each in held.order]
        made.append(writing.add_tensor(source, shape, str(value.name)))
        is_held = Held(tensor=made[-1], order=held.order)
        writing.keep(value, is_held, is_codes=is_codes)
    at = writing.constant(np.array(place, np.int32), "axis")
    if len(set(sizes)) == 1:
        inputs = [at, held.tensor]
        writing.operate("SPLIT", inputs, made, {"num_splits": len(sizes)})
    else:
        inputs = [held.tensor, writing.integers(sizes), at]
        writing.operate("SPLIT_V", inputs, made, {"num_splits": len(sizes)})


def write_pad(writing: Writing, node: Node) -> None:
    """Pad: PAD with zeros, PADV2 with another number, MIRROR_PAD by reflection."""
    value = _read(writing, node)
    held, is_codes = writing.where(value)
    rank = len(held.order)
    pads = _numbers(writing, node, 1) or []
    axes = _numbers(writing, node, 3) or list(range(rank))
    pairs = {
        axis % rank: (pads[place], pads[place + len(axes)])
        for place, axis in enumerate(axes)
    }
    rows = writing.integers([pairs.get(axis, (0, 0)) for axis in held.order])
    mode = attribute(node, "mode", "constant")
    if mode == "reflect":
        further, options = [rows], dict[str, Option](mode=0)
        _carry(
            writing,
            node,
            held,
            is_codes=is_codes,
            code="MIRROR_PAD",
            further=further,
            options=options,
        )
        return
    if mode != "constant":
        raise unwritten(writing, node, f"pads by {mode}", "Pad with a constant.")
    given = node.inputs[2] if len(node.inputs) > 2 else None
    found = constant_of(writing.graph, given)
    number = 0.0 if found is None else float(found.floats.ravel()[0])
    if number == 0.0:
        _carry(writing, node, held, is_codes=is_codes, code="PAD", further=[rows])
        return
    source = writing.tensor(held.tensor)
    array: Array = np.array([number], np.float32)
    if source.quantization is not None:
        array = to_codes(array, source.quantization)
    filling = writing.constant(array, "padding", source.quantization)
    _carry(
        writing, node, held, is_codes=is_codes, code="PADV2", further=[rows, filling]
    )


def write_resize(writing: Writing, node: Node) -> None:
    """Resize of height and width."""
    value, result = _read(writing, node), node.outputs[0]
    before, after = writing.shape(value), writing.shape(result)
    if len(before) != PICTURE_RANK or before[:2] != after[:2]:
        raise unwritten(writing, node, "resizes more than pictures", "Resize those.")
    mode = attribute(node, "mode", "nearest")
    places = attribute(node, "coordinate_transformation_mode", "half_pixel")
    kind: tuple[str, ...] = (mode, places)
    if mode == "nearest":
        rounding = attribute(node, "nearest_mode", "round_prefer_floor")
        factors = [divmod(b, a) for a, b in zip(before[2:], after[2:], strict=True)]
        is_whole = all(rest == 0 for _, rest in factors)
        is_same = places == "half_pixel" or rounding == "floor"
        if is_whole and places in _ENLARGING and is_same:
            places, rounding = "asymmetric", "floor"
        kind = (mode, places, rounding)
    if kind not in _RESIZES:
        raise unwritten(
            writing,
            node,
            f"resizes by {', '.join(kind)}",
            "Resize by linear, half_pixel, or by nearest, asymmetric, floor.",
        )
    held, is_codes = writing.where(value)
    index = writing.arranged(held, CHANNELS_LAST)
    held = Held(tensor=index, order=CHANNELS_LAST)
    corners, centers = _RESIZES[kind]
    code = "RESIZE_BILINEAR" if mode == "linear" else "RESIZE_NEAREST_NEIGHBOR"
    options: dict[str, Option] = {
        "align_corners": corners,
        "half_pixel_centers": centers,
    }
    sizes = [writing.integers(after[2:])]
    _carry(
        writing,
        node,
        held,
        is_codes=is_codes,
        code=code,
        further=sizes,
        options=options,
    )


def write_blocks(writing: Writing, node: Node) -> None:
    """DepthToSpace (DCR) and SpaceToDepth."""
    if attribute(node, "mode", "DCR") != "DCR":
        raise unwritten(
            writing, node, "counts columns before rows (CRD)", "Use the mode DCR."
        )
    held, is_codes = writing.where(_read(writing, node))
    index = writing.arranged(held, CHANNELS_LAST)
    held = Held(tensor=index, order=CHANNELS_LAST)
    deep = node.op_type == "DepthToSpace"
    code = "DEPTH_TO_SPACE" if deep else "SPACE_TO_DEPTH"
    options: dict[str, Option] = {"block_size": attribute(node, "blocksize", 1)}
    _carry(writing, node, held, is_codes=is_codes, code=code, options=options)


def _carry(
    writing: Writing,
    node: Node,
    held: Held,
    *,
    is_codes: bool,
    code: str,
    further: Sequence[int] = (),
    options: dict[str, Option] | None = None,
) -> None:
    """Add an operator whose codes keep their scale, in the order of what it reads."""
    result = node.outputs[0]
    shape = [writing.shape(result)[axis] for axis in held.order]
    made = writing.add_tensor(writing.tensor(held.tensor), shape, str(result.name))
    writing.operate(code, [held.tensor, *further], [made], options)
    writing.keep(result, Held(tensor=made, order=held.order), is_codes=is_codes)


def _numbers(writing: Writing, node: Node, place: int) -> list[int] | None:
    value = node.inputs[place] if place < len(node.inputs) else None
    found = writing.graph.constant(value)
    if value is not None and found is None:
        raise unwritten(
            writing, node, "has sizes that vary", "Give the inputs fixed shapes."
        )
    return None if found is None else [int(number) for number in found.ravel()]


def _read(writing: Writing, node: Node) -> Value:
    value = node.inputs[0]
    if value is None or writing.is_constant(value):
        raise unwritten(
            writing, node, "reads a constant", "Fold it: export the model again."
        )
    return value

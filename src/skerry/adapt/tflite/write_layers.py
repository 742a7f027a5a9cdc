"""Operators with weights, and pools: from ONNX to TFLite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skerry.adapt.tflite.net import (
    ACTIVATIONS,
    LEFT_OUT,
    SAME,
    VALID,
    Option,
    Quantization,
)
from skerry.adapt.tflite.pairs import Constant, constant_of, sole_reader
from skerry.adapt.tflite.sinks import sink_of
from skerry.adapt.tflite.writing import (
    CHANNELS_LAST,
    PICTURE_RANK,
    Held,
    Sink,
    Writing,
    plain,
    unwritten,
)
from skerry.core.seams import Array
from skerry.graph import Node, Value, attribute

_LOWEST_CODE = -128
_LOWEST_FLOAT = float(np.finfo(np.float32).min)


def write_conv(writing: Writing, node: Node) -> None:
    """Conv: CONV_2D, or DEPTHWISE_CONV_2D with one group for each channel."""
    x, w = _read(writing, node, 0), _weights(writing, node)
    _check_picture(writing, node, x)
    channels, groups = writing.shape(x)[1], attribute(node, "group", 1)
    is_depthwise = groups == channels and groups > 1
    sink = sink_of(writing, node, fuses=True, is_integer=_is_integer(writing, x, w))
    kernel = list(w.array.shape[2:])
    strides = list(attribute(node, "strides", [1, 1]))
    dilations = list(attribute(node, "dilations", [1, 1]))
    index, padding = _padded(writing, node, sink, (kernel, strides, dilations))
    options: dict[str, Option] = {
        "padding": padding,
        "stride_h": strides[0],
        "stride_w": strides[1],
        "dilation_h_factor": dilations[0],
        "dilation_w_factor": dilations[1],
        "fused_activation_function": ACTIVATIONS.index(sink.activation),
    }
    if is_depthwise:
        options["depth_multiplier"] = w.array.shape[0] // groups
    weights = w.transposed((1, 2, 3, 0) if is_depthwise else (0, 2, 3, 1))
    name = str(node.inputs[1] and node.inputs[1].name)
    inputs = [
        index,
        _stored(writing, weights, name, sink),
        _bias(writing, node, sink, w, w.array.shape[0]),
    ]
    code = "DEPTHWISE_CONV_2D" if is_depthwise else "CONV_2D"
    writing.write(code, inputs, sink, CHANNELS_LAST, options)


def write_transposed(writing: Writing, node: Node) -> None:
    """ConvTranspose: TRANSPOSE_CONV, cut where it pads otherwise."""
    x, w = _read(writing, node, 0), _weights(writing, node)
    _check_picture(writing, node, x)
    dilations = list(attribute(node, "dilations", [1, 1]))
    if attribute(node, "group", 1) != 1 or dilations != [1, 1]:
        raise unwritten(writing, node, "has groups or dilations", "Use a plain one.")
    sink = sink_of(writing, node, fuses=False, is_integer=_is_integer(writing, x, w))
    batch, channels, *sizes = writing.shape(node.outputs[0])
    begins, strides = (
        _transposed_begins(writing, node, w),
        attribute(node, "strides", [1, 1]),
    )
    small = writing.shape(x)[2:]
    is_same = all(
        -(-out // stride) == read
        and max((read - 1) * stride + reach - out, 0) // 2 == begin
        for out, stride, read, reach, begin in zip(
            sizes, strides, small, w.array.shape[2:], begins, strict=True
        )
    )
    whole = sizes if is_same else [a + b for a, b in zip(sizes, begins, strict=True)]
    shape = writing.integers([batch, *whole, channels])
    weights = w.transposed((1, 2, 3, 0))
    name = str(node.inputs[1] and node.inputs[1].name)
    inputs = [
        shape,
        _stored(writing, weights, name, sink),
        writing.take(x, CHANNELS_LAST, integer=sink.quantization is not None),
        _bias(writing, node, sink, w, channels),
    ]
    options: dict[str, Option] = {
        "padding": SAME if is_same else VALID,
        "stride_h": strides[0],
        "stride_w": strides[1],
    }
    made = writing.new_tensor(
        str(sink.value.name), [batch, *whole, channels], sink.quantization
    )
    writing.operate("TRANSPOSE_CONV", inputs, [made], options)
    if whole != sizes:
        cut = writing.add_tensor(
            writing.tensor(made), [batch, *sizes, channels], str(sink.value.name)
        )
        begin = writing.integers([0, *begins, 0])
        size = writing.integers([batch, *sizes, channels])
        writing.operate("SLICE", [made, begin, size], [cut])
        made = cut
    held = Held(tensor=made, order=CHANNELS_LAST)
    writing.keep(sink.value, held, is_codes=sink.quantization is not None)


def _transposed_begins(writing: Writing, node: Node, w: Constant) -> list[int]:
    automatic = attribute(node, "auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID") or "output_shape" in node.attributes:
        raise unwritten(
            writing, node, "pads by itself", "Write its pads out: skerry inspect tells."
        )
    rank = w.array.ndim - 2
    return list(attribute(node, "pads", [0] * 2 * rank))[:rank]


def write_gemm(writing: Writing, node: Node) -> None:
    """Gemm with constant weights: FULLY_CONNECTED."""
    is_plain = (
        attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
    )
    if not is_plain or attribute(node, "transA", 0):
        raise unwritten(
            writing, node, "scales or transposes what it reads", "Fold that into it."
        )
    w = _weights(writing, node)
    _dense(writing, node, w if attribute(node, "transB", 0) else w.transposed((1, 0)))


def write_matmul(writing: Writing, node: Node) -> None:
    """MatMul: FULLY_CONNECTED with constant weights, else BATCH_MATMUL."""
    right = constant_of(writing.graph, node.inputs[1])
    left = constant_of(writing.graph, node.inputs[0])
    if left is None and right is not None and right.array.ndim == 2:
        _dense(writing, node, _weights(writing, node).transposed((1, 0)))
        return
    if left is not None or right is not None:
        raise unwritten(
            writing,
            node,
            "has constants of another rank than 2",
            "Use a Gemm or a Conv.",
        )
    values = [_read(writing, node, place) for place in (0, 1)]
    is_integer = all(writing.quantization(value) is not None for value in values)
    sink = sink_of(writing, node, fuses=False, is_integer=is_integer)
    integer = sink.quantization is not None
    inputs = [
        writing.take(value, plain(writing.shape(value)), integer=integer)
        for value in values
    ]
    order = plain(writing.shape(node.outputs[0]))
    writing.write("BATCH_MATMUL", inputs, sink, order, {"adj_x": False, "adj_y": False})


def _dense(writing: Writing, node: Node, w: Constant) -> None:
    """A layer with weights out, in."""
    x = _read(writing, node, 0)
    added, place = _addition(writing, node) if node.op_type == "MatMul" else (None, 2)
    holder = added or node
    sink = sink_of(writing, holder, fuses=True, is_integer=_is_integer(writing, x, w))
    integer = sink.quantization is not None
    index = writing.take(x, plain(writing.shape(x)), integer=integer)
    if index in writing.shuffles:
        w = replace(w, array=np.ascontiguousarray(w.array[:, writing.shuffles[index]]))
    name = str(node.inputs[1] and node.inputs[1].name)
    inputs = [
        index,
        _stored(writing, w, name, sink),
        _bias(writing, holder, sink, w, w.array.shape[0], place=place, read=x),
    ]
    options: dict[str, Option] = {
        "fused_activation_function": ACTIVATIONS.index(sink.activation),
        "keep_num_dims": len(writing.shape(x)) > 2,
    }
    order = plain(writing.shape(sink.value))
    writing.write("FULLY_CONNECTED", inputs, sink, order, options)


def _addition(writing: Writing, node: Node) -> tuple[Node | None, int]:
    """The addition of a constant behind a product, and which operand that is."""
    reader = sole_reader(node.outputs[0])
    if reader is None or reader.op_type != "Add":
        return None, 2
    place = 1 if reader.inputs[0] is node.outputs[0] else 0
    found = constant_of(writing.graph, reader.inputs[place])
    wide = writing.shape(node.outputs[0])[-1]
    if found is None or found.array.size != wide or found.array.shape[-1] != wide:
        return None, 2
    writing.fused.add(reader)
    return reader, place


def _bias(
    writing: Writing,
    node: Node,
    sink: Sink,
    w: Constant,
    count: int,
    *,
    place: int = 2,
    read: Value | None = None,
) -> int:
    """The bias: int32 with the scale of what it is added to, or floats."""
    value = node.inputs[place] if place < len(node.inputs) else None
    found = constant_of(writing.graph, value)
    if value is not None and found is None:
        raise unwritten(writing, node, "has a bias that varies", "Make it a constant.")
    floats = np.zeros(count) if found is None else found.floats
    floats = np.broadcast_to(floats.reshape(-1), (count,)).astype(np.float64)
    name = f"{node.name}.bias" if value is None else str(value.name)
    if sink.quantization is None:
        return writing.constant(floats.astype(np.float32), name)
    source = writing.quantization(read or _read(writing, node, 0))
    if source is None or w.quantization is None:
        return LEFT_OUT
    scale = source.scale * w.quantization.scale
    codes = np.rint(floats / scale.astype(np.float64))
    limits = np.iinfo(np.int32)
    codes = np.clip(codes, limits.min, limits.max).astype(np.int32)
    stored = Quantization(scale=scale, zero_point=np.zeros(scale.shape, np.int64))
    return writing.constant(codes, name, stored)


def write_max_pool(writing: Writing, node: Node) -> None:
    """MaxPool: MAX_POOL_2D; codes keep their scale."""
    x = _read(writing, node, 0)
    _check_picture(writing, node, x)
    if len(node.outputs) > 1 and any(node.outputs[1].uses()):
        raise unwritten(writing, node, "gives places too", "Take the values alone.")
    held, is_codes = writing.where(x)
    sink = Sink(
        value=node.outputs[0],
        quantization=writing.tensor(held.tensor).quantization if is_codes else None,
    )
    _pool(writing, node, sink, "MAX_POOL_2D")


def write_global_max_pool(writing: Writing, node: Node) -> None:
    """GlobalMaxPool: MAX_POOL_2D over the whole picture."""
    write_max_pool(writing, node)


def write_average_pool(writing: Writing, node: Node) -> None:
    """AveragePool and GlobalAveragePool.

    AVERAGE_POOL_2D keeps the scale of its input. Where codes of another one are wished,
    MEAN makes them if the pool spans the picture, and else a depthwise convolution with
    weights of one over the number of places: both round once, as ONNX does.
    """
    x = _read(writing, node, 0)
    _check_picture(writing, node, x)
    source = writing.quantization(x)
    sink = sink_of(writing, node, fuses=False, is_integer=source is not None)
    is_whole = writing.shape(node.outputs[0])[2:] == (1, 1) and not _pads(node)
    kernel = _window(writing, node)[0]
    is_whole = is_whole and tuple(kernel) == writing.shape(x)[2:]
    keeps = sink.quantization is None or sink.quantization.is_like(source)
    if is_whole and not keeps:
        index = writing.take(x, CHANNELS_LAST, integer=True)
        inputs = [index, writing.integers([1, 2])]
        writing.write("MEAN", inputs, sink, CHANNELS_LAST, {"keep_dims": True})
    elif keeps or (_pads(node) and not attribute(node, "count_include_pad", 0)):
        _pool(writing, node, sink, "AVERAGE_POOL_2D", fixed=source)
    else:
        _weighted_pool(writing, node, sink)


def _weighted_pool(writing: Writing, node: Node, sink: Sink) -> None:
    window = _window(writing, node)
    kernel, strides, _ = window
    index, padding = _padded(writing, node, sink, window)
    channels = writing.shape(sink.value)[1]
    scale = np.full(channels, 1 / (kernel[0] * kernel[1]), np.float32)
    zeros = np.zeros(channels, np.int64)
    ones: Array = np.ones((1, *kernel, channels), np.int8)
    source = writing.tensor(index).quantization
    if source is None:
        raise ValueError(node.name)
    bias = Quantization(scale=source.scale * scale, zero_point=zeros)
    inputs = [
        index,
        writing.constant(
            ones,
            f"{node.name}.ones",
            Quantization(scale=scale, zero_point=zeros, axis=3),
        ),
        writing.constant(np.zeros(channels, np.int32), f"{node.name}.bias", bias),
    ]
    options: dict[str, Option] = {
        "padding": padding,
        "stride_h": strides[0],
        "stride_w": strides[1],
        "dilation_h_factor": 1,
        "dilation_w_factor": 1,
        "depth_multiplier": 1,
    }
    writing.write("DEPTHWISE_CONV_2D", inputs, sink, CHANNELS_LAST, options)


def _pool(
    writing: Writing,
    node: Node,
    sink: Sink,
    code: str,
    *,
    fixed: Quantization | None = None,
) -> None:
    window = _window(writing, node)
    if any(each != 1 for each in window[2]):
        raise unwritten(writing, node, "is dilated", "Use a plain pool.")
    index, padding = _padded(writing, node, sink, window)
    options: dict[str, Option] = {
        "padding": padding,
        "filter_height": window[0][0],
        "filter_width": window[0][1],
        "stride_h": window[1][0],
        "stride_w": window[1][1],
    }
    writing.write(code, [index], sink, CHANNELS_LAST, options, fixed=fixed)


Window = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Kernel, strides and dilations, each of height and width."""


def _window(writing: Writing, node: Node) -> Window:
    if node.op_type.startswith("Global"):
        return writing.shape(_read(writing, node, 0))[2:], (1, 1), (1, 1)
    return (
        attribute(node, "kernel_shape", [1, 1]),
        attribute(node, "strides", [1, 1]),
        attribute(node, "dilations", [1, 1]),
    )


def _pads(node: Node) -> bool:
    automatic = attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return automatic or any(attribute(node, "pads", [0]))


def _padded(
    writing: Writing, node: Node, sink: Sink, window: Window
) -> tuple[int, int]:
    """What a node reads, and how its own operator pads it.

    Where neither of TFLite's two ways fits, an operator before it does.
    """
    x = _read(writing, node, 0)
    index = writing.take(x, CHANNELS_LAST, integer=sink.quantization is not None)
    rows = _rows(writing, node, window)
    if all(row == (0, 0) for row, _ in rows):
        return index, VALID
    excludes = node.op_type == "AveragePool" and not attribute(
        node, "count_include_pad", 0
    )
    counts = node.op_type == "AveragePool" and not excludes
    if all(is_same for _, is_same in rows) and not counts:
        return index, SAME
    if excludes:
        raise unwritten(
            writing, node, "pads unevenly and leaves that out", "Count the padding too."
        )
    pairs = [(0, 0), rows[0][0], rows[1][0], (0, 0)]
    source = writing.tensor(index)
    shape = [a + sum(b) for a, b in zip(source.shape, pairs, strict=True)]
    made = writing.add_tensor(source, shape, f"{source.name}.padded")
    inputs = [index, writing.integers(pairs)]
    if "MaxPool" in node.op_type:
        is_codes = source.quantization is not None
        least: Array = np.array(
            [_LOWEST_CODE if is_codes else _LOWEST_FLOAT],
            np.int8 if is_codes else np.float32,
        )
        inputs.append(writing.constant(least, "least", source.quantization))
    writing.operate("PADV2" if len(inputs) > 2 else "PAD", inputs, [made])
    return made, VALID


def _rows(
    writing: Writing, node: Node, window: Window
) -> list[tuple[tuple[int, int], bool]]:
    """For height and width what is padded, and whether TFLite's `SAME` does just that.

    What is padded behind follows from the output's size: it is what is really read.
    """
    sizes = writing.shape(_read(writing, node, 0))[2:]
    outs = writing.shape(node.outputs[0])[2:]
    automatic = attribute(node, "auto_pad", "NOTSET")
    pads = list(attribute(node, "pads", [0, 0, 0, 0]))
    rows = []
    for place, (size, out) in enumerate(zip(sizes, outs, strict=True)):
        kernel, stride, dilation = (one[place] for one in window)
        needed = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        begin = pads[place]
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            begin = needed // 2 if automatic == "SAME_UPPER" else needed - needed // 2
        end = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size - begin, 0)
        is_same = out == -(-size // stride) and (begin, end) == (
            needed // 2,
            needed - needed // 2,
        )
        rows.append(((begin, end), is_same))
    return rows


def _read(writing: Writing, node: Node, place: int) -> Value:
    value = node.inputs[place] if place < len(node.inputs) else None
    if value is None:
        raise unwritten(writing, node, "lacks an input", "Export the model again.")
    return value


def _weights(writing: Writing, node: Node) -> Constant:
    found = constant_of(writing.graph, node.inputs[1])
    if found is None:
        raise unwritten(
            writing, node, "has weights that vary", "Use a product of two tensors."
        )
    if found.quantization is not None and found.quantization.zero_point.any():
        raise unwritten(
            writing,
            node,
            "has weights with a zero point, which TFLite does not",
            "Quantize weights symmetrically, as skerry compress does.",
        )
    return found


def _stored(writing: Writing, w: Constant, name: str, sink: Sink) -> int:
    """Weights, as codes where the result is codes too."""
    if sink.quantization is None:
        return writing.constant(w.floats.astype(np.float32), name)
    return writing.constant(w.array, name, w.quantization)


def _is_integer(writing: Writing, x: Value, w: Constant) -> bool:
    return writing.quantization(x) is not None and w.quantization is not None


def _check_picture(writing: Writing, node: Node, value: Value) -> None:
    if len(writing.shape(value)) != PICTURE_RANK:
        raise unwritten(
            writing,
            node,
            "has not height and width",
            "Give it a height of 1: an Unsqueeze before and a Squeeze behind.",
        )

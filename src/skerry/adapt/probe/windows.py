"""What is asked of operators that look at pictures through windows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from skerry.adapt.operators import AttributeValue
from skerry.adapt.probe.cases import Case
from skerry.adapt.probe.sweep import BATCH, Line, Settings, Sweep, word
from skerry.core.target import Take

_KERNELS = (1, 2, 3, 5, 8, 9, 16, 31, 32, 33, 64, 65, 96, 128, 256, 257, 300)
_STRIDES = (1, 2, 3, 4, 5)


def _window(settings: Settings, size: int) -> tuple[int, tuple[int, ...]]:
    """The output's size and the paddings of a square window over a square picture."""
    kernel, stride = int(settings.get("kernel", 3)), int(settings.get("stride", 1))
    span = (kernel - 1) * int(settings.get("dilation", 1)) + 1
    if settings.get("padding") == "none":
        return (size - span) // stride + 1, (0, 0, 0, 0)
    if settings.get("padding") == "other":
        return (size + 1 - span) // stride + 1, (1, 1, 0, 0)
    made = -(-size // stride)
    total = max(0, (made - 1) * stride + span - size)
    return made, (total // 2, total // 2, total - total // 2, total - total // 2)


def _grown(settings: Settings) -> int:
    """A picture at least as large as the window on it."""
    kernel = int(settings.get("kernel", 3))
    widest = max(kernel, int(settings.get("width", kernel)))
    span = (widest - 1) * int(settings.get("dilation", 1)) + 1
    return max(int(settings.get("size", 41)), span)


def _conv(settings: Settings, dtype: str) -> Case:
    size, kernel = _grown(settings), int(settings.get("kernel", 3))
    width = int(settings.get("width", kernel))
    channels = int(settings.get("channels", 8))
    is_depthwise = settings.get("grouping") == "depthwise"
    high, pads_high = _window(settings, size)
    wide, pads_wide = _window({**settings, "kernel": width}, size)
    filters = channels if is_depthwise else int(settings.get("filters", 8))
    batch, dilation = int(settings.get("batch", 1)), int(settings.get("dilation", 1))
    groups = {"depthwise": channels, "grouped": 2}.get(str(settings.get("grouping")), 1)
    return Case(
        op_type="Conv",
        dtype=dtype,
        shapes=((batch, channels, size, size),),
        weights=((filters, channels // groups, kernel, width), (filters,)),
        output=(batch, filters, high, wide),
        attributes={
            "kernel_shape": (kernel, width),
            "strides": (int(settings.get("stride", 1)),) * 2,
            "dilations": (dilation, dilation),
            "pads": (pads_high[0], pads_wide[1], pads_high[2], pads_wide[3]),
            "group": groups,
        },
        is_spatial=True,
    )


def convolutions() -> Iterator[Sweep]:
    """Convolutions: groups, padding and dilation apart."""
    for grouping in ("one", "depthwise", "grouped"):
        for padding in ("none", "same", "other"):
            for dilation in (1, 2):
                yield Sweep(
                    op_type="Conv",
                    make=_conv,
                    settings={
                        "grouping": grouping,
                        "padding": padding,
                        "dilation": dilation,
                    },
                    lines=_conv_lines(grouping, is_dilated=dilation > 1),
                    where=(
                        word("grouping", grouping),
                        word("padding", padding),
                        word("dilation", "none" if dilation == 1 else "some"),
                    ),
                    constant_weights=True,
                )


def _conv_lines(grouping: str, *, is_dilated: bool) -> tuple[Line, ...]:
    few = {"channels": 2, "filters": 2}
    tall = Line(
        parameter="kernel",
        values=_KERNELS,
        quantity="kernel_span",
        take=Take.FIRST,
        settings={**few, "width": 1},
    )
    wide = Line(
        parameter="width",
        values=_KERNELS,
        quantity="kernel_span",
        take=Take.PRODUCT,
        settings={**few, "kernel": 32 if is_dilated else 64, "size": 560},
    )
    # Along one place alone a stride does nothing, and yet a depthwise one is looked at.
    looked_at = "strides" if grouping == "depthwise" else "steps"
    strides = Line(parameter="stride", values=_STRIDES, quantity=looked_at)
    channels = Line(
        parameter="channels", values=(8, 16, 32, 64, 128), quantity="channels"
    )
    filters = Line(parameter="filters", values=(8, 32, 128), quantity="filters")
    own = () if grouping == "depthwise" else (filters,)
    return (strides, tall, wide, BATCH, channels, *own)


def transposed_convolutions() -> Iterator[Sweep]:
    """Transposed convolutions."""
    for padding in ("none", "same"):
        yield Sweep(
            op_type="ConvTranspose",
            make=_conv_transpose,
            settings={"padding": padding},
            lines=(
                Line(parameter="stride", values=(1, 2, 3, 4), quantity="steps"),
                Line(
                    parameter="kernel",
                    values=_KERNELS[2:],
                    quantity="kernel_shape",
                    settings={"channels": 2},
                ),
            ),
            where=(word("padding", padding),),
            constant_weights=True,
        )


def _conv_transpose(settings: Settings, dtype: str) -> Case:
    stride, kernel = int(settings.get("stride", 2)), int(settings.get("kernel", 4))
    kernel = max(kernel, stride)
    channels, size = int(settings.get("channels", 8)), 6
    total = kernel - stride if settings["padding"] == "same" else 0
    made = size * stride + kernel - stride - total
    first = total // 2
    return Case(
        op_type="ConvTranspose",
        dtype=dtype,
        shapes=((1, channels, size, size),),
        weights=((channels, channels, kernel, kernel), (channels,)),
        output=(1, channels, made, made),
        attributes={
            "kernel_shape": (kernel, kernel),
            "strides": (stride, stride),
            "pads": (first, first, total - first, total - first),
        },
        is_spatial=True,
    )


def pools() -> Iterator[Sweep]:
    """Pools, with and without padding."""
    for op_type in ("AveragePool", "MaxPool"):
        for padding in ("none", "same", "other"):
            yield Sweep(
                op_type=op_type,
                make=partial(_pool, op_type=op_type),
                settings={"padding": padding, "kernel": 2},
                lines=(
                    Line(parameter="stride", values=_STRIDES, quantity="steps"),
                    Line(
                        parameter="kernel",
                        values=_KERNELS,
                        quantity="kernel_shape",
                        take=Take.FIRST,
                        settings={"width": 1},
                    ),
                    Line(
                        parameter="width",
                        values=_KERNELS,
                        quantity="kernel_shape",
                        settings={"kernel": 1},
                    ),
                    BATCH,
                ),
                where=(word("padding", padding),),
            )


def _pool(settings: Settings, dtype: str, *, op_type: str) -> Case:
    kernel = int(settings["kernel"])
    width = int(settings.get("width", kernel))
    size = max(41, kernel, width)
    high, pads_high = _window(settings, size)
    wide, pads_wide = _window({**settings, "kernel": width}, size)
    batch, channels = int(settings.get("batch", 1)), 4
    stride = int(settings.get("stride", 1))
    return Case(
        op_type=op_type,
        dtype=dtype,
        shapes=((batch, channels, size, size),),
        output=(batch, channels, high, wide),
        attributes={
            "kernel_shape": (kernel, width),
            "strides": (stride, stride),
            "pads": (pads_high[0], pads_wide[1], pads_high[2], pads_wide[3]),
        },
        is_spatial=True,
    )


def resizes() -> Iterator[Sweep]:
    """Resizing, in each mode."""
    for mode in ("nearest", "linear"):
        for way in ("asymmetric", "half_pixel", "align_corners"):
            yield Sweep(
                op_type="Resize",
                make=_resize,
                settings={"mode": mode, "way": way},
                lines=(
                    Line(
                        parameter="scale",
                        values=(1, 2, 3, 4, 5, 6, 8, 16),
                        quantity="scales",
                    ),
                    Line(
                        parameter="ratio",
                        values=("narrow", "square", "wide"),
                        quantity="scale_ratio",
                    ),
                ),
                where=(
                    word("mode", mode),
                    word("coordinate_transformation_mode", way),
                ),
            )


def _resize(settings: Settings, dtype: str) -> Case:
    scale = int(settings.get("scale", 2))
    narrow, wide = {"narrow": (2, 1), "wide": (1, 2)}.get(
        str(settings.get("ratio", "square")), (1, 1)
    )
    high, width = 4 * scale * narrow, 4 * scale * wide
    sizes = np.array([1, 8, high, width], np.int64)
    is_nearest = settings["mode"] == "nearest"
    attributes: dict[str, AttributeValue] = {
        "mode": str(settings["mode"]),
        "coordinate_transformation_mode": str(settings["way"]),
    }
    if is_nearest:
        is_half = settings["way"] != "asymmetric"
        attributes["nearest_mode"] = "round_prefer_ceil" if is_half else "floor"
    return Case(
        op_type="Resize",
        dtype=dtype,
        shapes=((1, 8, 4, 4),),
        output=(1, 8, high, width),
        parameters=(None, None, sizes),
        attributes=attributes,
        is_spatial=True,
    )

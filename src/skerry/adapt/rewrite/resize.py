"""Resize by whole factors, with operators that processors have.

Nearest neighbours of the common kinds repeat each pixel: a concatenation of copies, or
a transposed convolution whose kernel is all ones (J. Long et al., "Fully Convolutional
Networks for Semantic Segmentation", CVPR 2015, section 3.3). Linear interpolation by
a factor f is a transposed convolution too: with a triangle of 2f taps (2f − 1 where a
tap falls on the pixel itself), after the border has been repeated once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skerry.adapt.rewrite.bounds import EXACT, same_sum
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Shape, Site
from skerry.core.seams import Array
from skerry.graph import Value

_REPEATS = frozenset(
    {
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_ceil"),
        ("half_pixel", "round_prefer_floor"),
        ("pytorch_half_pixel", "round_prefer_ceil"),
        ("pytorch_half_pixel", "round_prefer_floor"),
    }
)
"""Coordinates and rounding with which a whole factor repeats each pixel: the source of
i is floor(i / f), as ((i + ½) / f − ½) lies within ½ of it and meets it never."""


def _factors(site: Site) -> tuple[Shape, int, int] | None:
    """The input's shape and the whole factors of height and width."""
    shape, result = site.shape(), site.result_shape()
    if shape is None or result is None or len(shape) != 4 or shape[:2] != result[:2]:
        return None
    height, width = result[2] // shape[2], result[3] // shape[3]
    if (shape[2] * height, shape[3] * width) != result[2:] or height * width < 2:
        return None
    return shape, height, width


def _coordinates(site: Site) -> str:
    if site.node.op_type == "Upsample":
        return "asymmetric"
    return site.attribute("coordinate_transformation_mode", "half_pixel")


def _is_nearest(site: Site) -> bool:
    rounding = site.attribute("nearest_mode", "round_prefer_floor")
    rounding = "floor" if site.node.op_type == "Upsample" else rounding
    is_nearest = site.attribute("mode", "nearest") == "nearest"
    return is_nearest and (_coordinates(site), rounding) in _REPEATS


def _nearest(site: Site) -> Iterator[Replacement]:
    found = _factors(site)
    if found is None or not _is_nearest(site):
        return
    shape, *factors = found
    draft = site.draft()
    x = site.read(draft, 0)
    for axis, factor in ((2, factors[0]), (3, factors[1])):
        if factor > 1:
            # Copies side by side in a dimension of its own, which then is merged.
            sizes = [*shape]
            sizes[axis] *= factor
            flat = draft.reshape(x, (1, -1, 1, shape[3] if axis == 2 else 1))
            x = draft.reshape(
                draft.op("Concat", *[flat] * factor, axis=2), tuple(sizes)
            )
            shape = tuple(sizes)
    yield site.to(draft, x, bound=EXACT)
    yield from _by_ones(site, found)


def _by_ones(site: Site, found: tuple[Shape, int, int]) -> Iterator[Replacement]:
    shape, height, width = found
    ones = np.ones((height, width))
    for is_grouped in (True, False):
        draft = site.draft()
        x = site.read(draft, 0)
        made = _spread(
            draft,
            x,
            shape[1],
            ones,
            strides=[height, width],
            pads=[0] * 4,
            is_grouped=is_grouped,
        )
        yield site.to(draft, made, bound=same_sum(shape[1], 1.0))


def _linear(site: Site) -> Iterator[Replacement]:
    found = _factors(site)
    if found is None or site.attribute("mode", "nearest") != "linear":
        return
    shape, height, width = found
    ramps = [_ramp(one, _coordinates(site)) for one in (height, width)]
    if None in ramps:
        return
    (down, first, last), (right, left, end) = (one for one in ramps if one is not None)
    for is_grouped in (True, False):
        draft = site.draft()
        x = site.read(draft, 0)
        for axis, factor in ((2, height), (3, width)):
            if factor > 1:
                x = _with_border(draft, x, shape[axis], axis)
        made = _spread(
            draft,
            x,
            shape[1],
            np.outer(down, right),
            strides=[height, width],
            pads=[first, left, last, end],
            is_grouped=is_grouped,
        )
        yield site.to(draft, made, bound=same_sum(8 + 4 * shape[1], 1.0))


def _with_border(draft: Draft, x: Value, size: int, axis: int) -> Value:
    """Repeat the first and the last row once more."""
    first = draft.slice(x, 0, 1, axis)
    last = draft.slice(x, size - 1, size, axis)
    return draft.op("Concat", first, x, last, axis=axis)


def _ramp(factor: int, coordinates: str) -> tuple[Array, int, int] | None:
    """The taps in one dimension, and how much to cut off before and behind.

    The spread of n + 2 pixels by t taps is (n + 1) f + t long, and n f of it are kept:
    those that begin where the centre of the first real pixel's taps comes to lie on
    the pixel's own place, (f − 1) / 2 with half-pixel centres, 0 without.
    """
    if factor == 1:
        return np.ones(1), 0, 0
    if coordinates == "asymmetric":
        taps = 1 - np.abs(np.arange(2 * factor - 1) - factor + 1) / factor
        return taps, 2 * factor - 1, factor
    if coordinates not in {"half_pixel", "pytorch_half_pixel"}:
        return None
    count = 2 * factor - factor % 2
    taps = 1 - np.abs(np.arange(count) - (count - 1) / 2) / factor
    cut = (factor + count) // 2
    return taps, cut, cut


def _spread(
    draft: Draft,
    x: Value,
    channels: int,
    kernel: Array,
    *,
    strides: list[int],
    pads: list[int],
    is_grouped: bool,
) -> Value:
    """Give each channel the same transposed convolution, without mixing channels."""
    if is_grouped:
        weights = np.broadcast_to(kernel, (channels, 1, *kernel.shape))
    else:
        weights = np.zeros((channels, channels, *kernel.shape))
        weights[range(channels), range(channels)] = kernel
    constant = draft.constant(np.ascontiguousarray(weights, dtype=np.float32))
    group = channels if is_grouped else 1
    return draft.op(
        "ConvTranspose", x, constant, strides=strides, pads=pads, group=group
    )


RESIZE_NEAREST = Rule(
    name="nearest resize by copies",
    replaces=frozenset({"Resize", "Upsample"}),
    advice="Replace Resize of nearest pixels by a whole factor with Concat of copies, "
    "or with ConvTranspose of ones",
    source="ONNX standard, Resize; arXiv:1411.4038, section 3.3",
    draw=_nearest,
)
RESIZE_LINEAR = Rule(
    name="linear resize as ConvTranspose",
    replaces=frozenset({"Resize", "Upsample"}),
    advice="Replace linear Resize by a whole factor with ConvTranspose",
    source="arXiv:1411.4038, section 3.3",
    draw=_linear,
)

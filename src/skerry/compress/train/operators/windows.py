"""Operators that look through a window: convolutions, pooling, resizing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.compress.train.operators.making import (
    Builder,
    Operator,
    makes_one,
    same,
)
from skerry.core.seams import Array
from skerry.graph import Node, attribute
from skerry.runtimes.torch import Tensor, functional, torch

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX_POOLS = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_AVERAGE_POOLS = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a window goes over the axes behind batch and channels.

    Attributes:
        kernel: Its size, an entry an axis.
        strides: How far it moves.
        dilations: How far its elements lie apart.
        ends: What is added before and after each axis; None where that follows from
            the size of the input (`auto_pad`).
        is_upper: Whether an odd element is then added behind rather than before.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    ends: tuple[tuple[int, int], ...] | None
    is_upper: bool

    @property
    def padding(self) -> tuple[int, ...] | None:
        """What is added on both sides of each axis, where that is the same."""
        if self.ends is None or any(before != after for before, after in self.ends):
            return None
        return tuple(before for before, _ in self.ends)

    def ends_for(self, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """What is added before and after axes of these sizes."""
        if self.ends is not None:
            return self.ends
        found = []
        for size, kernel, stride, dilation in zip(
            sizes, self.kernel, self.strides, self.dilations, strict=True
        ):
            reach = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation
            total = max(reach + 1 - size, 0)
            less, more = total // 2, total - total // 2
            found.append((less, more) if self.is_upper else (more, less))
        return tuple(found)

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """Add what this window adds to an input."""
        ends = self.ends_for(x.shape[2:])
        flat = [number for pair in reversed(ends) for number in pair]
        return functional.pad(x, flat, value=value) if any(flat) else x


def window_of(node: Node, kernel: Sequence[int]) -> Window:
    """Read the window of a node; without an attribute it has these sizes."""
    sizes = tuple(attribute(node, "kernel_shape", kernel))
    rank = len(sizes)
    mode = attribute(node, "auto_pad", "NOTSET")
    pads = attribute(node, "pads", (0,) * 2 * rank)
    ends: tuple[tuple[int, int], ...] | None = None
    if mode == "VALID":
        ends = ((0, 0),) * rank
    elif mode == "NOTSET":
        ends = tuple(zip(pads[:rank], pads[rank:], strict=True))
    return Window(
        kernel=sizes,
        strides=tuple(attribute(node, "strides", (1,) * rank)),
        dilations=tuple(attribute(node, "dilations", (1,) * rank)),
        ends=ends,
        is_upper=mode == "SAME_UPPER",
    )


def _conv(node: Node) -> Operator:
    groups = attribute(node, "group", 1)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        window = window_of(node, tuple(weight.shape[2:]))
        padding = window.padding
        if padding is None:
            x, padding = window.pad(x), (0,) * len(window.kernel)
        return _CONVOLUTIONS[weight.dim() - 2](
            x, weight, bias, window.strides, padding, window.dilations, groups
        )

    return convolve


def transposed_ends(node: Node, rank: int) -> tuple[tuple[int, int], ...] | None:
    """What a transposed convolution cuts off; None where it follows from sizes."""
    if attribute(node, "output_shape", None) is not None:
        return None
    return window_of(node, (1,) * rank).ends


def crop(x: Tensor, ends: Sequence[tuple[int, int]]) -> Tensor:
    """Cut off what lies at the ends of the axes behind batch and channels."""
    if not any(before or after for before, after in ends):
        return x
    return functional.pad(x, [-n for pair in reversed(ends) for n in pair])


def _conv_transpose(node: Node) -> Operator | None:
    groups = attribute(node, "group", 1)
    rank = len(attribute(node, "kernel_shape", ())) or 2
    if transposed_ends(node, rank) is None:
        return None

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        window = window_of(node, tuple(weight.shape[2:]))
        added = attribute(node, "output_padding", (0,) * len(window.kernel))
        whole = _TRANSPOSED[weight.dim() - 2](
            x,
            weight,
            bias,
            window.strides,
            0,
            tuple(added),
            groups,
            window.dilations,
        )
        return crop(whole, window.ends or ())

    return convolve


def _max_pool(node: Node) -> Operator | None:
    if not makes_one(node) or attribute(node, "storage_order", 0):
        return None
    window = window_of(node, ())
    rounds_up = bool(attribute(node, "ceil_mode", 0))
    pool = _MAX_POOLS.get(len(window.kernel))
    if pool is None:
        return None

    def look(x: Tensor) -> Tensor:
        padding = window.padding
        if padding is not None and all(
            2 * pad <= size for pad, size in zip(padding, window.kernel, strict=True)
        ):
            return pool(
                x, window.kernel, window.strides, padding, window.dilations, rounds_up
            )
        beyond = _beyond(x, window) if rounds_up else []
        padded = functional.pad(window.pad(x, -math.inf), beyond, value=-math.inf)
        return pool(padded, window.kernel, window.strides, 0, window.dilations)

    return look


def _average_pool(node: Node) -> Operator | None:
    window = window_of(node, ())
    rank = len(window.kernel)
    if rank > 3 or any(step != 1 for step in window.dilations):
        return None
    rounds_up = bool(attribute(node, "ceil_mode", 0))
    counts_added = bool(attribute(node, "count_include_pad", 0))

    def sums(x: Tensor) -> Tensor:
        # A sum through a window is a convolution with ones, channel by channel.
        ones = x.new_ones((x.shape[1], 1, *window.kernel))
        return _CONVOLUTIONS[rank](x, ones, stride=window.strides, groups=x.shape[1])

    def look(x: Tensor) -> Tensor:
        padding = window.padding
        if padding is not None and not any(padding) and not rounds_up:
            return _AVERAGE_POOLS[rank](x, window.kernel, window.strides)
        # What lies beyond the padding is never counted.
        beyond = _beyond(x, window) if rounds_up else []
        inside = window.pad(torch.ones_like(x[:1]), float(counts_added))
        total = sums(functional.pad(window.pad(x), beyond))
        return total / sums(functional.pad(inside, beyond))

    return look


def _beyond(x: Tensor, window: Window) -> list[int]:
    """What the last windows lack behind each axis where a part of one counts.

    A window that would begin behind the input and the padding before it is left out:
    then there is too much, which is below 0. Given as `functional.pad` takes it.
    """
    sizes = tuple(x.shape[2:])
    found: list[int] = []
    for size, (before, after), kernel, stride, dilation in zip(
        sizes,
        window.ends_for(sizes),
        window.kernel,
        window.strides,
        window.dilations,
        strict=True,
    ):
        reach, whole = (kernel - 1) * dilation + 1, size + before + after
        last = math.ceil((whole - reach) / stride) * stride
        if last >= size + before:
            last -= stride
        found = [0, last + reach - whole, *found]
    return found


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _resize(node: Node) -> Operator | None:
    mode = attribute(node, "mode", "nearest")
    place = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if mode not in _TAPS or place not in _PLACES or attribute(node, "antialias", 0):
        return None
    if attribute(node, "exclude_outside", 0):
        return None
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return None

    axes = attribute(node, "axes", None)

    def resize(
        x: Tensor,
        _region: Tensor | None = None,
        scales: Tensor | None = None,
        sizes: Tensor | None = None,
    ) -> Tensor:
        where = range(x.dim()) if axes is None else axes
        given = scales if sizes is None else sizes
        for axis, number in zip(where, [] if given is None else given, strict=False):
            old = x.shape[axis]
            factor = float(number) if sizes is None else int(number) / old
            new = math.floor(old * factor) if sizes is None else int(number)
            # The size of a batch that was written down stands for that of any other.
            if axis and (new != old or factor != 1):
                x = _along(x, axis, new, factor, node)
        return x

    return resize


def _along(x: Tensor, axis: int, size: int, factor: float, node: Node) -> Tensor:
    """Resize one axis: a weighted sum of a few elements for each new one."""
    old = x.shape[axis]
    transform = attribute(node, "coordinate_transformation_mode", "half_pixel")
    where = _PLACES[transform](np.arange(size, dtype=np.float64), factor, size, old)
    indices, weights = _TAPS[attribute(node, "mode", "nearest")](where, node)
    places = torch.from_numpy(np.clip(indices, 0, old - 1)).to(x.device)
    if weights is None:
        return x.index_select(axis, places[0])
    shape = [1] * x.dim()
    shape[axis] = size
    total: Tensor | None = None
    for place, weight in zip(places, weights, strict=True):
        share = torch.from_numpy(weight.astype(np.float32)).to(x).reshape(shape)
        part = x.index_select(axis, place) * share
        total = part if total is None else total + part
    return x if total is None else total


def _nearest(where: Array, node: Node) -> tuple[Array, Array | None]:
    mode = attribute(node, "nearest_mode", "round_prefer_floor")
    rounded = {
        "round_prefer_floor": np.ceil(where - 0.5),
        "round_prefer_ceil": np.floor(where + 0.5),
        "floor": np.floor(where),
        "ceil": np.ceil(where),
    }[mode]
    return rounded[None].astype(np.int64), None


def _linear(where: Array, _node: Node) -> tuple[Array, Array | None]:
    low = np.floor(where)
    share = where - low
    indices = np.stack([low, low + 1]).astype(np.int64)
    return indices, np.stack([1 - share, share])


def _cubic(where: Array, node: Node) -> tuple[Array, Array | None]:
    """R. Keys, "Cubic convolution interpolation", IEEE Trans. ASSP 29(6), 1981."""
    a = attribute(node, "cubic_coeff_a", -0.75)
    low = np.floor(where)
    indices = np.stack([low + step for step in range(-1, 3)]).astype(np.int64)
    d = np.abs(where - indices)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return indices, np.where(d <= 1, near, far)


_TAPS: dict[str, Callable[[Array, Node], tuple[Array, Array | None]]] = {
    "cubic": _cubic,
    "linear": _linear,
    "nearest": _nearest,
}
_PLACES: dict[str, Callable[[Array, float, int, int], Array]] = {
    "align_corners": lambda x, _factor, new, old: x * (old - 1) / max(new - 1, 1),
    "asymmetric": lambda x, factor, _new, _old: x / factor,
    "half_pixel": lambda x, factor, _new, _old: (x + 0.5) / factor - 0.5,
    "half_pixel_symmetric": lambda x, factor, new, old: (
        old / 2 * (1 - new / (old * factor)) + (x + 0.5) / factor - 0.5
    ),
    "pytorch_half_pixel": lambda x, factor, new, _old: (
        (x + 0.5) / factor - 0.5 if new > 1 else x * 0
    ),
}
"""Where a new element lies among the old ones (ONNX, Resize)."""

BUILDERS: dict[str, Builder] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": same(lambda x: x.mean(_spatial(x), keepdim=True)),
    "GlobalMaxPool": same(lambda x: x.amax(_spatial(x), keepdim=True)),
    "MaxPool": _max_pool,
    "Resize": _resize,
}
"""What computes an operator, by its type."""

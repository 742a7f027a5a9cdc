"""Convolutions: what a convolution of a bounded kind cannot do, several can.

A convolution is a sum over its taps, so the taps can be shared out among convolutions
of smaller kernels on shifted inputs; a dilated kernel is a larger one with zeros in it;
a dilated convolution is one without on each phase of the input (M. Holschneider et
al., "A Real-Time Algorithm for Signal Analysis with the Help of the Wavelet
Transform", 1989; F. Yu, V. Koltun, arXiv:1511.07122); groups are convolutions side by
side; padding is an operator of its own. All sum the same products in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from skerry.adapt.rewrite.bounds import Bound, same_sum
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Shape, Site
from skerry.core.seams import Array
from skerry.graph import Value

BLOCKS = (64, 32, 16, 11, 7, 5, 3, 2)
"""Largest sides of the smaller kernels, in the order in which they are tried."""

MOST_PARTS = 64

_NO_PADS = [0, 0, 0, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conv:
    """A two-dimensional convolution with constant weights."""

    shape: Shape
    weights: Array
    bias: Array | None
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    group: int

    @property
    def kernel(self) -> Shape:
        return self.weights.shape[2:]

    @property
    def span(self) -> list[int]:
        """What the dilated kernel covers."""
        pairs = zip(self.kernel, self.dilations, strict=True)
        return [(size - 1) * dilation + 1 for size, dilation in pairs]

    @property
    def bound(self) -> Bound:
        gain = np.abs(self.weights).sum(axis=(1, 2, 3), dtype=np.float64)
        if self.bias is not None:
            gain = gain + np.abs(self.bias)
        terms = int(np.prod(self.weights.shape[1:]))
        return same_sum(terms, float(gain.max(initial=1.0)))

    def out(self) -> list[int]:
        """Height and width of the result."""
        return [
            (self.shape[2 + i] + self.pads[i] + self.pads[2 + i] - self.span[i])
            // self.strides[i]
            + 1
            for i in (0, 1)
        ]

    def draw(self, draft: Draft, x: Value) -> Value:
        """Add this convolution of a value."""
        operands = [draft.constant(np.ascontiguousarray(self.weights))]
        if self.bias is not None:
            operands.append(draft.constant(self.bias))
        return draft.op(
            "Conv",
            x,
            *operands,
            strides=self.strides,
            dilations=self.dilations,
            pads=self.pads,
            group=self.group,
        )


def _read(site: Site) -> _Conv | None:
    shape, result, weights = site.shape(), site.result_shape(), site.constant(1)
    if shape is None or result is None or weights is None or len(shape) != 4:
        return None
    bias = site.constant(2) if site.has(2) else None
    if site.has(2) and bias is None:
        return None
    found = _Conv(
        shape=shape,
        weights=weights,
        bias=bias,
        strides=site.integers("strides", [1, 1]),
        dilations=site.integers("dilations", [1, 1]),
        pads=site.integers("pads", _NO_PADS),
        group=site.attribute("group", 1),
    )
    return _with_automatic_pads(found, site.attribute("auto_pad", "NOTSET"), result)


def _with_automatic_pads(conv: _Conv, automatic: str, result: Shape) -> _Conv:
    if automatic in {"NOTSET", "VALID"}:
        return conv
    needed = [
        (result[2 + i] - 1) * conv.strides[i] + conv.span[i] - conv.shape[2 + i]
        for i in (0, 1)
    ]
    small = [max(one, 0) // 2 for one in needed]
    large = [max(one, 0) - half for one, half in zip(needed, small, strict=True)]
    is_lower = automatic == "SAME_LOWER"
    return replace(conv, pads=[*large, *small] if is_lower else [*small, *large])


def _padded(draft: Draft, x: Value, pads: list[int]) -> Value:
    return draft.pad(x, [0, 0, *pads[:2], 0, 0, *pads[2:]])


def _explicit_pads(site: Site) -> Iterator[Replacement]:
    conv = _read(site)
    if conv is None or not any(conv.pads):
        return
    draft = site.draft()
    x = _padded(draft, site.read(draft, 0), conv.pads)
    made = replace(conv, pads=_NO_PADS).draw(draft, x)
    yield site.to(draft, made, bound=conv.bound)


def _zero_filled(site: Site) -> Iterator[Replacement]:
    conv = _read(site)
    if conv is None or max(conv.dilations) == 1:
        return
    filled = np.zeros((*conv.weights.shape[:2], *conv.span), conv.weights.dtype)
    down, right = conv.dilations
    filled[:, :, ::down, ::right] = conv.weights
    draft = site.draft()
    made = replace(conv, weights=filled, dilations=[1, 1])
    yield site.to(draft, made.draw(draft, site.read(draft, 0)), bound=conv.bound)


def _phases(site: Site) -> Iterator[Replacement]:
    """Convolve each phase of the input by itself, as a batch."""
    conv = _read(site)
    if conv is None or max(conv.dilations) == 1 or conv.strides != [1, 1]:
        return
    batch, channels, *sides = conv.shape
    down, right = conv.dilations
    pads = list(conv.pads)
    for i, step in ((0, down), (1, right)):
        pads[2 + i] += -(sides[i] + conv.pads[i] + conv.pads[2 + i]) % step
    rows, columns = (
        (sides[i] + pads[i] + pads[2 + i]) // conv.dilations[i] for i in (0, 1)
    )
    draft = site.draft()
    x = _padded(draft, site.read(draft, 0), pads)
    x = draft.reshape(x, (batch, channels, rows, down, columns, right))
    x = draft.op("Transpose", x, perm=[0, 3, 5, 1, 2, 4])
    x = draft.reshape(x, (batch * down * right, channels, rows, columns))
    x = replace(conv, pads=_NO_PADS, dilations=[1, 1]).draw(draft, x)
    rows, columns = rows - conv.kernel[0] + 1, columns - conv.kernel[1] + 1
    filters = conv.weights.shape[0]
    x = draft.reshape(x, (batch, down, right, filters, rows, columns))
    x = draft.op("Transpose", x, perm=[0, 3, 4, 1, 5, 2])
    x = draft.reshape(x, (batch, filters, rows * down, columns * right))
    for axis, size, made in zip(
        (2, 3), conv.out(), (rows * down, columns * right), strict=True
    ):
        if size != made:
            x = draft.slice(x, 0, size, axis)
    yield site.to(draft, x, bound=conv.bound)


def _kernel_blocks(site: Site) -> Iterator[Replacement]:
    conv = _read(site)
    if conv is None:
        return
    height, width = conv.kernel
    for side in BLOCKS:
        parts = -(-height // side) * -(-width // side)
        if 1 < parts <= MOST_PARTS:
            yield _split_kernel(site, conv, min(side, height), min(side, width))


def _split_kernel(site: Site, conv: _Conv, rows: int, columns: int) -> Replacement:
    draft = site.draft()
    x = _padded(draft, site.read(draft, 0), conv.pads)
    made, bias = [], conv.bias
    for top in range(0, conv.kernel[0], rows):
        for left in range(0, conv.kernel[1], columns):
            block = conv.weights[:, :, top : top + rows, left : left + columns]
            part = x
            for axis, start in ((0, top), (1, left)):
                first = start * conv.dilations[axis]
                reach = (block.shape[2 + axis] - 1) * conv.dilations[axis] + 1
                stop = first + (conv.out()[axis] - 1) * conv.strides[axis] + reach
                part = draft.slice(part, first, stop, 2 + axis)
            small = replace(conv, weights=block, bias=bias, pads=_NO_PADS)
            made.append(small.draw(draft, part))
            bias = None
    return site.to(draft, draft.sum(made), bound=conv.bound)


def _groups(site: Site) -> Iterator[Replacement]:
    conv = _read(site)
    if conv is None or not 1 < conv.group <= MOST_PARTS:
        return
    read, write = conv.weights.shape[1], conv.weights.shape[0] // conv.group
    draft = site.draft()
    x = site.read(draft, 0)
    made = []
    for group in range(conv.group):
        mine = slice(group * write, (group + 1) * write)
        part = draft.slice(x, group * read, (group + 1) * read, 1)
        bias = None if conv.bias is None else conv.bias[mine]
        one = replace(conv, weights=conv.weights[mine], bias=bias, group=1)
        made.append(one.draw(draft, part))
    yield site.to(draft, draft.op("Concat", *made, axis=1), bound=conv.bound)


def _dense(site: Site) -> Iterator[Replacement]:
    """Write groups as one convolution with zeros between groups."""
    conv = _read(site)
    if conv is None or conv.group == 1:
        return
    read, write = conv.weights.shape[1], conv.weights.shape[0] // conv.group
    shape = (conv.weights.shape[0], read * conv.group, *conv.kernel)
    full = np.zeros(shape, conv.weights.dtype)
    for group in range(conv.group):
        mine = slice(group * write, (group + 1) * write)
        full[mine, group * read : (group + 1) * read] = conv.weights[mine]
    draft = site.draft()
    made = replace(conv, weights=full, group=1)
    yield site.to(draft, made.draw(draft, site.read(draft, 0)), bound=made.bound)


CONV_PADS = Rule(
    name="padding apart",
    replaces=frozenset({"Conv"}),
    advice="Pad before the convolution",
    source="ONNX standard, Conv and Pad",
    draw=_explicit_pads,
)
ZERO_FILLED = Rule(
    name="dilated kernel with zeros",
    replaces=frozenset({"Conv"}),
    advice="Write a dilated kernel as a larger one with zeros",
    source="arXiv:1511.07122, section 2",
    draw=_zero_filled,
)
PHASES = Rule(
    name="dilated convolution by phases",
    replaces=frozenset({"Conv"}),
    advice="Convolve each phase of a dilated convolution's input by itself",
    source="Holschneider et al. 1989; TensorFlow's SpaceToBatchND",
    draw=_phases,
)
KERNEL_BLOCKS = Rule(
    name="big kernel in blocks",
    replaces=frozenset({"Conv"}),
    advice="Split a big kernel into a sum of smaller convolutions",
    source="linearity of convolution",
    draw=_kernel_blocks,
)
GROUPS = Rule(
    name="groups side by side",
    replaces=frozenset({"Conv"}),
    advice="Split a grouped convolution into one a group",
    source="ONNX standard, Conv; AlexNet (Krizhevsky et al. 2012)",
    draw=_groups,
)
DENSE = Rule(
    name="groups as one kernel",
    replaces=frozenset({"Conv"}),
    advice="Write a grouped convolution as one with zeros between groups",
    source="ONNX standard, Conv",
    draw=_dense,
)

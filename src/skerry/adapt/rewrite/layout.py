"""Other views of the same numbers: axes at the end, strides, operands two at a time.

TensorFlow Lite takes a softmax over the last dimension alone; a Slice with a step is
a pooling with windows of one element and a stride; a Sum of many is Add after Add.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skerry.adapt.rewrite.bounds import (
    EXACT,
    FUNCTION_ERROR,
    gamma,
    of_peak,
    rounding,
    same_sum,
)
from skerry.adapt.rewrite.rule import Replacement, Rule, Site

_MANY = {"Max": "Max", "Mean": "Add", "Min": "Min", "Sum": "Add"}


def _last_axis(site: Site) -> Iterator[Replacement]:
    shape = site.shape()
    if shape is None:
        return
    last = len(shape) - 1
    axis = site.attribute("axis", -1) % len(shape)
    if axis == last:
        return
    order = [*range(axis), last, *range(axis + 1, last), axis]
    draft = site.draft()
    x = draft.transpose(site.read(draft, 0), order)
    made = draft.transpose(draft.op(site.node.op_type, x, axis=-1), order)
    bound = rounding(8 * (FUNCTION_ERROR + gamma(shape[axis])), of_peak)
    yield site.to(draft, made, bound=bound)


def _strides(site: Site) -> Iterator[Replacement]:
    """Cut out first, then take every n-th row and column by pooling."""
    shape = site.shape()
    operands = [site.constant(index) for index in (1, 2)]
    if shape is None or len(shape) != 4 or any(one is None for one in operands):
        return
    given_axes, steps = site.constant(3), site.constant(4)
    if steps is None or (site.has(3) and given_axes is None):
        return
    axes = range(len(steps)) if given_axes is None else given_axes.tolist()
    ends = (one.tolist() for one in operands if one is not None)
    rows = zip(axes, *ends, steps.tolist(), strict=True)
    draft = site.draft()
    x = site.read(draft, 0)
    strides = [1, 1, 1, 1]
    for axis, start, stop, step in rows:
        place = axis % 4
        if step < 1:
            return
        first, end, _ = slice(start, stop).indices(shape[place])
        strides[place] = step
        if (first, end) != (0, shape[place]):
            x = draft.slice(x, first, end, place)
    if strides[:2] != [1, 1] or strides[2:] == [1, 1]:
        return
    made = draft.op("MaxPool", x, kernel_shape=[1, 1], strides=strides[2:])
    yield site.to(draft, made, bound=EXACT)


def _pairs(site: Site) -> Iterator[Replacement]:
    kind, count = site.node.op_type, len(site.node.inputs)
    if count < 2 or (kind in {"Max", "Min"} and count == 2):
        return
    draft = site.draft()
    made = site.read(draft, 0)
    for index in range(1, count):
        made = draft.op(_MANY[kind], made, site.read(draft, index))
    if kind == "Mean":
        made = draft.op("Mul", made, 1 / count)
    peaks = [
        float(np.abs(one).max(initial=0))
        for index in range(count)
        if (one := site.constant(index)) is not None
    ]
    is_sum = kind in {"Mean", "Sum"}
    bound = same_sum(count, count + sum(peaks)) if is_sum else EXACT
    yield site.to(draft, made, bound=bound)


def _selection(site: Site) -> Iterator[Replacement]:
    """Cut out one place, or a run of places, and drop the dimension if it is one."""
    shape, result, places = site.shape(), site.result_shape(), site.constant(1)
    if (
        shape is None
        or result is None
        or places is None
        or site.constant(0) is not None
    ):
        return
    axis = site.attribute("axis", 0) % len(shape)
    wanted = places.reshape(-1) % shape[axis]
    if places.ndim > 1 or not wanted.size or (np.diff(wanted) != 1).any():
        return
    draft = site.draft()
    first, last = int(wanted[0]), int(wanted[-1])
    made = draft.slice(site.read(draft, 0), first, last + 1, axis)
    made = made if places.ndim else draft.reshape(made, result)
    yield site.to(draft, made, bound=EXACT)


def _nothing(site: Site) -> Iterator[Replacement]:
    """Read what it reads instead, unless the model's own input would be its result."""
    source = site.node.inputs[0]
    if source is None or source.producer() is None or source.is_graph_output():
        return
    draft = site.draft()
    yield site.to(draft, draft.read(source), bound=EXACT)


def _view(site: Site) -> Iterator[Replacement]:
    result = site.result_shape()
    if result is None:
        return
    draft = site.draft()
    made = draft.reshape(site.read(draft, 0), result)
    yield site.to(draft, made, bound=EXACT)


IDENTITY = Rule(
    name="Identity left out",
    replaces=frozenset({"Identity"}),
    advice="Leave Identity out",
    source="ONNX standard, Identity",
    draw=_nothing,
)
VIEW = Rule(
    name="another shape by Reshape",
    replaces=frozenset({"Flatten", "Squeeze", "Unsqueeze"}),
    advice="Write Flatten, Squeeze or Unsqueeze as Reshape",
    source="ONNX standard, Reshape",
    draw=_view,
)
SELECTION = Rule(
    name="Gather of a run as Slice",
    replaces=frozenset({"Gather"}),
    advice="Replace Gather of one place, or of places in a row, with Slice",
    source="ONNX standard, Gather and Slice",
    draw=_selection,
)
LAST_AXIS = Rule(
    name="softmax over the last axis",
    replaces=frozenset({"LogSoftmax", "Softmax"}),
    advice="Transpose so that the softmax is over the last dimension",
    source="TensorFlow Lite, SOFTMAX and LOG_SOFTMAX",
    draw=_last_axis,
)
STRIDED_SLICE = Rule(
    name="strided slice as pooling",
    replaces=frozenset({"Slice"}),
    advice="Replace Slice with a step by MaxPool with a window of one",
    source="ONNX standard, Slice and MaxPool",
    draw=_strides,
)
PAIRS = Rule(
    name="operands two at a time",
    replaces=frozenset(_MANY),
    advice="Write operators of many operands as ones of two",
    source="ONNX standard, Sum, Mean, Max and Min",
    draw=_pairs,
)

"""Means over more than a processor takes at once: the mean of the means of equal tiles.

The Edge TPU compiler refuses a mean over 1×256×128×3 and takes four tiles of it
(google-coral/edgetpu issue 461). The same sum in another order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from skerry.adapt.rewrite.bounds import same_sum
from skerry.adapt.rewrite.rule import Replacement, Rule, Site

TILES = (2, 3, 4, 5, 7, 8, 16, 32, 64)
AVERAGES = frozenset({"GlobalAveragePool", "ReduceMean"})


def _axes(site: Site) -> list[int]:
    """The dimensions that are averaged, ascending; none where no size is known."""
    shape = site.shape()
    if shape is None:
        return []
    if site.node.op_type == "GlobalAveragePool":
        return list(range(2, len(shape)))
    given = site.operator.attributes.get("axes", ())
    axes = given if isinstance(given, tuple) else (given,)
    if not axes and site.attribute("noop_with_empty_axes", 0):
        return []
    found = sorted({int(axis) % len(shape) for axis in axes})
    return found or list(range(len(shape)))


def _keeps(site: Site) -> bool:
    is_pool = site.node.op_type == "GlobalAveragePool"
    return is_pool or bool(site.attribute("keepdims", 1))


def _other_form(site: Site) -> Iterator[Replacement]:
    """Write one kind of mean over height and width as another."""
    shape = site.shape()
    if shape is None or len(shape) != 4 or _axes(site) != [2, 3]:
        return
    bound = same_sum(shape[2] * shape[3], 1.0)
    result = site.result_shape() or ()
    for op_type in ("GlobalAveragePool", "AveragePool", "ReduceMean"):
        draft = site.draft()
        x = site.read(draft, 0)
        if op_type == "AveragePool":
            made = draft.op(op_type, x, kernel_shape=list(shape[2:]))
        elif op_type == "ReduceMean":
            made = draft.mean(x, [2, 3])
        else:
            made = draft.op(op_type, x)
        if not _keeps(site):
            made = draft.reshape(made, result)
        if op_type != site.node.op_type:
            yield site.to(draft, made, bound=bound)


def _tiles(site: Site) -> Iterator[Replacement]:
    shape, axes = site.shape(), _axes(site)
    if shape is None or not axes:
        return
    size = math.prod(shape[axis] for axis in axes)
    for tiles in TILES:
        for axis in sorted(axes, key=lambda one: -shape[one]):
            if shape[axis] % tiles:
                continue
            draft = site.draft()
            x = site.read(draft, 0)
            length = shape[axis] // tiles
            means = [
                draft.mean(
                    draft.slice(x, i * length, (i + 1) * length, axis),
                    axes,
                    keepdims=int(_keeps(site)),
                )
                for i in range(tiles)
            ]
            made = draft.op("Mul", draft.sum(means), 1 / tiles)
            yield site.to(draft, made, bound=same_sum(size + tiles, 1.0))


def _by_axis(site: Site) -> Iterator[Replacement]:
    """Reduce one dimension after another."""
    shape, axes = site.shape(), _axes(site)
    if shape is None or len(axes) < 2:
        return
    for order in (axes, axes[::-1]):
        draft = site.draft()
        made = site.read(draft, 0)
        for axis in order:
            made = draft.mean(made, [axis])
        if not _keeps(site):
            made = draft.reshape(made, site.result_shape() or ())
        size = math.prod(shape[axis] for axis in axes)
        yield site.to(draft, made, bound=same_sum(size + len(axes), 1.0))


def _one_batch(site: Site) -> Iterator[Replacement]:
    """Join the dimensions before those that are reduced, in a batch of one."""
    shape, axes = site.shape(), _axes(site)
    if shape is None or not axes or axes != list(range(axes[0], axes[-1] + 1)):
        return
    before, after = math.prod(shape[: axes[0]]), math.prod(shape[axes[-1] + 1 :])
    reduced = [shape[axis] for axis in axes]
    laid = (1, before, *reduced, *((after,) if after > 1 else ()))
    if laid == shape:
        return
    draft = site.draft()
    x = draft.reshape(site.read(draft, 0), laid)
    made = draft.mean(x, list(range(2, 2 + len(axes))))
    made = draft.reshape(made, site.result_shape() or ())
    yield site.to(draft, made, bound=same_sum(math.prod(reduced), 1.0))


MEAN_IN_ONE_BATCH = Rule(
    name="mean in a batch of one",
    replaces=AVERAGES,
    advice="Reshape so that the mean is taken in a batch of one",
    source="ONNX standard, ReduceMean and Reshape",
    draw=_one_batch,
)
MEAN_FORM = Rule(
    name="mean as pooling",
    replaces=AVERAGES,
    advice="Write the mean as another kind of mean: pooling or ReduceMean",
    source="ONNX standard, GlobalAveragePool, AveragePool and ReduceMean",
    draw=_other_form,
)
MEAN_BY_AXIS = Rule(
    name="mean, one dimension at a time",
    replaces=AVERAGES,
    advice="Take the mean of one dimension after another",
    source="Fubini's theorem for finite sums",
    draw=_by_axis,
)
MEAN_TILES = Rule(
    name="mean in tiles",
    replaces=AVERAGES,
    advice="Take the mean in tiles and average them",
    source="google-coral/edgetpu issue 461",
    draw=_tiles,
)

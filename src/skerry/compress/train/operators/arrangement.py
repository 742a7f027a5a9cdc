"""Operators that rearrange elements, pick some, or speak of shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skerry.compress.train.operators.making import Builder, Operator, ints, same
from skerry.graph import Node, attribute, dims
from skerry.runtimes.torch import Tensor, functional, torch

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


def _reshape(node: Node) -> Operator:
    allows_zero = attribute(node, "allowzero", 0)
    source = node.inputs[0]
    known = dims(source) if source is not None else None

    def reshape(x: Tensor, shape: Tensor) -> Tensor:
        sizes = ints(shape)
        if not allows_zero:
            # A size that was written down for one batch stands for that of any other.
            if known and sizes and sizes[0] == known[0]:
                sizes[0] = 0
            sizes = [
                size or (x.shape[axis] if axis < x.dim() else 0)
                for axis, size in enumerate(sizes)
            ]
        return x.reshape(sizes)

    return reshape


def _flatten(node: Node) -> Operator:
    axis = attribute(node, "axis", 1)

    def flatten(x: Tensor) -> Tensor:
        place = axis % x.dim() if axis < 0 else axis
        return x.reshape(int(np.prod(x.shape[:place], dtype=np.int64)), -1)

    return flatten


def _transpose(node: Node) -> Operator:
    order = attribute(node, "perm", None)
    return lambda x: x.permute(*(order or range(x.dim() - 1, -1, -1)))


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(ints(axes)))


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.dim() + axes.numel()
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _concat(node: Node) -> Operator:
    axis = attribute(node, "axis", 0)
    return lambda *tensors: torch.cat(tensors, dim=axis)


def _split(node: Node) -> Operator:
    axis, parts = attribute(node, "axis", 0), len(node.outputs)

    def split(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        if sizes is not None:
            return tuple(torch.split(x, ints(sizes), dim=axis))
        return tuple(torch.split(x, -(-x.shape[axis] // parts), dim=axis))

    return split


def _slice(
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = ints(starts), ints(ends)
    where = range(len(first)) if axes is None else ints(axes)
    strides = [1] * len(first) if steps is None else ints(steps)
    for axis, start, end, step in zip(where, first, last, strides, strict=True):
        size = x.shape[axis]
        if step > 0:
            begin, stop, _ = slice(start, end, step).indices(size)
            x = x[_at(x, axis, slice(begin, max(begin, stop), step))]
        else:
            places = range(*slice(start, _before(end, size), step).indices(size))
            x = x.index_select(axis, torch.tensor(places, device=x.device).long())
    return x


def _before(end: int, size: int) -> int | None:
    """The end of a slice that runs backwards: before the first one there is none."""
    return None if end < -size else end


def _at(x: Tensor, axis: int, place: slice) -> tuple[slice, ...]:
    whole = [slice(None)] * x.dim()
    whole[axis] = place
    return tuple(whole)


def _gather(node: Node) -> Operator:
    axis = attribute(node, "axis", 0)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        place = axis % x.dim()
        flat = indices.to(x.device).long().reshape(-1)
        flat = torch.where(flat < 0, flat + x.shape[place], flat)
        picked = x.index_select(place, flat)
        shape = (*x.shape[:place], *indices.shape, *x.shape[place + 1 :])
        return picked.reshape(shape)

    return gather


def _gather_elements(node: Node) -> Operator:
    axis = attribute(node, "axis", 0)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        places = indices.to(x.device).long()
        places = torch.where(places < 0, places + x.shape[axis], places)
        return torch.gather(x, axis, places)

    return gather


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(ints(shape))))


def _tile(x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(*ints(repeats))


def _pad(node: Node) -> Operator | None:
    mode = _PAD_MODES.get(attribute(node, "mode", "constant"))
    if mode is None:
        return None

    def pad(
        x: Tensor,
        pads: Tensor,
        value: Tensor | None = None,
        axes: Tensor | None = None,
    ) -> Tensor:
        numbers = ints(pads)
        where = range(x.dim()) if axes is None else ints(axes)
        half = len(numbers) // 2
        ends = [(0, 0)] * x.dim()
        for index, axis in enumerate(where):
            ends[axis] = (numbers[index], numbers[half + index])
        if mode == "constant":
            # torch counts from the last axis.
            flat = [number for pair in reversed(ends) for number in pair]
            fill = 0.0 if value is None else value.item()
            return functional.pad(x, flat, value=fill)
        return _mirrored(x, ends, mode)

    return pad


def _mirrored(x: Tensor, ends: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """Pad with what is there: torch does that for some ranks only."""
    for axis, (before, after) in enumerate(ends):
        if before or after:
            places = np.pad(
                np.arange(x.shape[axis]),
                (before, after),
                mode="reflect" if mode == "reflect" else "edge",
            )
            x = x.index_select(axis, torch.from_numpy(places).to(x.device))
    return x


def _shape(node: Node) -> Operator:
    start, end = attribute(node, "start", 0), attribute(node, "end", None)
    return lambda x: torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


def _constant_of_shape(node: Node) -> Operator:
    given = node.attributes.get("value")
    filling = np.zeros(1, np.float32) if given is None else given.value.numpy()
    value = torch.from_numpy(np.array(filling).reshape(()))
    return lambda shape: value.expand(ints(shape)).clone()


def _range(start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _depth_to_space(node: Node) -> Operator:
    block = attribute(node, "blocksize", 1)
    if attribute(node, "mode", "DCR") == "CRD":
        return lambda x: functional.pixel_shuffle(x, block)

    def spread(x: Tensor) -> Tensor:
        n, depth, high, wide = x.shape
        kept = depth // block**2
        parts = x.reshape(n, block, block, kept, high, wide)
        ordered = parts.permute(0, 3, 4, 1, 5, 2)
        return ordered.reshape(n, kept, high * block, wide * block)

    return spread


def _space_to_depth(node: Node) -> Operator:
    block = attribute(node, "blocksize", 1)
    if attribute(node, "mode", "DCR") == "CRD":
        return lambda x: functional.pixel_unshuffle(x, block)

    def gathered(x: Tensor) -> Tensor:
        n, depth, high, wide = x.shape
        parts = x.reshape(n, depth, high // block, block, wide // block, block)
        ordered = parts.permute(0, 3, 5, 1, 2, 4)
        return ordered.reshape(n, depth * block**2, high // block, wide // block)

    return gathered


def _trilu(node: Node) -> Operator:
    cut = torch.triu if attribute(node, "upper", 1) else torch.tril
    return lambda x, k=None: cut(x, 0 if k is None else int(k))


def _one_hot(node: Node) -> Operator:
    axis = attribute(node, "axis", -1)

    def one_hot(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth)
        places = indices.long()
        places = torch.where(places < 0, places + count, places)
        classes = torch.arange(count, device=places.device)
        hot = places.unsqueeze(-1) == classes
        if axis != -1:
            hot = hot.movedim(-1, axis)
        return torch.where(hot, values[1], values[0])

    return one_hot


def _einsum(node: Node) -> Operator:
    equation = attribute(node, "equation", "")
    return lambda *tensors: torch.einsum(equation, *tensors)


BUILDERS: dict[str, Builder] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Einsum": _einsum,
    "Expand": same(_expand),
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": same(_range),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": same(_size),
    "Slice": same(_slice),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": same(_squeeze),
    "Tile": same(_tile),
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": same(_unsqueeze),
}
"""What computes an operator, by its type."""

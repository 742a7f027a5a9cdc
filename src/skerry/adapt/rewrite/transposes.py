"""Transposes: of fewer dimensions, in tiles, and none where they cancel.

All of these move elements and compute nothing, so each bit stays as it was. That any
permutation is a sequence of exchanges of neighbouring blocks is insertion sort (D.
Knuth, "The Art of Computer Programming", volume 3, section 5.2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from skerry.adapt.operators import ELEMENTWISE
from skerry.adapt.rewrite.bounds import EXACT
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Shape, Site
from skerry.graph import Node, Value, attribute, sole_use

TILES = (2, 4, 8, 16, 32, 64, 128)


def _order(site: Site, rank: int) -> list[int]:
    return site.integers("perm", list(range(rank))[::-1])


def _few_dimensions(site: Site) -> Iterator[Replacement]:
    """Merge neighbours that stay neighbours; then exchange one pair of blocks a step.

    With sizes [a, b, c, d], the exchange of blocks b and c is Transpose 0, 2, 1, 3.
    """
    shape = site.shape()
    if shape is None:
        return
    order = _order(site, len(shape))
    merged, merged_order = merge(shape, order)
    if len(merged) < len(shape):
        draft = site.draft()
        x = draft.reshape(site.read(draft, 0), merged)
        made = draft.transpose(x, merged_order)
        result = tuple(shape[axis] for axis in order)
        yield site.to(draft, draft.reshape(made, result), bound=EXACT)
    draft = site.draft()
    made = exchange(draft, site.read(draft, 0), shape, order)
    yield site.to(draft, made, bound=EXACT)


def merge(shape: Shape, order: list[int]) -> tuple[Shape, list[int]]:
    """Join dimensions that follow each other before and after; drop those of size 1."""
    kept = [axis for axis in order if shape[axis] != 1]
    groups: list[list[int]] = []
    source = sorted(kept)
    follows = dict(pairwise(source))
    for axis in kept:
        if groups and follows.get(groups[-1][-1]) == axis:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    ranked = sorted(groups)
    sizes = tuple(math.prod(shape[axis] for axis in group) for group in ranked)
    return sizes or (1,), [ranked.index(group) for group in groups] or [0]


def exchange(draft: Draft, x: Value, shape: Shape, order: list[int]) -> Value:
    """Transpose by exchanges of neighbouring blocks, each in four dimensions."""
    axes = list(range(len(shape)))
    for place, axis in enumerate(order):
        found = axes.index(axis)
        if found == place:
            continue
        parts = (axes[:place], axes[place:found], axes[found : found + 1])
        rest = axes[found + 1 :]
        sizes = tuple(math.prod(shape[a] for a in part) for part in (*parts, rest))
        x = draft.op("Transpose", draft.reshape(x, sizes), perm=[0, 2, 1, 3])
        axes = [*parts[0], *parts[2], *parts[1], *rest]
    return draft.reshape(x, tuple(shape[axis] for axis in order))


def _tiles(site: Site) -> Iterator[Replacement]:
    """Cut one of the two largest dimensions, transpose each part, and join them."""
    shape = site.shape()
    if shape is None:
        return
    order = _order(site, len(shape))
    for tiles in TILES:
        for axis in sorted(range(len(shape)), key=lambda one: -shape[one])[:2]:
            if shape[axis] < tiles:
                continue
            draft = site.draft()
            x = site.read(draft, 0)
            size = math.ceil(shape[axis] / tiles)
            starts = range(0, shape[axis], size)
            parts = [
                draft.slice(x, start, min(start + size, shape[axis]), axis)
                for start in starts
            ]
            moved = [draft.op("Transpose", part, perm=order) for part in parts]
            made = draft.op("Concat", *moved, axis=order.index(axis))
            yield site.to(draft, made, bound=EXACT)


def _cancel(site: Site) -> Iterator[Replacement]:
    """Take out a transpose and the one that undoes it behind elementwise operators."""
    shape = site.shape()
    if shape is None:
        return
    order = _order(site, len(shape))
    chain: list[Node] = []
    last = site.node
    while (reader := _only_reader(last)) is not None:
        if reader.op_type == "Transpose":
            break
        if not is_elementwise(reader):
            return
        chain.append(reader)
        last = reader
    if reader is None:
        return
    back = attribute(reader, "perm", list(range(len(shape)))[::-1])
    total = both(order, back)
    draft = site.draft()
    x = site.read(draft, 0)
    for node in chain:
        more = [value and site.take(draft, value) for value in node.inputs[1:]]
        x = draft.like(node, x, *more)
    yield site.to(draft, draft.transpose(x, total), bound=EXACT, root=reader)


def is_elementwise(node: Node) -> bool:
    """Whether a node is one of `ELEMENTWISE`, as the ONNX standard defines it."""
    return node.domain == "" and node.op_type in ELEMENTWISE


def both(first: Sequence[int], then: Sequence[int]) -> list[int]:
    """The one permutation that two, one after the other, amount to."""
    return [first[axis] for axis in then]


def _only_reader(node: Node) -> Node | None:
    use = sole_use(node.outputs[0])
    return use[0] if use is not None and use[1] == 0 else None


TRANSPOSE_CANCEL = Rule(
    name="transposes that cancel",
    replaces=frozenset({"Transpose"}),
    advice="Take out transposes that undo each other",
    source="a permutation and its inverse; f of each element commutes with both",
    draw=_cancel,
)
TRANSPOSE_RANK = Rule(
    name="transpose of few dimensions",
    replaces=frozenset({"Transpose"}),
    advice="Write Transpose as ones of at most four dimensions",
    source="insertion sort: Knuth, TAOCP 3, section 5.2.1",
    draw=_few_dimensions,
)
TRANSPOSE_TILES = Rule(
    name="transpose in tiles",
    replaces=frozenset({"Transpose"}),
    advice="Transpose in tiles and join them",
    source="rknn-toolkit2 issue 490: a limit on the product of sizes",
    draw=_tiles,
)

"""Numbers behind a model's last layers that are the picture's own sides."""

from __future__ import annotations

import math

import numpy as np

from skerry.core.seams import Array
from skerry.graph._onnx import Node
from skerry.graph.model_graph import Graph
from skerry.graph.resolution.follow import Followed
from skerry.graph.resolution.grids import Sides
from skerry.graph.resolution.known import refuse

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SCALING = frozenset({"Clip", "Div", "Max", "Min", "Mul"})
_SHORTEST = 16
"""Sides under this are numbers like any other."""

_CORNERS = (2, 4)
"""How many numbers say a place or a box."""


def scaled_lengths(
    graph: Graph, followed: Followed, old: Sides, new: Sides
) -> dict[tuple[Node, int], Array]:
    """Find what scales boxes by the picture's sides, and what it must hold.

    Args:
        graph: The graph that was followed.
        followed: What that found.
        old: Rows and columns before.
        new: Rows and columns after.

    Returns:
        New constants by node and the index of its input.

    Raises:
        ModelError: A number is a side of the picture, and it cannot be told whether by
            chance.
    """
    changes: dict[tuple[Node, int], Array] = {}
    for node in _behind_layers(graph):
        for index, value in enumerate(node.inputs):
            known = None if value is None else followed.known.get(value)
            if known is None or not known.is_constant or known.old is None:
                continue
            if known.old.size > max(_CORNERS) or known.old.dtype.kind != "f":
                continue
            made = [_scaled(node, float(x), old, new) for x in known.old.reshape(-1)]
            array = np.array(made, known.old.dtype).reshape(known.old.shape)
            if np.array_equal(array, known.old):
                continue
            axes = followed.known[node.outputs[0]].axes
            is_box = known.old.size in _CORNERS or (axes and axes[-1].old in _CORNERS)
            if not is_box and not any(axis.follows for axis in axes):
                raise refuse(
                    node,
                    f"holds {known.old.reshape(-1).tolist()}, which may be a side of "
                    "the picture or any number",
                )
            changes[node, index] = array
    return changes


def _behind_layers(graph: Graph) -> list[Node]:
    """Nodes that scale or limit what the last layers gave."""
    behind: set[Node] = set()
    before: set[Node] = set()
    for node in graph.nodes:
        makers = {v.producer() for v in node.inputs if v is not None} - {None}
        if any(one in behind or one.op_type in _LAYERS for one in makers if one):
            behind.add(node)
    for node in reversed(graph.nodes):
        readers = {use.node for value in node.outputs for use in value.uses()}
        if any(one in before or one.op_type in _LAYERS for one in readers):
            before.add(node)
    return [
        node
        for node in graph.nodes
        if node in behind and node not in before and node.op_type in _SCALING
    ]


def _scaled(node: Node, number: float, old: Sides, new: Sides) -> float:
    """The number at the new resolution: another one where it is a side, or 1 ÷ it."""
    found = {_ratio(number, *sides) for sides in zip(old, new, strict=True)} - {None}
    if len(found) > 1:
        raise refuse(
            node,
            f"holds {number:g}, the picture's height and width both",
            "Change height and width by the same factor.",
        )
    ratio = next(iter(found), None)
    return number if ratio is None else number * ratio


def _ratio(number: float, old: int, new: int) -> float | None:
    if old < _SHORTEST:
        return None
    if math.isclose(number, old, rel_tol=1e-6):
        return new / old
    return old / new if math.isclose(number * old, 1, rel_tol=1e-6) else None

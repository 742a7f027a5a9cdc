"""What makes an operator of torch out of a node of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.graph import Node
from skerry.runtimes.torch import Tensor

Operator = Callable[..., Any]
"""From tensors, None for an input left out, to a tensor or a tuple of them."""

Builder = Callable[[Node], Operator | None]
"""From a node to what computes it; None where its attributes ask for too much."""


def same(function: Operator) -> Builder:
    """Return a builder for an operator without attributes."""
    return lambda _node: function


def ints(tensor: Tensor) -> list[int]:
    """The numbers of a tensor that says shapes, axes or places."""
    return [int(number) for number in tensor.reshape(-1).tolist()]


def makes_one(node: Node) -> bool:
    """Whether only the first output of a node is of any use."""
    return not any(
        value.uses() or value.is_graph_output() for value in node.outputs[1:]
    )

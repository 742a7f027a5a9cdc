"""The tensors in a model file, by where their bytes lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from skerry.evolve.delta.kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A constant of a model.

    Attributes:
        name: What it is called; unique in its file.
        kind: What it is made of.
        shape: Its dimensions.
        offset: Where its bytes begin.
        size: How many bytes it has.
        scale: The tensor of float32 that it is multiplied with, or empty.
        axis: Which dimension has a scale each.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    offset: int
    size: int
    scale: str = ""
    axis: int = 0

    @property
    def end(self) -> int:
        """Where its bytes end."""
        return self.offset + self.size

    @property
    def inner(self) -> int:
        """How many values in a row share a scale."""
        return math.prod(self.shape[self.axis + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is known of a model file.

    Attributes:
        tensors: In the order of the file; they do not overlap.
        products: Scales of sums: by their tensor, those of the single scale of the
            inputs and of the scales of the weights that they are the product of.
    """

    tensors: tuple[Tensor, ...] = ()
    products: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def in_order(tensors: Sequence[Tensor], size: int) -> tuple[Tensor, ...]:
    """Those that lie in a file of this size, each of its length, none over another."""
    found: list[Tensor] = []
    end = 0
    for one in sorted(tensors, key=lambda one: (one.offset, -one.size)):
        per_byte = 2 if one.kind is Kind.INT4 else 1
        wanted = -(-math.prod(one.shape) * one.kind.width // per_byte)
        if one.size and one.offset >= end and one.end <= size and one.size == wanted:
            found.append(one)
            end = one.end
    return tuple(found)

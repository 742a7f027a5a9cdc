"""What is known of a value at two resolutions."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph._onnx import Node
from skerry.graph.resolution.axes import Axes, axis_of

HINT = "Export the model again at the resolution that you want."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What is known of a value.

    Attributes:
        axes: At both resolutions.
        dtype: The numpy dtype's name.
        old: What it holds at the old resolution, where that is constant.
        new: What it holds at the new one.
    """

    axes: Axes
    dtype: str
    old: Array | None = None
    new: Array | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it holds the same at both resolutions."""
        return self.old is not None and self.old is self.new

    @property
    def follows(self) -> bool:
        """Whether it depends on the resolution."""
        is_other = self.old is not self.new
        return is_other or any(axis.follows for axis in self.axes)


def numbers(old: Array, new: Array) -> Known:
    """Known content: the same array twice where it does not depend on anything."""
    axes = tuple(axis_of(*sizes) for sizes in zip(old.shape, new.shape, strict=True))
    return Known(axes=axes, dtype=old.dtype.name, old=old, new=new)


def refuse(node: Node, why: str, hint: str = HINT) -> ModelError:
    """The error that names a node."""
    return ModelError(
        f"cannot change the resolution: the {node.op_type} node {node.name!r} {why}",
        hint=hint,
    )

"""What computes each operator of the ONNX standard with torch."""

from __future__ import annotations

from skerry.compress.train.operators import (
    arrangement,
    elementwise,
    reductions,
    windows,
)
from skerry.compress.train.operators.making import Builder, Operator

__all__ = ["BUILDERS", "Builder", "Operator"]

BUILDERS: dict[str, Builder] = {
    **arrangement.BUILDERS,
    **elementwise.BUILDERS,
    **reductions.BUILDERS,
    **windows.BUILDERS,
}
"""From a node to what computes it, by its operator."""

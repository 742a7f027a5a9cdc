"""Everything that is asked of a toolchain."""

from __future__ import annotations

import math

from skerry.adapt.probe import elementwise, shapes, windows
from skerry.adapt.probe.cases import Case
from skerry.adapt.probe.sweep import Sweep

DTYPES = ("int8", "uint8", "int16", "int32", "float16", "float32")
"""What each sweep is tried in."""


def all_sweeps() -> tuple[Sweep, ...]:
    """Everything that is asked, in the order in which tables list it."""
    return (
        *elementwise.unary(),
        *elementwise.binary(),
        *windows.convolutions(),
        *windows.transposed_convolutions(),
        *shapes.products(),
        *windows.pools(),
        *shapes.reductions(),
        *shapes.moves(),
        *windows.resizes(),
    )


def work_bytes(case: Case) -> int:
    """Bytes that a case reads and writes, weights included."""
    width = {"int16": 2, "float16": 2, "int32": 4, "float32": 4}.get(case.dtype, 1)
    tensors = (*case.shapes, *case.weights, *(case.output,) * case.outputs)
    return sum(math.prod(shape) for shape in tensors) * width

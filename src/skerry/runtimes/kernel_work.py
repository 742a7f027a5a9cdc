"""What a kernel computes and moves, from the shapes that a runtime says it ran on.

Runtimes fuse, reorder and pad: the shapes that really ran are theirs, not the graph's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CONVOLUTIONS = frozenset(
    {
        "Conv",
        "ConvInteger",
        "Convolution",
        "FusedConv",
        "GroupConvolution",
        "NhwcFusedConv",
        "QLinearConv",
    }
)
_TRANSPOSED = frozenset({"ConvTranspose", "Deconvolution"})
_PRODUCTS = frozenset(
    {
        "DynamicQuantizeMatMul",
        "FullyConnected",
        "FusedGemm",
        "FusedMatMul",
        "Gemm",
        "MatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QGemm",
        "QLinearMatMul",
    }
)
_BYTES = {"64": 8, "32": 4, "16": 2, "8": 1, "float": 4, "double": 8, "bool": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """A tensor that a kernel read or wrote."""

    dtype: str
    sizes: tuple[int, ...]


def count_macs(
    op_type: str, inputs: Sequence[Shaped], outputs: Sequence[Shaped]
) -> int | None:
    """Multiply-accumulates of one call.

    Args:
        op_type: The kernel's type, in the runtime's words; what follows a space is
            left out.
        inputs: What it reads, weights too where the runtime tells of them.
        outputs: What it writes.

    Returns:
        None where it multiplies nothing, or the runtime does not tell enough.
    """
    kind = op_type.partition(" ")[0]
    if not inputs or not outputs:
        return None
    read, made = inputs[0].sizes, outputs[0].sizes
    if kind in _PRODUCTS:
        return math.prod(made) * read[-1] if read else None
    if kind not in _CONVOLUTIONS | _TRANSPOSED:
        return None
    weight = _weight(inputs)
    if weight is None:
        return None
    # Weights of [group, out, in, …] where OpenVINO convolves in groups.
    of_one = math.prod(weight[2 if len(weight) > len(read) else 1 :])
    return math.prod(read if kind in _TRANSPOSED else made) * of_one


def count_bytes(inputs: Sequence[Shaped], outputs: Sequence[Shaped]) -> int:
    """Bytes of all that a kernel reads and writes, each once."""
    return sum(
        math.prod(each.sizes) * _width(each.dtype) for each in (*inputs, *outputs)
    )


def _weight(inputs: Sequence[Shaped]) -> tuple[int, ...] | None:
    rank = len(inputs[0].sizes)
    for each in inputs[1:]:
        if rank > 2 and len(each.sizes) in (rank, rank + 1):
            return each.sizes
    return None


def _width(dtype: str) -> int:
    return next((size for end, size in _BYTES.items() if dtype.endswith(end)), 1)

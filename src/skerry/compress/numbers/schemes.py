"""How numbers are quantized: the width, the sign, the symmetry, the grouping.

Uniform affine quantization writes a real number x as an integer code q with
x ≈ scale · (q - zero_point), as Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877), section
2.1, and the ONNX operators QuantizeLinear and DequantizeLinear have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean

Method = Literal["minmax", "percentile", "mse", "entropy"]
"""How a range is chosen from samples: all of them; all but the outermost; the
range with the least mean squared error; or that in which quantized numbers are
distributed most as they were."""

SMALLEST_BITS = 2
LARGEST_BITS = 16
BYTE_BITS = 8
PACKED_BITS = 4
"""Codes of which a file holds two a byte."""
_SMALLEST_PERCENTILE = 50.0
_LARGEST_PERCENTILE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How one tensor is quantized.

    Attributes:
        bits: The width of a code, 2 to 16. In memory up to 8 bits are one a
            byte, more take two; a file packs two 4-bit codes into a byte.
        signed: Whether codes are signed.
        symmetric: Whether the range is as wide below zero as above. The zero point is
            then the middle code: 0 where signed, 2^(bits - 1) where not.
        axis: The axis of the channels, each with its own scale and zero point;
            negative counts from the last; None for one scale for the whole tensor.
        narrow: Whether the lowest code is left out, so that signed symmetric codes
            run from -127 to 127 (Jacob et al., section 3.1 and appendix B: the sum of
            two products of such weights then fits int16, which kernels use).
        method: How a range is chosen from samples.
        percentile: For the method `percentile`: the part of the samples kept within
            the range, over 50 and up to 100.

    Raises:
        UsageError: One of them is out of bounds.

    Example:
        >>> scheme = Scheme(axis=0, narrow=True)
        >>> scheme.qmin, scheme.qmax, scheme.dtype
        (-127, 127, dtype('int8'))
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = True
    axis: int | None = None
    narrow: bool = False
    method: Method = "minmax"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not _is_integer(self.bits) or not SMALLEST_BITS <= self.bits <= LARGEST_BITS:
            raise UsageError(
                f"bits is {self.bits!r}, expected a whole number from "
                f"{SMALLEST_BITS} to {LARGEST_BITS}",
                hint="8 is what most hardware runs; wider tensors stay float.",
            )
        if self.axis is not None and not _is_integer(self.axis):
            raise UsageError(
                f"axis is {self.axis!r}, expected a whole number or None",
                hint="Name one axis for scales per channel, or None for one scale.",
            )
        if self.method not in get_args(Method):
            raise UsageError(
                f"there is no method {self.method!r} to choose a range",
                hint=did_you_mean(str(self.method), get_args(Method)),
            )
        if (
            not isinstance(self.percentile, int | float)
            or not _SMALLEST_PERCENTILE < self.percentile <= _LARGEST_PERCENTILE
        ):
            raise UsageError(
                f"percentile is {self.percentile!r}, expected over 50 and up to 100",
                hint="99.99 leaves out one sample in ten thousand.",
            )

    @property
    def qmin(self) -> int:
        """The lowest code."""
        lowest = -(1 << (self.bits - 1)) if self.signed else 0
        return lowest + int(self.narrow)

    @property
    def qmax(self) -> int:
        """The highest code."""
        return (1 << (self.bits - int(self.signed))) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype that codes are stored in."""
        width = BYTE_BITS if self.bits <= BYTE_BITS else LARGEST_BITS
        return np.dtype(f"{'int' if self.signed else 'uint'}{width}")


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


INT8_WEIGHTS = Scheme(axis=0, narrow=True)
"""Weights of convolutions (OIHW): symmetric, one scale an output channel, -127 to 127
(Krishnamoorthi, arXiv:1806.08342, section 3.1)."""

INT8_ACTIVATIONS = Scheme(symmetric=False)
"""Activations as -128 to 127 with a zero point, one scale a tensor."""

UINT8_ACTIVATIONS = Scheme(signed=False, symmetric=False)
"""Activations as 0 to 255 with a zero point, one scale a tensor."""

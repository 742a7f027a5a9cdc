"""What rounds in a module as a pair of QuantizeLinear and DequantizeLinear does.

Both divide by the scale, round half to even, and clip to the range of the codes (ONNX
operator specification, QuantizeLinear).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from skerry.core.seams import Array
from skerry.runtimes.torch import Tensor, nn, torch

LIMITS = {
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """A place where a graph rounds.

    Attributes:
        name: The name of the initializer that holds the scale: pairs that share it
            share one quantizer.
        kind: What is rounded: an `activation`; a `weight` of a layer; the `bias` of
            one; or a `constant` that is no parameter.
        source: The name of the value that is rounded: of an activation, or of the
            initializer that holds the codes.
        consumers: The names of the nodes that read what is rounded.
        scale: The scale, float32 [] or [channels].
        zero_point: The code of 0, integers of the same shape.
        axis: Of the channels; None where there is one scale.
        dtype: Of the codes, such as `uint8` or `int4`.
    """

    name: str
    kind: Literal["activation", "weight", "bias", "constant"]
    source: str
    consumers: tuple[str, ...]
    scale: Array
    zero_point: Array
    axis: int | None
    dtype: str

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return LIMITS[self.dtype]


class Rounder(nn.Module):
    """Rounds as a pair says; a class that trains its scale derives from it.

    Gradients pass where nothing is clipped (the straight-through estimator; Y. Bengio,
    N. Léonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic
    Neurons", 2013).

    Args:
        pair: The place; scale and zero point are as it has them.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.axis = pair.axis
        self.low, self.high = pair.limits
        self.register_buffer("scale", torch.tensor(pair.scale, dtype=torch.float32))
        zero_point = torch.tensor(pair.zero_point.astype("int64"), dtype=torch.float32)
        self.register_buffer("zero_point", zero_point)

    def step(self) -> Tensor:
        """The scale that is rounded by, above 0, float32 [] or [channels]."""
        return self.scale

    def along(self, parameter: Tensor, x: Tensor) -> Tensor:
        """Lay a scale or zero point out so that it broadcasts over a tensor."""
        if self.axis is None or not parameter.dim():
            return parameter
        shape = [1] * x.dim()
        shape[self.axis] = -1
        return parameter.reshape(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Round; the gradient is that of clipping."""
        step, zero = self.along(self.step(), x), self.along(self.zero_point, x)
        # Rounded before the zero point is added, as the standard has it: what lies
        # halfway goes to the even multiple of the scale.
        clipped = torch.clamp(x / step, self.low - zero, self.high - zero)
        return (clipped + (torch.round(clipped) - clipped).detach()) * step

    def codes(self, x: Tensor) -> Array:
        """The codes of a tensor, int64 of its shape."""
        with torch.no_grad():
            step, zero = self.along(self.step(), x), self.along(self.zero_point, x)
            # The very numbers that `forward` computes with, clipped without overflow.
            rounded = torch.round(x / step).double() + zero
            clipped = torch.clamp(rounded, self.low, self.high)
        found: Array = clipped.cpu().numpy().astype("int64")
        return found


class BiasRounder(Rounder):
    """Rounds a bias to the sums that it is added to.

    Args:
        pair: The place.
        read: What rounds the input of the layer.
        weight: What rounds its weights.
    """

    def __init__(self, pair: Pair, read: Rounder, weight: Rounder) -> None:
        super().__init__(pair)
        # Not modules of this one: they are the layer's own, and trained there.
        self._factors = (read, weight)

    def step(self) -> Tensor:
        """The product of the scales of input and weights (Jacob et al. 2018, 2.4)."""
        read, weight = self._factors
        return (read.step() * weight.step()).detach()


Quantizing = Callable[[Pair], Rounder]
"""From a place to what rounds there; a bias is rounded as its layer's sums are."""

"""Round numbers in training exactly as the exported operators will.

A fake quantizer gives the numbers that QuantizeLinear and DequantizeLinear would leave
of a tensor, bit for bit, and gradients that training can follow: rounding is taken for
the identity within the range, and the scale learns by the gradient of S. K. Esser et
al., "Learned Step Size Quantization" (ICLR 2020, arXiv:1902.08153), section 2.1.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from skerry.compress.numbers.ranges import Range, scale_and_zero_point
from skerry.compress.numbers.schemes import Scheme
from skerry.compress.train.rounding import Pair, Rounder
from skerry.runtimes.torch import Tensor, nn, torch

Ranges = Literal["learned", "observed"]
"""How scales follow training: by their gradient, or by what goes by: a moving average
of the extremes of activations (Jacob et al. 2018, section 3.1), the extremes of
weights."""

MOMENTUM = 0.01
"""How much of a moving average one batch is."""

_LEAST_SCALE = float(np.finfo(np.float32).tiny)


class _Rounded(torch.autograd.Function):
    """Quantize and dequantize, with gradients for the tensor and the scale."""

    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, scale: Tensor, low: float, high: float
    ) -> Tensor:
        """Return the rounded tensor; `low` and `high` bound its steps from zero."""
        steps = tensor / scale
        ctx.save_for_backward(steps)
        ctx.scale_shape, ctx.low, ctx.high = scale.shape, low, high
        return steps.clamp(low, high).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Pass the gradient within the range; sum the scale's own by channel."""
        (gradient,), (steps,) = gradients, ctx.saved_tensors
        kept = steps.clamp(ctx.low, ctx.high)
        passed = torch.where(kept == steps, gradient, 0.0)
        of_scale = None
        if ctx.needs_input_grad[1]:
            # Equation 3: round(v) - v within the range, the bound outside.
            if ctx.scale_shape:
                each = kept.round_().mul_(gradient).sub_(passed * steps)
                of_scale = each.sum_to_size(ctx.scale_shape)
            else:
                of_scale = _dot(kept.round_(), gradient) - _dot(passed, steps)
            # Section 2.2: updates as large, relative to the scale, as those of weights.
            count = steps.numel() / max(of_scale.numel(), 1)
            of_scale = of_scale / (count * max(-ctx.low, ctx.high, 1.0)) ** 0.5
        return passed, of_scale, None, None


def _round(x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
    rounded: Tensor = _Rounded.apply(  # type: ignore[no-untyped-call] # as torch has it
        x, scale, low, high
    )
    return rounded


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return torch.dot(first.reshape(-1), second.reshape(-1))


class FakeQuantizer(Rounder):
    """Rounds a tensor of floats to the codes of a scheme, and back.

    The scale is the one it begins with times e to a learned power, so that it stays
    positive and an optimizer moves it by a share of itself, however small it is.

    Args:
        pair: The place: of weights, or of activations.
        scheme: What the codes can hold.
        ranges: How the scale follows training.

    Attributes:
        is_on: Whether it rounds while the network trains. In evaluation it always
            does: that is what will be exported.
        is_weights: Whether the tensor is a layer's weights; activations otherwise.
        layer: Of activations behind a layer that integer kernels compute: its sums.
    """

    growth: Tensor
    ends: Tensor

    def __init__(self, pair: Pair, scheme: Scheme, ranges: Ranges = "learned") -> None:
        super().__init__(pair)
        self.low, self.high = scheme.qmin, scheme.qmax
        self.is_on, self.is_weights = True, pair.kind == "weight"
        self.layer: Sums | None = None
        self._scheme, self._ranges, self._is_frozen = scheme, ranges, False
        self.growth = nn.Parameter(
            torch.zeros_like(self.scale), requires_grad=ranges == "learned"
        )
        limits = torch.tensor([self.low, self.high], dtype=torch.float32)
        self.register_buffer("ends", (limits - self._zero) * self.scale.reshape(-1)[:1])

    def step(self) -> Tensor:
        """The scale now, float32, `()` or `[channels]`."""
        return (self.scale * self.growth.exp()).clamp_min(_LEAST_SCALE)

    def freeze(self, *, is_frozen: bool) -> None:
        """Let the scale stand still, or follow training again."""
        self._is_frozen = is_frozen
        self.growth.requires_grad_(self._ranges == "learned" and not is_frozen)

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor, float32 of any shape, to what its codes stand for."""
        if self.training:
            if self._ranges == "observed" and not self._is_frozen:
                self._observe(x.detach())
            if not self.is_on:
                return x
        elif self.layer is not None and self.layer.fits(x):
            return self._requantized(x, self.layer.step(x))
        return _round(x, self.along(self.step(), x), *self._bounds)

    def _requantized(self, x: Tensor, of_sum: Tensor) -> Tensor:
        """Round as integer kernels do: whole sums, and one factor to scale them by.

        Float sums miss whole numbers of their steps by little. What comes back here
        through operators that only move values stays: their steps are coarser.
        """
        step = self.step()
        factor = of_sum / step
        sums = (x / of_sum).round() if bool((factor < 1).all()) else x / of_sum
        return (sums * factor).clamp(*self._bounds).round() * step

    @property
    def _zero(self) -> float:
        """The code of zero; channels all have the same."""
        return float(self.zero_point.reshape(-1)[0])

    @property
    def _bounds(self) -> tuple[float, float]:
        """The lowest and the highest code, in steps from zero."""
        return self.low - self._zero, self.high - self._zero

    def _observe(self, x: Tensor) -> None:
        """Take what goes by into account: weights as they are, activations slowly."""
        if self.is_weights:
            rows = x.reshape(1, -1) if self.axis is None else x.movedim(self.axis, 0)
            most = rows.flatten(1).abs().amax(1).reshape(self.scale.shape) / self.high
            self.scale.copy_(torch.where(most > 0, most, self.scale))
            return
        seen = torch.stack([x.amin().clamp_max(0), x.amax().clamp_min(0)])
        self.ends.lerp_(seen, MOMENTUM)
        low, high = map(np.asarray, self.ends.tolist())
        if self._scheme.symmetric:
            high = np.maximum(-low, high)
            low = -high
        scale, zero = scale_and_zero_point(Range(low=low, high=high), self._scheme)
        self.scale.fill_(float(scale))
        self.zero_point.fill_(float(zero))


class Sums:
    """What a layer adds up: products of the codes that it reads and of its weights.

    Args:
        read: What rounds the layer's input.
        weights: What rounds its weights.
        axis: Of the channels in what it makes.
    """

    def __init__(self, read: Rounder, weights: Rounder, axis: int) -> None:
        # No module: these are parts of the network elsewhere.
        self._read, self._weights, self._axis = read, weights, axis

    def fits(self, x: Tensor) -> bool:
        """Whether a tensor has the layer's channels."""
        channels = self._weights.step().numel()
        return channels == 1 or x.shape[self._axis] == channels

    def step(self, x: Tensor) -> Tensor:
        """What one of a sum is worth, laid along a tensor (Jacob et al. 2018, 2.2)."""
        step = self._read.step() * self._weights.step()
        if not step.ndim:
            return step
        shape = [1] * x.ndim
        shape[self._axis] = -1
        return step.reshape(shape)

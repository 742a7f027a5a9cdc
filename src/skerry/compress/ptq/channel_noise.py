"""How much rounding noise to expect in a layer's sums, if its channels were scaled.

The error of rounding to a step Δ has the variance Δ²/12 where the numbers rounded
spread over many steps (Widrow and Kollár, "Quantization Noise", 2008, chapter 5). The
common factor 1/12 is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from skerry.core.seams import Array

_ACTIVATION_STEPS = 255.0
_WEIGHT_STEPS = 127.0
_STRETCHES = 2.0 ** np.arange(9)
_TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelStatistics:
    """What samples showed of each channel of a value, float64 `[channels]`.

    Attributes:
        low: The lowest number, at most 0.
        high: The highest, at least 0.
        squares: The sum of the squares.
        count: Of how many numbers a channel.
    """

    low: Array
    high: Array
    squares: Array
    count: int

    @classmethod
    def of(cls, rows: Array) -> Self:
        """Look at some numbers, `[channels, any]`."""
        return cls(
            low=rows.min(axis=1, initial=0.0).astype(np.float64),
            high=rows.max(axis=1, initial=0.0).astype(np.float64),
            squares=np.einsum("cn,cn->c", rows, rows, dtype=np.float64),
            count=rows.shape[1],
        )

    def joined(self, other: ChannelStatistics) -> ChannelStatistics:
        """Those of the numbers of both."""
        return ChannelStatistics(
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            squares=self.squares + other.squares,
            count=self.count + other.count,
        )

    def divided(self, scale: Array) -> ChannelStatistics:
        """Those of the numbers once each channel is divided by something positive."""
        return ChannelStatistics(
            low=self.low / scale,
            high=self.high / scale,
            squares=self.squares / scale**2,
            count=self.count,
        )

    @property
    def mean_square(self) -> Array:
        """The mean of the squares."""
        return self.squares / max(self.count, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """A layer that reads the channels.

    Attributes:
        weights: `[groups, outputs of a group, inputs of a group, others]`.
        statistics: Of what it reads.
    """

    weights: Array
    statistics: ChannelStatistics


class ChannelNoise:
    """The noise of layers that read some channels, as a function of their scale.

    Args:
        readings: The layers.
        made_by: The weights that make the channels, `[channels, others]`, where these
            share one scale; None where they do not, or there are none.
        per_channel: Whether the layers' weights have one scale an output channel.
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        made_by: Array | None,
        *,
        per_channel: bool,
    ) -> None:
        self._layers = [_Layer(reading, per_channel) for reading in readings]
        self._made_peak: Array | None = None
        self._made_square: Array | None = None
        if made_by is not None:
            self._made_peak = np.abs(made_by).max(axis=1)
            self._made_square = np.maximum((made_by**2).mean(axis=1), _TINY)

    @property
    def ranges(self) -> list[Array]:
        """What may be made equal: activations, weights read with, weights made with."""
        read = np.max([layer.activation_ranges() for layer in self._layers], axis=0)
        weights = np.max([layer.weight_ranges() for layer in self._layers], axis=0)
        made = [] if self._made_peak is None else [self._made_peak]
        return [read, weights, *made]

    def expected(self, scale: Array) -> float:
        """The noise if each channel was divided by its scale."""
        total = sum(layer.expected(scale) for layer in self._layers)
        if self._made_peak is not None and self._made_square is not None:
            step = (self._made_peak / scale).max() / _WEIGHT_STEPS
            # Relative to the weights of the row, and so to what the row makes.
            relative = (step * scale) ** 2 / self._made_square
            total += sum(layer.passed(relative) for layer in self._layers)
        return float(total)


class _Layer:
    """One layer's part of the noise."""

    def __init__(self, reading: Reading, per_channel: bool) -> None:  # noqa: FBT001
        weights, self._statistics = reading.weights, reading.statistics
        self._per_channel = per_channel
        self._shape = (weights.shape[0], 1, weights.shape[2])
        self._terms = weights.shape[3]
        self._peaks = np.abs(weights).max(axis=3)
        self._gains = np.square(weights).sum(axis=(1, 3)).reshape(-1)

    def activation_ranges(self) -> Array:
        """The part of the tensor's range that each channel needs.

        Two channels of which one is below zero and the other above share little. So
        where to put the ends of the tensor's range is searched, for the least noise
        once every channel fills it.
        """
        low, high = -self._statistics.low, self._statistics.high
        below, above = low.max(initial=0), high.max(initial=0)
        widest = max(below, above)
        best, least = np.zeros(len(low)), np.inf
        for stretch in _STRETCHES:
            for lower, upper in (
                (min(below * stretch, widest), above),
                (below, min(above * stretch, widest)),
            ):
                needed = np.maximum(
                    low / max(lower, _TINY) if lower else 0.0,
                    high / max(upper, _TINY) if upper else 0.0,
                )
                noise = (lower + upper) ** 2 * (self._gains * needed**2).sum()
                if noise < least:
                    best, least = np.asarray(needed * np.ones(len(low))), noise
        return best

    def weight_ranges(self) -> Array:
        """The largest weight of each channel, as a part of the largest of all."""
        peaks = self._peaks.max(axis=1).reshape(-1)
        return np.asarray(peaks / max(peaks.max(), _TINY))

    def expected(self, scale: Array) -> float:
        """Noise from rounding the input with one scale, and from rounding weights."""
        found = self._statistics
        span = (found.high / scale).max() - (found.low / scale).min()
        read = (span / _ACTIVATION_STEPS) ** 2 * (self._gains * scale**2).sum()
        along = scale.reshape(self._shape)
        steps = (self._peaks * along).max(axis=2) / _WEIGHT_STEPS
        if not self._per_channel:
            steps = np.full_like(steps, steps.max())
        energy = (found.mean_square / scale**2).reshape(self._shape).sum(axis=2)
        return float(read + (steps**2 * energy).sum() * self._terms)

    def passed(self, relative: Array) -> float:
        """What becomes of noise that is relative to the channels' own energy."""
        return float((self._gains * self._statistics.mean_square * relative).sum())

"""Why quantized values differ: rounding, clipping, and codes that nothing uses.

Real samples go once through the graph with its pairs taken out, and each value is held
against the range that the graph gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from skerry.compress.numbers.arrays import by_channel
from skerry.compress.ptq.calibrate import watch
from skerry.compress.ptq.dead_zones import bounds
from skerry.compress.search.quantized_values import (
    Pair,
    StoredWeights,
    float_twin,
    read_pairs,
)
from skerry.core.report import ValueHistogram
from skerry.core.seams import Array, Runtime, Tensors
from skerry.graph import Graph, Value

MOST_BINS = 64
LARGEST_SLICE = 1 << 14
"""Numbers of one value of one sample that rounding is measured on; what lies beyond
the range is counted among all."""

OUTLIER = 8.0
"""How many times as far as the median channel one reaches that is an outlier."""

FEW = 0.05
"""Share of the channels that can be outliers; more of them are a wide distribution."""

_TINY = float(np.finfo(np.float64).tiny)
_EVERYTHING = (-np.inf, np.inf)
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_ROUNDING = 1 / 12
"""Mean squared error of rounding evenly spread numbers, in squared steps (W. R.
Bennett, "Spectra of Quantized Signals", 1948)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorError:
    """What quantizing one tensor loses.

    Attributes:
        kind: Whether operators compute it (`activation`) or it is constant.
        rounding: Squared error within reach of the codes ÷ the tensor's energy.
        clipping: Squared error of what lies beyond them ÷ the energy; what makes no
            difference to any reader is not counted.
        minmax: What all of it would lose with a range as wide as its values, rounding
            alone, likewise.
        wasted: Share of its codes that a channel leaves unused, mean over channels.
        outlier: The channel that alone reaches far beyond the others, or None.
        reach: How many times as far as the median channel the farthest one reaches.
        has_channel_scales: Whether each channel has a scale of its own.
        bits: Of a code.
    """

    kind: Literal["activation", "weights"]
    rounding: float
    clipping: float
    minmax: float
    wasted: float
    outlier: int | None
    reach: float
    has_channel_scales: bool
    bits: int

    @property
    def total(self) -> float:
        """All that it loses."""
        return self.rounding + self.clipping


def value_errors(
    graph: Graph, samples: Iterable[Tensors], *, runtime: Runtime, threads: int = 1
) -> dict[str, tuple[TensorError, ValueHistogram]]:
    """Measure what each quantized value of a graph loses on real samples.

    Args:
        graph: A quantized graph.
        samples: Inputs of single inferences; a few are enough.
        runtime: What runs the graph.
        threads: CPU threads.

    Returns:
        By name of the pair; values that were empty or not finite have no entry.

    Raises:
        DataError: There are no samples, or they do not fit the graph.
    """
    twin = float_twin(graph)
    pairs = read_pairs(graph)
    matters = bounds(twin)
    watched = {
        name: _Watched(pair, twin.value(str(pair.value.name)), matters)
        for name, pair in pairs.items()
    }
    names = sorted({str(pair.value.name) for pair in pairs.values()})
    if not names:
        return {}
    for found in watch(twin, names, samples, runtime=runtime, threads=threads):
        for one in watched.values():
            one.update(found[one.value])
    return {name: one.result() for name, one in watched.items() if one.has_seen}


def weight_error(weights: StoredWeights) -> TensorError:
    """Estimate what storing weights as codes loses, from the codes alone.

    The weights themselves are not there any more where they were equalized, so
    rounding is taken as a twelfth of the squared step; clipping cannot be known. Each
    output channel counts alike, for what reads it may scale it up.
    """
    steps, scale = weights.steps, np.broadcast_to(weights.scale, weights.steps.shape)
    bits = _bits(weights.dtype)
    rows = by_channel((steps * scale).astype(np.float32), weights.axis)
    noise = np.square(by_channel(scale.astype(np.float32), weights.axis)) * _ROUNDING
    energy = np.square(rows, dtype=np.float64).sum(axis=1) + noise.sum(axis=1)
    rounding = float(np.mean(noise.sum(axis=1) / np.maximum(energy, _TINY)))
    reaches = np.abs(rows).max(axis=1)
    codes = np.abs(by_channel(steps.astype(np.float32), weights.axis)).max(axis=1)
    used = codes / (2 ** (bits - 1) - 1)
    outlier, reach = _find_outlier(reaches)
    return TensorError(
        kind="weights",
        rounding=rounding,
        clipping=0.0,
        minmax=rounding,
        wasted=float(1 - np.clip(used, 0, 1).mean()),
        outlier=outlier,
        reach=reach,
        has_channel_scales=weights.is_per_channel,
        bits=bits,
    )


class _Watched:
    """Sums up one value over the samples."""

    def __init__(
        self, pair: Pair, value: Value, matters: Mapping[str, tuple[float, float]]
    ) -> None:
        self.value = str(value.name)
        self._pair = pair
        self._matters = matters.get(self.value, _EVERYTHING)
        self._axis = _channel_axis(value)
        self._low: Array | None = None
        self._high: Array | None = None
        self._rounding = self._clipping = self._energy = 0.0
        self._count = 0
        self._kept: list[Array] = []

    @property
    def has_seen(self) -> bool:
        return self._low is not None

    def update(self, value: Array) -> None:
        if not value.size or not np.isfinite(value).all():
            return
        self._kept.append(_slice(value.reshape(-1)))
        value = np.clip(value, *self._matters)
        rows = by_channel(value, self._axis if value.ndim > 1 else None)
        low, high = rows.min(axis=1), rows.max(axis=1)
        if self._low is None or self._high is None:
            self._low, self._high = low, high
        elif len(low) == len(self._low):
            self._low = np.minimum(self._low, low)
            self._high = np.maximum(self._high, high)
        self._add_errors(value.reshape(-1), float(low.min()), float(high.max()))

    def _add_errors(self, flat: Array, low: float, high: float) -> None:
        pair = self._pair
        part = _slice(flat).astype(np.float64)
        self._count += flat.size
        weight = flat.size / part.size
        self._energy += weight * float(np.square(part).sum())
        inside = np.clip(part, pair.low, pair.high)
        wrong = np.rint(inside / pair.scale) * pair.scale - inside
        self._rounding += weight * float(np.square(wrong).sum())
        half = pair.scale / 2
        if low < pair.low - half or high > pair.high + half:
            beyond = flat[(flat < pair.low - half) | (flat > pair.high + half)]
            over = beyond - np.clip(beyond, pair.low, pair.high)
            self._clipping += float(np.square(over, dtype=np.float64).sum())

    def result(self) -> tuple[TensorError, ValueHistogram]:
        low, high = self._low, self._high
        if low is None or high is None:
            raise ValueError("nothing was seen")
        pair = self._pair
        span = max(pair.high - pair.low, np.finfo(np.float32).tiny)
        reached = np.minimum(high, pair.high) - np.maximum(low, pair.low)
        outlier, reach = _find_outlier(np.maximum(-low, high))
        seen = max(float(high.max()), 0.0) - min(float(low.min()), 0.0)
        step = seen / (pair.highest - pair.lowest)
        error = TensorError(
            kind="activation",
            rounding=_relative(self._rounding, self._energy),
            clipping=_relative(self._clipping, self._energy),
            minmax=_relative(self._count * step**2 * _ROUNDING, self._energy),
            wasted=float(1 - np.clip(reached / span, 0, 1).mean()),
            outlier=outlier,
            reach=reach,
            has_channel_scales=False,
            bits=_bits(pair.dtype),
        )
        return error, self._histogram()

    def _histogram(self) -> ValueHistogram:
        kept = np.concatenate(self._kept)
        low, high = float(kept.min()), float(kept.max())
        if not low < high:
            low, high = low - self._pair.scale / 2, high + self._pair.scale / 2
        counts, _ = np.histogram(kept, bins=MOST_BINS, range=(low, high))
        return ValueHistogram(
            low=low,
            high=high,
            counts=tuple(int(count) for count in counts),
            range_low=self._pair.low,
            range_high=self._pair.high,
        )


def _slice(flat: Array) -> Array:
    """An evenly spaced part of many numbers, with the least and the largest of all."""
    part = flat[:: -(-flat.size // LARGEST_SLICE)]
    return np.append(part, np.array([flat.min(), flat.max()], flat.dtype))


def _find_outlier(reaches: Array) -> tuple[int | None, float]:
    """The channel that reaches far beyond the others, and how far it reaches."""
    alive = reaches[reaches > 0]
    if len(alive) <= 1:
        return None, 1.0
    median, most = float(np.median(alive)), float(reaches.max())
    reach = most / median
    is_few = (reaches > most / 2).mean() <= max(FEW, 1 / len(reaches))
    return (int(reaches.argmax()) if reach >= OUTLIER and is_few else None), reach


def _channel_axis(value: Value) -> int:
    """Where a value has its channels: as convolutions have them, else last."""
    maker = value.producer()
    near = [use.node.op_type for use in value.uses()]
    near += [] if maker is None else [maker.op_type]
    rank = None if value.shape is None else len(value.shape)
    is_image = rank is None or rank > 3
    return 1 if is_image or _CONVOLUTIONS & set(near) else -1


def _relative(error: float, energy: float) -> float:
    return error / energy if energy > 0 else 0.0


def _bits(dtype: str) -> int:
    digits = "".join(letter for letter in dtype if letter.isdigit())
    return int(digits) if digits else 8

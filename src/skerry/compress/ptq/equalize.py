"""Make the channels that one scale must serve alike, without changing the function.

Where an activation has one scale, its narrowest channel is left with few steps; where
a layer's weights have one, its smallest row is. Between two layers each channel may be
divided by a number that the second layer makes up for, so one can be traded against
the other (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1; for activations, Xiao et al., "SmoothQuant",
arXiv:2211.10438, section 4). Residual connections are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np

from skerry.compress.ptq.calibrate import Progress, check_finite, watch
from skerry.compress.ptq.channel_noise import ChannelNoise, ChannelStatistics, Reading
from skerry.compress.ptq.layer_weights import LayerWeights
from skerry.compress.ptq.regions import Region, find_regions, names_read
from skerry.core.seams import Array, Runtime, Tensors
from skerry.graph import Graph, fold_products

MOST_ROUNDS = 20
"""Regions share weights, so they are gone through until nothing moves any more."""

SETTLED = 0.01
"""Scales that differ from 1 by less than this have converged."""

LARGEST_SCALE = 2.0**12
"""Of one round: what is nearly off stays so, and float32 keeps its digits."""

_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_SLIGHT_GAIN = 0.999


def equalize(
    graph: Graph,
    samples: Iterable[Tensors] | None,
    *,
    runtime: Runtime,
    per_channel: bool,
    threads: int = 1,
    progress: Progress | None = None,
) -> Graph:
    """Return a copy that computes the same, with channels of more equal ranges.

    No operator is added: what changes are weights, biases, and the constants of
    products and sums.

    Args:
        graph: Its nodes are named, the types of its values known.
        samples: Inputs of single inferences; None equalizes by weights alone.
        runtime: What runs the samples.
        per_channel: Whether weights will have one scale an output channel.
        threads: CPU threads.
        progress: Told of each sample.

    Raises:
        DataError: The samples do not fit the graph, or there are none.
        RuntimeFailure: The runtime cannot run it.
    """
    # A product by one number is cheaper than by one a channel: at least there is one.
    changed = fold_products(graph)
    regions = find_regions(changed)
    if not regions:
        return changed
    weights = LayerWeights(changed)
    if samples is None:
        _equalize_weights(weights, regions)
    else:
        statistics = measure_channels(
            changed,
            regions,
            samples,
            runtime=runtime,
            threads=threads,
            progress=progress,
        )
        _lower_noise(weights, regions, statistics, per_channel=per_channel)
    weights.write()
    return changed


def measure_channels(
    graph: Graph,
    regions: Sequence[Region],
    samples: Iterable[Tensors],
    *,
    runtime: Runtime,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, ChannelStatistics]:
    """Measure each channel of what the layers of regions read, by the value's name.

    Of each sample only sums and extremes are kept.

    Raises:
        DataError: A value becomes NaN or infinite, the samples do not fit the graph,
            or there are none.
    """
    places = {name: (place, channels) for name, place, channels in names_read(regions)}
    found: dict[str, ChannelStatistics] = {}
    for values in watch(
        graph,
        sorted(places),
        samples,
        runtime=runtime,
        threads=threads,
        progress=progress,
    ):
        for name, (place, channels) in places.items():
            check_finite(values[name], name)
            rows = np.moveaxis(values[name], place.axis, 0).reshape(channels, -1)
            one = ChannelStatistics.of(rows)
            found[name] = found[name].joined(one) if name in found else one
    return found


def _equalize_weights(weights: LayerWeights, regions: Sequence[Region]) -> None:
    """Give the weights on both sides of a region's channels the same ranges.

    With r₁ and r₂ the ranges, s = √(r₁/r₂) makes both √(r₁·r₂) (Nagel et al.,
    equation 11).
    """
    for _ in range(MOST_ROUNDS):
        moved = 0.0
        for region in regions:
            made = weights.made_by(region)
            if made is None:
                continue
            before = np.abs(made).max(axis=1)
            behind = np.zeros(region.channels)
            for sink in region.sinks:
                peaks = np.abs(weights.read_by(sink, region.channels)).max(axis=(1, 3))
                behind = np.maximum(behind, peaks.reshape(-1))
            scale = raised([before, behind], (0.5, -0.5))
            weights.divide(region, scale)
            moved = max(moved, float(np.abs(scale - 1).max()))
        if moved < SETTLED:
            return


def _lower_noise(
    weights: LayerWeights,
    regions: Sequence[Region],
    statistics: Mapping[str, ChannelStatistics],
    *,
    per_channel: bool,
) -> None:
    """Choose each region's scale for the least rounding noise in its sinks' sums."""
    seen = dict(statistics)
    for _ in range(MOST_ROUNDS):
        moved = 0.0
        for region in regions:
            noise = ChannelNoise(
                [
                    Reading(
                        weights=weights.read_by(sink, region.channels),
                        statistics=seen[str(sink.value.name)],
                    )
                    for sink in region.sinks
                ],
                None if per_channel else weights.made_by(region),
                per_channel=per_channel,
            )
            scale = _quietest(noise)
            weights.divide(region, scale)
            for name in {str(sink.value.name) for sink in region.sinks}:
                seen[name] = seen[name].divided(scale)
            moved = max(moved, float(np.abs(scale - 1).max()))
        if moved < SETTLED:
            return


def _quietest(noise: ChannelNoise) -> Array:
    """Search scales that are products of powers of the channels' ranges.

    With exponents ½ and −½ these are the scales of both papers; which exponents suit
    depends on what has one scale in common.
    """
    ranges = noise.ranges
    best = np.ones(len(ranges[0]))
    least = noise.expected(best)
    for exponents in product(_EXPONENTS, repeat=len(ranges)):
        tried = raised(ranges, (exponents[0], -exponents[1], *exponents[2:]))
        expected = noise.expected(tried)
        if expected < least * _SLIGHT_GAIN:
            best, least = tried, expected
    return best


def raised(ranges: Sequence[Array], exponents: Sequence[float]) -> Array:
    """The product of powers, of geometric mean 1; 1 where a channel has no range.

    Args:
        ranges: Of the same channels, each at least 0.
        exponents: One each.
    """
    alive = np.all([one > 0 for one in ranges], axis=0)
    logarithm = np.zeros(len(alive))
    for one, exponent in zip(ranges, exponents, strict=True):
        logarithm += exponent * np.log(np.where(alive, one, 1.0))
    if alive.any():
        logarithm -= logarithm[alive].mean()
    scale = np.exp(np.where(alive, logarithm, 0.0))
    return np.clip(scale, 1 / LARGEST_SCALE, LARGEST_SCALE)

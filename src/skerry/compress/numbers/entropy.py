"""The range whose codes keep most of what a distribution tells: entropy calibration.

Clip at a threshold, and what lay beyond piles up at the end; do not, and the codes lie
far apart. Between the two, the threshold is taken at which the quantized distribution
diverges least (Kullback-Leibler) from the real one: S. Migacz, "8-bit Inference with
TensorRT", GTC 2017, the method that TensorRT and onnxruntime call entropy.
"""

from __future__ import annotations

import numpy as np

from skerry.compress.numbers.histograms import Histogram
from skerry.compress.numbers.schemes import Scheme
from skerry.core.seams import Array

_MOST_WINDOWS = 512
"""Thresholds tried, evenly spaced: finer ones differ by less than their estimate."""

_WINDOWS_AT_A_TIME = 64
"""So that memory does not depend on how many there are."""

_NEXT_TO_NOTHING = 1e-4
"""What a level counts that holds nothing but what was clipped, as in onnxruntime: one
outlier that ends up alone then costs little rather than everything."""

_MOST_CLIPPED = 0.01
"""The part of all numbers beside zero that may be clipped. Where nearly all of them
are one number, a range that ends there diverges by nothing, whatever lies beyond: the
definition alone would cut off the rest of the distribution."""


def least_divergence(
    histogram: Histogram, scheme: Scheme, low: Array, high: Array
) -> tuple[Array, Array]:
    """Shrink the range to where quantized numbers are distributed most as they were.

    Thresholds lie at the same distance on both sides of zero, but never beyond what was
    seen: a one-sided distribution has all codes on its side. Symmetric codes see
    magnitudes. As in NVIDIA's own calibrator (pytorch-quantization, `calib/histogram`),
    the bins at zero count like their neighbours, since zero itself is always exact:
    the many zeros behind a ReLU would otherwise shrink every range.

    It starts from as many bins as there are codes, so codes of more bits than the
    histogram resolves (12 and more) keep the whole range.

    Args:
        histogram: What was seen, a row a channel.
        scheme: The codes.
        low: The lowest numbers seen or zero, float32 `[channels]`.
        high: The highest numbers seen or zero, float32 `[channels]`.

    Returns:
        The ends, within low and high.
    """
    counts, edges = histogram.counts, histogram.edges
    chosen = [
        _least(counts[row], edges[row], scheme, float(low[row]), float(high[row]))
        for row in range(len(counts))
    ]
    thresholds = np.asarray(chosen)
    return np.maximum(low, -thresholds), np.minimum(high, thresholds)


def _least(
    counts: Array, edges: Array, scheme: Scheme, low: float, high: float
) -> float:
    """The threshold of least divergence of one channel."""
    half = len(counts) // 2
    counts = counts.copy()
    counts[half] = min(counts[half], counts[half + 1])
    counts[half - 1] = min(counts[half - 1], counts[half - 2])
    largest = max(-low, high)
    if scheme.symmetric:
        counts, zero = counts[half:] + counts[half - 1 :: -1], 0
        levels = scheme.qmax - (0 if scheme.signed else 1 << (scheme.bits - 1)) + 1
    else:
        zero, levels = half, scheme.qmax - scheme.qmin + 1
    used = np.flatnonzero(counts)
    if not used.size:
        return largest
    first, last = min(int(used[0]), zero), max(int(used[-1]) + 1, zero)
    reach = max(zero - first, last - zero)
    stride = max(1, -(-reach // _MOST_WINDOWS))
    reaches = np.arange(reach, 0, -stride)
    starts = np.maximum(zero - reaches, first)
    ends = np.minimum(zero + reaches, last)
    wide = ends - starts >= min(levels, last - first)
    kept = np.concatenate([[0], np.cumsum(counts)])
    most = _MOST_CLIPPED * kept[-1]
    wide &= kept[-1] - (kept[ends] - kept[starts]) <= most
    starts, ends = starts[wide], ends[wide]
    parts = [
        slice(i, i + _WINDOWS_AT_A_TIME)
        for i in range(0, len(starts), _WINDOWS_AT_A_TIME)
    ]
    divergence = np.concatenate(
        [_divergence(counts, starts[part], ends[part], levels) for part in parts]
    )
    # Of equals the first is taken: the widest.
    best = int(np.argmin(divergence))
    return min(largest, float(edges[half + reaches[wide][best]]))


def _divergence(counts: Array, starts: Array, ends: Array, levels: int) -> Array:
    """The divergence of each window of bins from its quantized form.

    The reference P of a window has what lies outside added to its first and last bin.
    Q spreads what is in a level's bins, without what lies outside, evenly over those
    that P has something in. As Q is the same throughout a level, the sum over bins
    of P · log(P / Q) needs only sums over levels.

    Returns:
        Nats, one a window.
    """
    bounds = (
        starts[:, None] + np.arange(levels + 1) * (ends - starts)[:, None] // levels
    )
    total = float(counts.sum())
    inside = np.diff(_cumulative(counts)[bounds], axis=1)
    filled = np.diff(_cumulative(counts > 0)[bounds], axis=1)
    logs = _cumulative(_times_log(counts.astype(np.float64)))
    entropy = logs[ends] - logs[starts]
    before = _cumulative(counts)
    real = inside.astype(np.float64)
    for bins, level, outside in (
        (starts, 0, before[starts]),
        (ends - 1, -1, before[-1] - before[ends]),
    ):
        own = counts[bins].astype(np.float64)
        entropy += _times_log(own + outside) - _times_log(own)
        place = level if level == 0 else levels - 1
        real[:, place] += outside
        filled[:, place] += (own == 0) & (outside > 0)
    kept = inside.sum(axis=1, keepdims=True)
    share = np.maximum(inside, _NEXT_TO_NOTHING) / np.maximum(filled, 1) / kept
    cross = np.where(real > 0, real * np.log(share * total), 0.0).sum(axis=1)
    return np.asarray((entropy - cross) / total)


def _times_log(numbers: Array) -> Array:
    return np.asarray(numbers * np.log(np.maximum(numbers, 1)))


def _cumulative(numbers: Array) -> Array:
    return np.concatenate([[0], np.cumsum(numbers)])

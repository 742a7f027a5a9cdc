"""Latencies, counted in buckets that grow with them.

The buckets are of equal width on a logarithmic scale, 200 a decade, so that a
percentile is known to about one part in a hundred, whatever its size, and memory does
not grow with the number of requests (the idea of G. Tene's HdrHistogram,
https://hdrhistogram.github.io/HdrHistogram/).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_MS = 1e-2
"""What is quicker is counted as this."""

PER_DECADE = 200
DECADES = 8
_WIDTHS = (5, 10, 20, 50, 100, 200)
"""How many buckets may be shown as one: all of them divide a decade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Requests whose latency lies within two bounds.

    Attributes:
        low_ms: At least this.
        high_ms: Less than this.
        count: How many.
    """

    low_ms: float
    high_ms: float
    count: int


class Latencies:
    """A histogram of latencies."""

    def __init__(self) -> None:
        self._counts = [0] * (PER_DECADE * DECADES)
        self.count = 0
        self.sum_ms = 0.0
        self.most_ms = 0.0

    def add(self, latency_ms: float) -> None:
        """Count one."""
        place = PER_DECADE * math.log10(max(latency_ms, LEAST_MS) / LEAST_MS)
        self._counts[min(int(place), len(self._counts) - 1)] += 1
        self.count += 1
        self.sum_ms += latency_ms
        self.most_ms = max(self.most_ms, latency_ms)

    def percentile(self, share: float) -> float | None:
        """The latency that a share of all requests keeps.

        Args:
            share: From 0 to 1.

        Returns:
            Milliseconds, to about one part in a hundred; None where there is none.
        """
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        before = 0
        for place, count in enumerate(self._counts):
            if before + count >= rank:
                within = (rank - before - 0.5) / count
                return min(_edge(place + within), self.most_ms)
            before += count
        return self.most_ms

    def buckets(self, *, most: int = 40) -> tuple[Bucket, ...]:
        """Show it in as many equal buckets as fit, from the first that is not empty.

        Args:
            most: Largest number of them.
        """
        filled = [place for place, count in enumerate(self._counts) if count]
        if not filled:
            return ()
        for width in _WIDTHS:
            first, last = filled[0] // width, filled[-1] // width
            if last - first < most or width == _WIDTHS[-1]:
                break
        return tuple(
            Bucket(
                low_ms=_edge(index * width),
                high_ms=_edge((index + 1) * width),
                count=sum(self._counts[index * width : (index + 1) * width]),
            )
            for index in range(first, last + 1)
        )


def merge(buckets: Sequence[Bucket], *, most: int) -> tuple[Bucket, ...]:
    """Show neighbours as one, as many as are needed for there to be few.

    Args:
        buckets: One beside the other.
        most: Largest number of them.
    """
    each = max(1, math.ceil(len(buckets) / most))
    groups = (buckets[start : start + each] for start in range(0, len(buckets), each))
    return tuple(
        Bucket(
            low_ms=group[0].low_ms,
            high_ms=group[-1].high_ms,
            count=sum(bucket.count for bucket in group),
        )
        for group in groups
    )


def _edge(place: float) -> float:
    return float(LEAST_MS * 10 ** (place / PER_DECADE))

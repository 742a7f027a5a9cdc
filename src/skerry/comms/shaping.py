"""Bounded rates: what is sent waits its turn, and no stream before another's."""

from __future__ import annotations

from skerry.core.clock import Clock

SHAPED_BYTES = 1 << 15
"""Bytes that a stream sends in its turn."""

_BURST_S = 0.25


class Shaper:
    """A token bucket that several streams share.

    Each stream asks for its next piece after the last was granted, and grants are
    given in the order in which they are asked for: streams take turns.

    Args:
        clock: What it waits by.
        bytes_per_s: How many bytes a second are sent in all.
    """

    def __init__(self, clock: Clock, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at_s = float("-inf")

    async def take(self, n_bytes: int) -> None:
        """Wait until so many bytes may be sent."""
        now_s = self._clock.wall_s()
        earliest_s = max(self._free_at_s, now_s - _BURST_S)
        self._free_at_s = earliest_s + n_bytes / self.bytes_per_s
        if self._free_at_s > now_s:
            await self._clock.sleep(self._free_at_s - now_s)

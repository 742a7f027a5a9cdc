"""How much of a site's line the hub's downloads may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

from skerry.comms.shaping import SHAPED_BYTES, Shaper
from skerry.core.clock import Clock
from skerry.core.errors import BusyError, UsageError

LONGEST_TURN_S = 10.0
"""With more streams than this leaves time for, the next is asked to come later: each
must get its next piece before it takes the hub for gone."""


class SiteBandwidth:
    """The downloads of all sites, each within its rate.

    Args:
        clock: What it waits by.
        bytes_per_s: Most bytes a second to all devices of one site together; None:
            there is no limit.

    Attributes:
        sent_bytes: How many bytes went to each site.
        refused: How many downloads of each site were asked to come later.

    Raises:
        UsageError: That is no rate.
    """

    def __init__(self, clock: Clock, bytes_per_s: float | None) -> None:
        if bytes_per_s is not None and not 0 < bytes_per_s < float("inf"):
            raise UsageError(
                f"a site cannot be sent {bytes_per_s:g} bytes a second",
                hint="Give more than 0, or leave --site-bandwidth-mb-s out.",
            )
        self.sent_bytes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._shapers: dict[str, Shaper] = {}
        self._n_streams: Counter[str] = Counter()

    def admit(self, site: str) -> None:
        """Let one more download of a site begin.

        Raises:
            BusyError: There are too many already.
        """
        if self._bytes_per_s is None or not site:
            return
        turn_s = (self._n_streams[site] + 1) * SHAPED_BYTES / self._bytes_per_s
        if self._n_streams[site] and turn_s > LONGEST_TURN_S:
            self.refused[site] += 1
            raise BusyError(
                f"{self._n_streams[site]} downloads of site {site} share "
                f"{self._bytes_per_s:g} bytes a second",
                hint="It is tried again by itself.",
                retry_after_s=LONGEST_TURN_S,
            )

    async def shape(
        self, site: str, pieces: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Give the pieces of one download as fast as its site may have them.

        Args:
            site: Whose; empty for a device that belongs to none, which is not slowed.
            pieces: What the store gives.
        """
        shaper = self._shaper(site)
        self._n_streams[site] += 1
        try:
            async for piece in pieces:
                size = len(piece) if shaper is None else SHAPED_BYTES
                for start in range(0, len(piece), size):
                    part = piece[start : start + size]
                    if shaper is not None:
                        await shaper.take(len(part))
                    self.sent_bytes[site] += len(part)
                    yield part
        finally:
            self._n_streams[site] -= 1

    def _shaper(self, site: str) -> Shaper | None:
        if self._bytes_per_s is None or not site:
            return None
        return self._shapers.setdefault(site, Shaper(self._clock, self._bytes_per_s))

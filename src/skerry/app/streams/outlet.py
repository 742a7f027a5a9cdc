"""The outbox of `skerry stream run`, where no hub takes what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from skerry.comms.outbox import Outbox
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import StorageError

KEPT = 10_000
"""So many events are kept; the oldest are let go of."""


class LocalOutbox:
    """Keeps events for whoever reads the outbox's file.

    Args:
        outbox: Where.
        clock: What says the date.
    """

    def __init__(self, outbox: Outbox, *, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._lock = asyncio.Lock()

    async def put(self, kind: str, body: Mapping[str, Json], trace: str = "") -> int:
        """Keep an event; it is safe on the disk when this returns.

        Raises:
            DataError: It is too large for a message.
            StorageError: The disk refused.
        """
        async with self._lock:
            return await asyncio.to_thread(self._put, kind, body, trace)

    def _put(self, kind: str, body: Mapping[str, Json], trace: str) -> int:
        at_ms = self._clock.unix_ms()
        outbox = self._outbox
        try:
            number = outbox.put(kind, body, trace=trace, sent_at_ms=at_ms)
        except StorageError:
            # Full, for nobody takes what waits: make room, and try once more.
            oldest = outbox.acknowledged()
            outbox.acknowledge(outbox.epoch, oldest + max(1, outbox.depth // 4))
            number = outbox.put(kind, body, trace=trace, sent_at_ms=at_ms)
        if outbox.depth > KEPT:
            outbox.acknowledge(outbox.epoch, number - KEPT)
        return number

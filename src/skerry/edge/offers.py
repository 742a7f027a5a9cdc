"""Ways that the hub offers, from what is here to a model that is wanted.

The publisher signs deltas from the version before. For a device that is further behind
the hub joins deltas or makes one, and signs nothing: an offer is taken only where each
of its deltas must give a blob that is signed, and all cost less than the model. The
worst that a lying hub can do is to have its offer refused.

A delta that is being made is waited for, a minute at most: that takes seconds, a model
on a slow line minutes, and meanwhile what serves goes on serving.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import numpy as np

from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import SkerryError
from skerry.core.release import Blob
from skerry.evolve.ways import LEAST_BYTES, Offer, Way, is_sound, read_offer

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
_LEAST_WAIT_S, _LONGEST_WAIT_S = 1.0, 10.0

Get = Callable[[str], Awaitable[Mapping[str, Json]]]
"""Gets a document of the hub's HTTP API, by its path."""

Signed = Callable[[str], Awaitable[Blob | None]]
"""Gives what is signed for the hash of a blob."""


class Offers:
    """What the hub offers one gateway.

    Args:
        get: Asks it.
        clock: What is waited by.
        rng: Spreads the waits of a fleet.
    """

    def __init__(self, get: Get, *, clock: Clock, rng: np.random.Generator) -> None:
        self._get = get
        self._clock = clock
        self._rng = rng

    async def find(self, origin: str, goal: Blob, signed: Signed) -> Way:
        """Find a way that can do no harm.

        Args:
            origin: The hash of what is here.
            goal: What is wanted.
            signed: What is signed.

        Returns:
            The way; empty where the hub has none, or cannot be asked.
        """
        if goal.size_bytes < LEAST_BYTES:
            return ()
        try:
            way = (await self._wait(origin, goal)).way
        except SkerryError as error:
            log.info("deltas.unknown", extra={"why": error.what})
            return ()
        if not way:
            return ()
        named = {hop.result.sha256: await signed(hop.result.sha256) for hop in way}
        if is_sound(way, origin, goal, named):
            return way
        log.warning("deltas.refused", extra={"goal": goal.sha256})
        return ()

    async def _wait(self, origin: str, goal: Blob) -> Offer:
        path = f"/v1/deltas/{origin}/{goal.sha256}"
        until_s = self._clock.wall_s() + PATIENCE_S
        while True:
            offer = read_offer(await self._get(path))
            if offer.wait_s is None:
                return offer
            wait_s = min(max(offer.wait_s, _LEAST_WAIT_S), _LONGEST_WAIT_S)
            wait_s *= float(self._rng.uniform(1.0, 1.5))
            left_s = until_s - self._clock.wall_s()
            if max(wait_s, offer.wait_s) > left_s:
                return offer
            await self._clock.sleep(wait_s)

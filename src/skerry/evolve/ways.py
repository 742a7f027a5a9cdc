"""Ways from one model to another, over deltas: which costs least, and what is offered.

A hub offers a way, and signs none of it. What makes it harmless is that a device knows
from signed metadata what each of its deltas must give: see `is_sound`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from skerry.core.documents import Json
from skerry.core.errors import DataError
from skerry.core.release import Blob, is_sha256

MOST_HOPS = 4
"""A longer way costs more time and room than it saves bytes."""

WORTHWHILE = 0.97
"""Deltas are worth it if they are smaller than this fraction of the blob."""

LEAST_BYTES = 1 << 16
"""A smaller model goes in full: to ask for a way costs more than it saves."""

LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One delta of a way.

    Attributes:
        origin: The hash of what it begins from.
        result: What it gives.
        delta: Its own bytes.
    """

    origin: str
    result: Blob
    delta: Blob


Way = tuple[Hop, ...]
"""Deltas one after the other; none: the model is fetched in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a hub answers a device that asks for a way.

    Attributes:
        way: The one that costs least of those that there are; none, where there is
            none that is worth it.
        wait_s: In so many seconds a better one may be there; None: this is the best.
    """

    way: Way = ()
    wait_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WayCost:
    """What it costs to bring a device of one version to a release.

    Attributes:
        version: The device's.
        target: Whose model it is about.
        devices: How many run it.
        full_bytes: The model, as it is fetched without a delta.
        packed_bytes: The model, packed alone; None where that is not known.
        direct: What there is of a direct delta: `signed`, `made` by the hub, `making`,
            `none` where it is not worth it, or empty.
        direct_bytes: Its size, or None.
        through: The versions on the cheapest way over others.
        through_bytes: What that way costs, or None.
    """

    version: int
    target: str
    devices: int
    full_bytes: int
    packed_bytes: int | None = None
    direct: str = ""
    direct_bytes: int | None = None
    through: tuple[int, ...] = ()
    through_bytes: int | None = None

    @property
    def best_bytes(self) -> int:
        """What such a device fetches."""
        ways = (self.full_bytes, self.direct_bytes, self.through_bytes)
        return min(size for size in ways if size is not None)


def way_bytes(way: Way) -> int:
    """What a way costs on the line."""
    return sum(hop.delta.size_bytes for hop in way)


def cheapest_way(hops: Iterable[Hop], origin: str, goal: str) -> Way:
    """Find the way that costs least on the line, in at most `MOST_HOPS` deltas.

    After R. Bellman, "On a routing problem", 1958: the cheapest ways of at most so many
    hops give those of one more.

    Args:
        hops: The deltas that there are.
        origin: The hash of what is there.
        goal: The hash of what is wanted.

    Returns:
        The way; empty where there is none.
    """
    known = tuple(hops)
    ways: dict[str, Way] = {origin: ()}
    for _ in range(MOST_HOPS):
        further = dict(ways)
        for hop in known:
            if hop.origin not in ways:
                continue
            way, best = (*ways[hop.origin], hop), further.get(hop.result.sha256)
            if best is None or way_bytes(way) < way_bytes(best):
                further[hop.result.sha256] = way
        if further == ways:
            break
        ways = further
    return ways.get(goal, ())


def is_sound(
    way: Way, origin: str, goal: Blob, signed: Mapping[str, Blob | None]
) -> bool:
    """Whether a way that nobody signed can do no harm.

    Args:
        way: What was offered.
        origin: The hash of what is there.
        goal: What is wanted.
        signed: What is signed for each hash that the way gives, on the way and at its
            end.

    Returns:
        Whether it leads from the one to the other, gives only blobs that are signed,
        each once, and costs less than the model.
    """
    results = [hop.result for hop in way]
    origins = [origin, *(blob.sha256 for blob in results)]
    return (
        0 < len(way) <= MOST_HOPS
        and results[-1] == goal
        and len({*origins}) == len(origins)
        and [hop.origin for hop in way] == origins[:-1]
        and all(signed.get(blob.sha256) == blob for blob in results)
        and all(is_sha256(hop.delta.sha256) and hop.delta.size_bytes > 0 for hop in way)
        and way_bytes(way) < goal.size_bytes
    )


def read_offer(document: Mapping[str, Json]) -> Offer:
    """Read a hub's answer; what it names is not looked at.

    Raises:
        DataError: It is none.
    """
    try:
        offer = msgspec.convert(document, Offer)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise DataError(
            f"the hub's answer is no offer of deltas: {error}",
            hint="The model is fetched in full.",
        ) from error
    wait_s = offer.wait_s
    if len(offer.way) > MOST_HOPS or not (
        wait_s is None or 0 <= wait_s <= LONGEST_WAIT_S
    ):
        raise DataError(
            f"the hub offers {len(offer.way)} deltas in {wait_s} s",
            hint="The model is fetched in full.",
        )
    return offer

"""Which gateways of a site can give blobs to each other, and by what key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from skerry.cloud.devices import Devices
from skerry.cloud.shadows import Shadows
from skerry.comms.peering import is_peer_url
from skerry.core.clock import Clock

SITE_LABEL = "site"
"""The label whose value says where a device is."""

MOST_PEERS = 32
"""Most neighbours that a gateway is told of."""

_DAY_MS = 24 * 3600 * 1000


class Neighbours:
    """The sites of a tenant.

    Args:
        devices: The registry, with each device's labels.
        shadows: Where devices report at which address they give blobs.
        secret: What the keys of sites are made of; the same at each call.
        clock: Says which day it is.
    """

    def __init__(
        self,
        devices: Devices,
        shadows: Shadows,
        *,
        secret: Callable[[], bytes],
        clock: Clock,
    ) -> None:
        self._devices = devices
        self._shadows = shadows
        self._secret = secret
        self._clock = clock

    async def site(self, device: str) -> str:
        """The site of a device; empty where it has none.

        Raises:
            UsageError: There is no such device.
        """
        return (await self._devices.get(device)).labels.get(SITE_LABEL, "")

    async def of(self, device: str) -> dict[str, list[str]]:
        """What a gateway must know of its site.

        Returns:
            `keys`: today's and yesterday's, hexadecimal, so that one taken out of the
            fleet is out of its site's, too, two days later. `peers`: where others that
            are online give blobs. Both are empty for a device without a site.

        Raises:
            UsageError: There is no such device.
        """
        site = await self.site(device)
        if not site:
            return {"keys": [], "peers": []}
        day = self._clock.unix_ms() // _DAY_MS
        near = {
            one.name
            for one in await self._devices.list()
            if one.labels.get(SITE_LABEL) == site and one.is_online
        } - {device}
        peers = []
        for shadow in await self._shadows.list():
            agent = shadow.reported.get("agent") if shadow.device in near else None
            url = agent.get("peers") if isinstance(agent, dict) else None
            if isinstance(url, str) and is_peer_url(url):
                peers.append(url)
        keys = [self._key(site, day), self._key(site, day - 1)]
        return {"keys": keys, "peers": peers[:MOST_PEERS]}

    def _key(self, site: str, day: int) -> str:
        text = f"skerry.site/1 {day} {site}".encode()
        return hmac.new(self._secret(), text, hashlib.sha256).hexdigest()

"""Hear what the hub tells this device to run, if it may be believed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import SkerryError, TrustError
from skerry.core.release import Reason
from skerry.edge.update_steps import UpdateParts

CATCH_UP_S = 60.0
"""How often unknown signatures make a device look for a newer root, at most."""


class TakeDesired(Protocol):
    """Takes what is desired."""

    def __call__(self, body: Mapping[str, Json], *, is_signed: bool) -> None:
        """Take it."""
        ...


class Hearing:
    """Verifies what is desired before it is taken.

    Args:
        parts: Where the trust is.
        device: This device.
        take: Takes what may be believed.
        refuse: Is told why something may not.
        clock: Counts the time between two looks for a newer root.

    Attributes:
        tasks: What is under way.
    """

    def __init__(
        self,
        parts: UpdateParts,
        device: str,
        *,
        take: TakeDesired,
        refuse: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._parts = parts
        self._device = device
        self._take = take
        self._refuse = refuse
        self._clock = clock
        self._caught_up_s = float("-inf")

    async def hear(self, body: Mapping[str, Json]) -> None:
        """Take what is desired, or say why not."""
        try:
            await self._accept(body)
        except TrustError as error:
            self._refuse(f"{error.what} ({error.reason})")
            now_s = self._clock.wall_s()
            is_due = now_s - self._caught_up_s >= CATCH_UP_S
            if error.reason == Reason.UNTRUSTED and is_due:
                self._caught_up_s = now_s
                task = asyncio.create_task(self._catch_up(body))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def _accept(self, body: Mapping[str, Json]) -> None:
        # Without the lock: a slow refresh must not make the device deaf.
        accept = self._parts.trust.accept
        is_signed = await self._parts.in_thread(accept, self._device, body)
        self._take(body, is_signed=is_signed)

    async def _catch_up(self, body: Mapping[str, Json]) -> None:
        """Look for a newer root, as it may name the key that was not known."""
        try:
            async with self._parts.trust_lock:
                with contextlib.suppress(TrustError):  # Its roots are kept even so.
                    await self._parts.in_thread(self._parts.trust.refresh)
            await self._accept(body)
        except SkerryError as error:
            self._refuse(error.what)

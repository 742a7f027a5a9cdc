"""Who is online, and how quickly it answers."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from skerry.cloud import tables
from skerry.cloud.clones import Clones
from skerry.cloud.database import Database
from skerry.comms.codec import encode
from skerry.comms.topics import Topic, write_topic
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import DataError, LinkError, UsageError
from skerry.core.messages import Direction, Down, Message, Up
from skerry.core.seams import Link

log = logging.getLogger(__name__)

PING_TIMEOUT_S = 5.0
PROFILE_TIMEOUT_S = 25.0

Note = Callable[[Connection, str, str, Mapping[str, Json]], None]
Online = Callable[[str], None]
"""Takes the name of a device that says it is online."""


class Presence:
    """Who of a tenant's devices is online.

    Args:
        database: Where it is kept.
        tenant: Whose devices.
        clock: Measures round trips and waits for them.
        note: Adds a line to a device's log: (connection, device, name, fields).
    """

    def __init__(
        self, database: Database, *, tenant: str, clock: Clock, note: Note
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._clock = clock
        self._note = note
        self._clones = Clones()
        self._online: list[Online] = []
        self._asked: dict[tuple[str, str, str], asyncio.Future[Message]] = {}

    def on_online(self, listener: Online) -> None:
        """Have a function called each time that a device says it is online."""
        self._online.append(listener)

    def take_status(
        self, connection: Connection, tenant: str, device: str, message: Message
    ) -> Callable[[], Awaitable[None]]:
        """Take a `status` message; a function for `Ingest.take`.

        Raises:
            DataError: It does not say whether the device is online.
        """
        is_online = message.body.get("is_online")
        if not isinstance(is_online, bool):
            raise DataError(
                f"a status has is_online = {is_online!r:.40}, true or false expected",
                hint='Send {"is_online": true}.',
            )
        table = tables.devices
        connection.execute(
            update(table)
            .where(table.c.tenant == tenant, table.c.name == device)
            .values(is_online=is_online)
        )

        async def tell() -> None:
            log.info("device.status", extra={"device": device, "is_online": is_online})
            if self._clones.hear(device, message.body.get("boot")):
                await self._database.run(
                    lambda connection: self._mark_cloned(connection, tenant, device)
                )
            if is_online:
                for listener in self._online:
                    listener(device)

        return tell

    def _mark_cloned(self, connection: Connection, tenant: str, device: str) -> None:
        table = tables.devices
        this = (table.c.tenant == tenant) & (table.c.name == device)
        before = connection.execute(select(table.c.cloned_at_ms).where(this)).scalar()
        now_ms = self._clock.unix_ms()
        connection.execute(update(table).where(this).values(cloned_at_ms=now_ms))
        if before is None:
            log.error("device.cloned", extra={"device": device})
            self._note(connection, device, "device.cloned", {})

    def take_answer(self, device: str, message: Message) -> bool:
        """Take the answer to what a device was asked; False if nobody waits for it."""
        name = str(message.body.get("id"))
        waiting = self._asked.get((device, message.kind, name))
        if waiting is None or waiting.done():
            return False
        waiting.set_result(message)
        return True

    async def ping(
        self, link: Link, device: str, *, timeout_s: float = PING_TIMEOUT_S
    ) -> float:
        """Ask a device for a sign of life.

        Args:
            link: The hub's.
            device: Which.
            timeout_s: How long it may take.

        Returns:
            The round trip, in milliseconds.

        Raises:
            UsageError: There is no such device.
            LinkError: It did not answer in time, or the broker cannot be reached.
        """
        await self._check_known(device)
        began_s = self._clock.wall_s()
        await self._ask(link, device, (Down.PING, Up.PONG), {}, timeout_s)
        return (self._clock.wall_s() - began_s) * 1000

    async def profile(
        self,
        link: Link,
        device: str,
        job: Mapping[str, Json],
        *,
        timeout_s: float = PROFILE_TIMEOUT_S,
    ) -> Mapping[str, Json]:
        """Have a device profile a model that is installed there.

        Args:
            link: The hub's.
            device: Which.
            job: `sha256`, `repeats` and `threads`.
            timeout_s: How long it may take.

        Returns:
            What it answered: a `profile`, or an `error`.

        Raises:
            UsageError: There is no such device.
            LinkError: It did not answer in time, or the broker cannot be reached.
        """
        await self._check_known(device)
        kinds = Down.PROFILE, Up.PROFILED
        return (await self._ask(link, device, kinds, job, timeout_s)).body

    async def _ask(
        self,
        link: Link,
        device: str,
        kinds: tuple[Down, Up],
        body: Mapping[str, Json],
        timeout_s: float,
    ) -> Message:
        """Send one message, and wait for the answer to it."""
        name = secrets.token_urlsafe(12)
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[device, kinds[1], name] = answered
        late = asyncio.ensure_future(self._clock.sleep(timeout_s))
        question = self._question(device, kinds[0], {**body, "id": name})
        asked = asyncio.ensure_future(link.publish(*question))
        first = asyncio.FIRST_COMPLETED
        try:
            await asyncio.wait({asked, late}, return_when=first)
            if asked.done():
                asked.result()
                either: set[asyncio.Future[Any]] = {answered, late}
                await asyncio.wait(either, return_when=first)
            if not answered.done():
                raise LinkError(
                    f"{device} did not answer in {timeout_s:g} s",
                    hint="Is it switched on and connected? See: skerry why DEVICE.",
                )
            return answered.result()
        finally:
            del self._asked[device, kinds[1], name]
            for task in (asked, late, answered):
                task.cancel()

    def _question(
        self, device: str, kind: Down, body: Mapping[str, Json]
    ) -> tuple[str, bytes]:
        topic = Topic(
            tenant=self._tenant, device=device, direction=Direction.DOWN, kind=kind
        )
        message = Message(
            kind=kind, device=device, sent_at_ms=self._clock.unix_ms(), body=body
        )
        return write_topic(topic), encode(message)

    async def _check_known(self, device: str) -> None:
        table = tables.devices
        one = select(table.c.name).where(
            table.c.tenant == self._tenant, table.c.name == device
        )
        known = await self._database.run(
            lambda connection: connection.execute(one).first()
        )
        if known is None:
            raise UsageError(
                f"there is no device {device!r:.80}", hint="See: skerry device ls."
            )

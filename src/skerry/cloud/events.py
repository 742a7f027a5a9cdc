"""The devices' logs: bounded lines, the newest of each device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, delete, insert, select

from skerry.cloud import tables
from skerry.cloud.database import Database, to_text
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import DataError
from skerry.core.messages import Message

KEPT_EVENTS = 10_000
"""How many lines of a device are kept."""

LARGEST_EVENT_BYTES = 16 * 1024
LONGEST_EVENT_NAME = 64
LATEST_MS = 1 << 53
"""Beyond any date, and still a number in every JSON reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a device's log.

    Attributes:
        id: Grows from line to line.
        device: Whose it is.
        name: What happened, such as `release.installed`.
        at_ms: When, by the device's clock, milliseconds since 1970.
        received_at_ms: When the hub took it, by its own.
        trace: What it belongs to, or empty.
        fields: The particulars.
    """

    id: int
    device: str
    name: str
    at_ms: int
    received_at_ms: int
    trace: str
    fields: Mapping[str, Json]


class Events:
    """The devices' logs.

    Args:
        database: Where they are.
        tenant: Whose devices.
        clock: Says when a line came.
    """

    def __init__(self, database: Database, *, tenant: str, clock: Clock) -> None:
        self._database = database
        self._tenant = tenant
        self._clock = clock

    async def read(
        self, device: str, *, after: int = 0, limit: int = 100
    ) -> tuple[Event, ...]:
        """The newest lines of a device, oldest first.

        Args:
            device: Whose.
            after: Only those with a larger `id`.
            limit: How many at most.
        """

        def work(connection: Connection) -> tuple[Event, ...]:
            table = tables.events
            newest = (
                select(table)
                .where(table.c.tenant == self._tenant, table.c.device == device)
                .where(table.c.id > after)
                .order_by(table.c.id.desc())
                .limit(limit)
            )
            rows = connection.execute(newest).mappings().all()
            return tuple(
                Event(
                    id=row["id"],
                    device=row["device"],
                    name=row["name"],
                    at_ms=row["at_ms"],
                    received_at_ms=row["received_at_ms"],
                    trace=row["trace"],
                    fields=msgspec.json.decode(row["document"]),
                )
                for row in reversed(rows)
            )

        return await self._database.run(work)

    def take(
        self, connection: Connection, tenant: str, device: str, message: Message
    ) -> None:
        """Keep an `event` message; a function for `Ingest.take`.

        Raises:
            DataError: It has no name or no time, or is too large.
        """
        fields = dict(message.body)
        name, at_ms = fields.pop("name", None), fields.pop("at_ms", None)
        is_name = isinstance(name, str) and 0 < len(name) <= LONGEST_EVENT_NAME
        is_time = isinstance(at_ms, int) and 0 <= at_ms < LATEST_MS
        if not is_name or not is_time or isinstance(at_ms, bool):
            raise DataError(
                f"an event has the name {name!r:.80} and the time {at_ms!r:.40}",
                hint=f"A name of 1 to {LONGEST_EVENT_NAME} letters, milliseconds.",
            )
        document = to_text(fields)
        if len(document.encode()) > LARGEST_EVENT_BYTES:
            raise DataError(
                f"the event {name} has {len(document.encode())} bytes, at most"
                f" {LARGEST_EVENT_BYTES} are allowed",
                hint="Send large things as blobs.",
            )
        connection.execute(
            insert(tables.events).values(
                tenant=tenant,
                device=device,
                at_ms=at_ms,
                received_at_ms=self._clock.unix_ms(),
                name=name,
                trace=message.trace[:255],
                document=document,
            )
        )
        _forget_oldest(connection, tenant, device)

    def add(
        self,
        connection: Connection,
        device: str,
        name: str,
        fields: Mapping[str, Json],
        *,
        trace: str = "",
    ) -> None:
        """Add a line of the hub's own to a device's log."""
        now_ms = self._clock.unix_ms()
        body = {**fields, "name": name, "at_ms": now_ms}
        message = Message(
            kind="event", device=device, sent_at_ms=now_ms, trace=trace, body=body
        )
        self.take(connection, self._tenant, device, message)


def _forget_oldest(connection: Connection, tenant: str, device: str) -> None:
    table = tables.events
    of_device = (table.c.tenant == tenant) & (table.c.device == device)
    oldest_kept = (
        select(table.c.id)
        .where(of_device)
        .order_by(table.c.id.desc())
        .offset(KEPT_EVENTS)
        .limit(1)
    )
    last_forgotten = connection.execute(oldest_kept).scalar()
    if last_forgotten is not None:
        connection.execute(delete(table).where(of_device, table.c.id <= last_forgotten))

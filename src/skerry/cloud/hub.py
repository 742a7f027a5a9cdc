"""The hub: its parts, in the order in which they start and stop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skerry.cloud.database import Database, sqlite_url
from skerry.core.clock import Clock, SystemClock
from skerry.core.durable import make_folder
from skerry.core.fleet import DEFAULT_TENANT
from skerry.core.names import check_name
from skerry.core.seams import Link

DATABASE_FILE = "hub.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """What a hub is told at its start.

    Attributes:
        folder: Where it keeps what it must not lose.
        database: The database's URL, or None for a SQLite file in `folder`.
        host: The address that its listeners bind.
        port: Of the HTTP API; 0 takes a free one.
        mqtt_port: Of the embedded broker; 0 takes a free one.
        tenant: Whose fleet it is.
    """

    folder: Path
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    mqtt_port: int = 0
    tenant: str = DEFAULT_TENANT


class Hub:
    """The hub without its HTTP API.

    Args:
        settings: What it is told.
        clock: What it reads time from and waits on.
        link: Its connection to a broker that others run; None starts the embedded
            broker.

    Attributes:
        settings: What it was told.
        clock: Its clock.
        database: Its database.

    Raises:
        UsageError: The tenant's name or the database's URL cannot be one.
    """

    def __init__(
        self,
        settings: HubSettings,
        *,
        clock: Clock | None = None,
        link: Link | None = None,
    ) -> None:
        check_name(settings.tenant, kind="tenant")
        self.settings = settings
        self.clock = clock or SystemClock()
        self._given_link = link
        self.database = Database(
            settings.database or sqlite_url(settings.folder / DATABASE_FILE)
        )

    async def start(self) -> None:
        """Bring the database up to date and start the parts.

        Raises:
            StorageError: The disk or the database refused.
            NewerSchemaError: A newer Skerry has changed the database.
        """
        make_folder(self.settings.folder)
        await self.database.migrate()

    async def stop(self) -> None:
        """Stop the parts, the last started first."""
        await self.database.close()

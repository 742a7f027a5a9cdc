"""The hub's database: one transaction at a time is one function call in a thread.

Only this module knows which database it is. SQLite has one writer, so all its
transactions run on one thread, and nobody in this process ever waits for a lock; it
runs in WAL mode and flushes each commit to the disk, since what is acknowledged to a
device is deleted there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from skerry.core.errors import (
    ConflictError,
    MissingExtraError,
    NewerSchemaError,
    SkerryError,
    StorageError,
    UsageError,
)

ResultT = TypeVar("ResultT")
log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
THREADS = 8
"""How many transactions a database with many writers is given at once."""

_SQLITE_SETTINGS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)
_ENCODER = msgspec.json.Encoder(order="sorted")


def sqlite_url(path: Path) -> str:
    """The URL of a database that is a file."""
    return f"sqlite:///{path}"


def to_text(document: object) -> str:
    """Write what stands in a text column: canonical JSON of any JSON value."""
    return _ENCODER.encode(document).decode()


class Database:
    """A database and its connections.

    Args:
        url: As SQLAlchemy writes it: `sqlite:///hub.sqlite`, `sqlite://` (in memory).
        lock_timeout_s: How long another process may hold a SQLite file.

    Raises:
        UsageError: The URL is not one.
        MissingExtraError: The driver it names is not installed.
    """

    def __init__(self, url: str, *, lock_timeout_s: float = 5.0) -> None:
        self._engine = _make_engine(url, lock_timeout_s)
        is_sqlite = self._engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(
            max_workers=1 if is_sqlite else THREADS, thread_name_prefix="database"
        )

    async def migrate(self) -> None:
        """Bring the tables up to this version, all steps in one transaction.

        Raises:
            NewerSchemaError: A newer Skerry has changed this database.
            StorageError: The database refused.
        """
        await self.run(_upgrade)

    async def run(self, work: Callable[[Connection], ResultT]) -> ResultT:
        """Run a function in one transaction, off the event loop.

        The transaction is committed when the function returns, and undone when it
        raises. A caller that is cancelled does not know which.

        Args:
            work: Takes the connection; what it returns must not need it.

        Raises:
            ConflictError: A row of that key is already there, or is referred to.
            StorageError: The database is locked, full, gone, or refused.
            SkerryError: What the function raised.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._transact, work)

    async def close(self) -> None:
        """Finish what is under way and give the connections back."""
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()

    def _transact(self, work: Callable[[Connection], ResultT]) -> ResultT:
        with database_errors(), self._engine.begin() as connection:
            return work(connection)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what a database raises into errors of our tree."""
    try:
        yield
    except SkerryError:
        raise
    except IntegrityError as error:
        raise ConflictError(
            f"the database refused a row: {error.orig}",
            hint="Read what is there, then change it.",
        ) from error
    except DBAPIError as error:
        raise StorageError(
            f"the database refused: {error.orig}",
            hint="Look at the disk and at who else holds the database.",
        ) from error
    except SQLAlchemyError as error:
        raise StorageError(
            f"the database failed: {error}", hint="Look at the hub's log."
        ) from error


def _make_engine(url: str, lock_timeout_s: float) -> Engine:
    options: dict[str, Any] = {}
    if url.startswith("sqlite:"):
        options["connect_args"] = {
            "timeout": lock_timeout_s,
            "check_same_thread": False,
        }
    if url in {"sqlite://", "sqlite:///:memory:"}:
        options["poolclass"] = StaticPool
    try:
        engine = create_engine(url, **options)
    except (ArgumentError, ValueError):
        # Neither the URL nor what is said of it: there may be a password in it.
        scheme = url.partition(":")[0]
        raise UsageError(
            f"{scheme[:40]!r}… is not the URL of a database",
            hint="Write sqlite:///FILE or postgresql://USER@HOST/NAME.",
        ) from None
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "a driver", extra="hub") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Python's sqlite3 begins transactions by itself, late and not for DDL: off.
    connection.isolation_level = None
    cursor = connection.cursor()
    for setting in _SQLITE_SETTINGS:
        cursor.execute(setting)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise NewerSchemaError(
            f"the database is not one that this Skerry knows: {error}",
            hint="Upgrade Skerry here first.",
        ) from error

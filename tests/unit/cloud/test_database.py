from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text

from skerry.cloud import tables
from skerry.cloud.database import Database, sqlite_url, to_text
from skerry.cloud.hub import HubSettings
from skerry.core.errors import (
    ConflictError,
    DataError,
    MissingExtraError,
    NewerSchemaError,
    StorageError,
    UsageError,
)

Use = Callable[[Database], Coroutine[Any, Any, None]]


def _with_database(url: str, use: Use) -> None:
    async def main() -> None:
        database = Database(url, lock_timeout_s=0.05)
        try:
            await database.migrate()
            await use(database)
        finally:
            await database.close()

    asyncio.run(main())


def _add_device(connection: Connection, name: str = "gate-1") -> None:
    connection.execute(
        insert(tables.devices).values(
            tenant="main", name=name, labels="{}", created_at_ms=1, is_online=False
        )
    )


def _count(connection: Connection) -> int:
    return len(connection.execute(select(tables.devices)).all())


def test_migrations_make_the_tables_of_the_code() -> None:
    """Alembic finds no difference between what it made and `METADATA`."""

    async def use(database: Database) -> None:
        def compare(connection: Connection) -> list[Any]:
            context = MigrationContext.configure(
                connection, opts={"compare_server_default": True}
            )
            return compare_metadata(context, tables.METADATA)

        assert await database.run(compare) == []

    _with_database("sqlite://", use)


def test_migrations_go_back() -> None:
    """The first step undone leaves no table but alembic's own."""

    async def use(database: Database) -> None:
        def downgrade(connection: Connection) -> list[str]:
            from alembic import command
            from alembic.config import Config

            from skerry.cloud.database import MIGRATIONS

            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
            names = text("select name from sqlite_master where type = 'table'")
            return [row[0] for row in connection.execute(names)]

        left = await database.run(downgrade)
        assert set(left) <= {"alembic_version", "sqlite_sequence"}

    _with_database("sqlite://", use)


def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    """Migrating again changes nothing, and rows stay."""
    url = sqlite_url(tmp_path / "hub.sqlite")

    async def add(database: Database) -> None:
        await database.run(_add_device)

    async def count(database: Database) -> None:
        assert await database.run(_count) == 1

    _with_database(url, add)
    _with_database(url, count)


def test_a_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    """SQLite runs in WAL mode with a full flush and checks foreign keys."""

    async def use(database: Database) -> None:
        def read(connection: Connection) -> list[Any]:
            return [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]

        assert await database.run(read) == ["wal", 2, 1]

    _with_database(sqlite_url(tmp_path / "hub.sqlite"), use)


def test_a_function_that_raises_changes_nothing() -> None:
    """Its transaction is undone, and its error comes out as it is."""

    async def use(database: Database) -> None:
        def fail(connection: Connection) -> None:
            _add_device(connection)
            message = "no"
            raise DataError(message, hint="")

        with pytest.raises(DataError):
            await database.run(fail)
        assert await database.run(_count) == 0

    _with_database("sqlite://", use)


def test_a_row_that_is_there_is_a_conflict() -> None:
    """The same key twice, and a row of a device that is not there, are conflicts."""

    async def use(database: Database) -> None:
        await database.run(_add_device)
        with pytest.raises(ConflictError):
            await database.run(_add_device)
        orphan = insert(tables.inbox).values(
            tenant="main", device="none", epoch="e", seq=1, updated_at_ms=1
        )
        with pytest.raises(ConflictError):
            await database.run(lambda connection: connection.execute(orphan))

    _with_database("sqlite://", use)


def test_a_locked_database_is_a_storage_error(tmp_path: Path) -> None:
    """While another process writes, ours says so; afterwards it works again."""
    path = tmp_path / "hub.sqlite"

    async def use(database: Database) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match="locked"):
                await database.run(_add_device)
            other.execute("ROLLBACK")
        finally:
            other.close()
        await database.run(_add_device)

    _with_database(sqlite_url(path), use)


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    """A database that may not grow says so, and what it held stays."""

    async def use(database: Database) -> None:
        await database.run(_add_device)

        def fill(connection: Connection) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
            for number in range(1000):
                _add_device(connection, f"gate-{number}-{'x' * 50}")

        with pytest.raises(StorageError, match="full"):
            await database.run(fill)
        assert await database.run(_count) == 1

    _with_database(sqlite_url(tmp_path / "hub.sqlite"), use)


def test_a_database_of_a_newer_skerry_is_refused() -> None:
    """Its revision is unknown: nothing is changed, and the hint is to upgrade."""

    async def use(database: Database) -> None:
        newer = text("update alembic_version set version_num = '9999'")
        await database.run(lambda connection: connection.execute(newer))
        with pytest.raises(NewerSchemaError, match="9999"):
            await database.migrate()

    _with_database("sqlite://", use)


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    """The database's file cannot be made in it."""
    with pytest.raises(StorageError, match="unable to open"):
        _with_database(sqlite_url(tmp_path / "none" / "hub.sqlite"), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["", "hub.sqlite", "nonesuch://x", "sqlite//x"])
def test_a_bad_url_is_refused(url: str) -> None:
    """What is not the URL of a database is a UsageError."""
    with pytest.raises(UsageError, match="not the URL of a database"):
        Database(url)


def test_a_driver_that_is_missing_is_named() -> None:
    """The error says which package the URL needs."""
    with pytest.raises(MissingExtraError, match="oracledb"):
        Database("oracle+oracledb://x@localhost/y")


def test_text_is_canonical() -> None:
    """The same values give the same text, whatever their order."""
    assert to_text({"b": 1, "a": [None, "é"]}) == '{"a":[null,"é"],"b":1}'


def test_a_password_in_an_url_is_not_repeated() -> None:
    """A mistyped scheme is named, and nothing of what follows it."""
    with pytest.raises(UsageError, match="'postgre'… is not the URL") as caught:
        Database("postgre://me:secret@host/name")
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__cause__ is None
    settings = HubSettings(folder=Path(), database="postgresql://me:secret@host/name")
    assert "secret" not in repr(settings)

"""`skerry hub backup|restore`: what a hub must not lose, and a hub made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app import figures
from skerry.app.connection import HUB_FOLDER
from skerry.core.clock import SystemClock
from skerry.core.files import read_file

if TYPE_CHECKING:
    from skerry.cloud.backup import HubBackup

_LARGEST_PASSPHRASE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupMade:
    """A backup of a hub.

    Attributes:
        folder: Where it is.
        made_at_ms: When, milliseconds since 1970.
        files: How many files it holds.
        size_bytes: How large they are together.
        copied_bytes: How much of that was not there before.
        has_database: Whether the database is among them.
        has_keys: Whether the hub's online key is among them, sealed.
        damaged: Blobs that the hub's disk has damaged, by hash; they are left out.
    """

    folder: Path
    made_at_ms: int
    files: int
    size_bytes: int
    copied_bytes: int
    has_database: bool
    has_keys: bool
    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRestored:
    """A hub that can be started.

    Attributes:
        folder: Its folder.
        made_at_ms: When the backup was made, milliseconds since 1970.
        files: How many files were restored.
        has_key: Whether the hub can sign what it says; if not, it needs a new key.
        desired: On how many devices each release was desired, by `NAME/VERSION`.
        paused: The rollouts that were running.
    """

    folder: Path
    made_at_ms: int
    files: int
    has_key: bool
    desired: Mapping[str, int]
    paused: tuple[str, ...]


def backup(
    into: Path,
    /,
    *,
    folder: Path = Path(HUB_FOLDER),
    passphrase: Path | None = None,
    database: str | None = None,
) -> BackupMade:
    """Back up a hub, which may run meanwhile; only what is new is copied.

    Args:
        into: The backup's folder; one that is there is brought up to date.
        folder: The hub's folder, on this machine.
        passphrase: A file with a passphrase that seals the hub's online key; the key
            is left out without one.
        database: The URL of the hub's database if it is no file in the folder; dump it
            with its own tool, such as pg_dump, before.
    """
    from skerry.cloud.backup import back_up

    made = back_up(
        folder,
        into,
        now_ms=SystemClock().unix_ms(),
        passphrase=_read_passphrase(passphrase),
        has_database=database is None,
    )
    held: HubBackup = made.backup
    return BackupMade(
        folder=into,
        made_at_ms=held.made_at_ms,
        files=len(held.files),
        size_bytes=sum(one.size_bytes for one in held.files.values()),
        copied_bytes=made.copied_bytes,
        has_database=held.has_database,
        has_keys=held.has_keys,
        damaged=made.damaged,
    )


def restore(
    backup: Path,
    /,
    *,
    folder: Path = Path(HUB_FOLDER),
    passphrase: Path | None = None,
    database: str | None = None,
) -> HubRestored:
    """Restore a hub from a backup, whole or not at all; then start it.

    Args:
        backup: The backup's folder.
        folder: Where the hub is to be; nothing is there, or an empty folder.
        passphrase: The file with the passphrase that sealed the online key.
        database: The URL of the hub's database if it is no file of the backup; restore
            it with its own tool, such as pg_restore, before.
    """
    from skerry.cloud.restore import restore as restore_hub

    restored = asyncio.run(
        restore_hub(
            backup,
            folder,
            now_ms=SystemClock().unix_ms(),
            passphrase=_read_passphrase(passphrase),
            database=database,
        )
    )
    return HubRestored(
        folder=folder,
        made_at_ms=restored.backup.made_at_ms,
        files=len(restored.backup.files),
        has_key=restored.has_key,
        desired=restored.withdrawn.desired,
        paused=restored.withdrawn.paused,
    )


def render_backup(made: BackupMade) -> str:
    """Say what it holds, and what it does not."""
    size = figures.show_bytes(made.size_bytes)
    new = figures.show_bytes(made.copied_bytes)
    lines = [f"{made.folder} holds {made.files} files, {size}; {new} were new."]
    if not made.has_database:
        lines.append("The database is not among them: keep its own dump with it.")
    if not made.has_keys:
        lines.append("The online key is not among them: see --passphrase.")
    lines += [f"The hub's disk has damaged blob {one}." for one in made.damaged]
    return "\n".join(lines)


def render_restore(restored: HubRestored) -> str:
    """Say what stands, and what a person has to do next."""
    when = figures.show_time(restored.made_at_ms)
    lines = [f"{restored.folder} is the hub of {when}: start it with skerry hub up."]
    if restored.has_key:
        lines.append("Then hand in what was published since: skerry key publish.")
    else:
        lines.append(
            "It has no online key that devices trust: once it is up, run skerry key "
            "rotate online KEYID and skerry key publish."
        )
    lines += [
        f"{release} was desired of {n} devices; they serve on, and are told nothing."
        for release, n in restored.desired.items()
    ]
    lines += [f"Rollout {one} is paused." for one in restored.paused]
    return "\n".join(lines)


def _read_passphrase(path: Path | None) -> bytes | None:
    if path is None:
        return None
    return read_file(path, largest_bytes=_LARGEST_PASSPHRASE_BYTES).strip()

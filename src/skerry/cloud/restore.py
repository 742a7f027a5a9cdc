"""A hub from its backup: whole or not at all, and never behind its devices.

Everything is put together in a folder beside, each file checked against its hash, and
renamed to its place at the end. Devices have seen what the lost hub did after the
backup; whatever they compare must not go back:

- Shadows count on from the time in seconds, online metadata from that in minutes, which
  is beyond any version that was given out before: each grows more slowly than that. So
  they do even after a second restore of the same backup.
- Without the online key the hub makes a new one, and what the old one signed is left
  out: devices begin a new count when the root names the new key (TUF specification,
  section 5.3.11).
- No release is desired of any device, and rollouts that were running are paused. The
  backup may say of a device that it should run what it has long left behind; a device
  of which nothing is desired serves on what it has.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, select

from skerry.cloud import tables
from skerry.cloud.audit import write_audit
from skerry.cloud.backup import (
    KEYS_SCHEMA,
    SEALED_KEYS_FILE,
    HubBackup,
    OnlineKeys,
    checked_pieces,
    part_path,
    read_backup,
)
from skerry.cloud.database import Database, sqlite_url
from skerry.cloud.hub import DATABASE_FILE
from skerry.cloud.releases import KEY_FILE, NEXT_KEY_FILE, TRUST_FOLDER
from skerry.cloud.rollout_store import UNDER_WAY, RolloutStore
from skerry.cloud.shadows import read_shadows, write_shadows
from skerry.core.documents import from_json
from skerry.core.durable import (
    PRIVATE_DISK,
    REAL_DISK,
    TEMPORARY_SUFFIX,
    make_folder,
    storage_errors,
    write_file,
    write_files,
)
from skerry.core.errors import ConflictError, UsageError
from skerry.core.fleet import Shadow
from skerry.evolve.rollout import Pause, steps
from skerry.evolve.shadow import set_desired
from skerry.evolve.trust import Repository, public_key
from skerry.evolve.trust.sealed import unseal

_ONLINE_FILES = ("timestamp.json", "snapshot.json")
_WHO = "restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """What a restored hub asks of its fleet no more, until somebody says so.

    Attributes:
        desired: On how many devices each release was desired, by `NAME/VERSION`.
        paused: The rollouts that were running.
    """

    desired: Mapping[str, int]
    paused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A hub that can be started.

    Attributes:
        backup: What it was made of.
        has_key: Whether it has an online key that the root names.
        withdrawn: What it asks no more.
    """

    backup: HubBackup
    has_key: bool
    withdrawn: Withdrawn


async def restore(
    backup_folder: Path,
    folder: Path,
    *,
    now_ms: int,
    passphrase: bytes | None = None,
    database: str | None = None,
) -> Restored:
    """Make a hub's folder of a backup.

    Args:
        backup_folder: The backup.
        folder: Where the hub is to be; nothing is there, or an empty folder.
        now_ms: The time, milliseconds since 1970.
        passphrase: Opens the online keys; None leaves them out.
        database: The URL of the database if it is none of the backup's; it has been
            filled from its own dump.

    Raises:
        ConflictError: There is something in the folder.
        DataError: The backup is damaged; nothing was restored.
        UsageError: The backup has no database and none is named, or the other way
            round, or there are no keys for the passphrase.
        TrustError: The passphrase is another one.
        StorageError: The disk or the database refused; nothing was restored.
    """
    backup = read_backup(backup_folder)
    _check_fits(backup, folder, passphrase, database)
    make_folder(folder.parent)
    whole = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    try:
        _put_together(backup, backup_folder, whole)
        has_key = _restore_trust(whole, passphrase, now_ms)
        url = database or sqlite_url(whole / DATABASE_FILE)
        withdrawn = await _withdraw(url, now_ms)
        with storage_errors(folder):
            REAL_DISK.sync(whole)
            REAL_DISK.replace(whole, folder)
            REAL_DISK.sync(folder.parent)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    return Restored(backup=backup, has_key=has_key, withdrawn=withdrawn)


def _check_fits(
    backup: HubBackup, folder: Path, passphrase: bytes | None, database: str | None
) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(
            f"{folder} is not empty",
            hint="A hub is restored into a new folder: move what is there away.",
        )
    if passphrase is not None and not backup.has_keys:
        raise UsageError(
            "the backup holds no keys that a passphrase could open",
            hint="Leave --passphrase out; then see docs/runbooks/lost-hub-disk.md.",
        )
    if backup.has_database == (database is not None):
        raise UsageError(
            "the backup holds the database, and another one is named"
            if backup.has_database
            else "the backup holds no database: it ran elsewhere",
            hint="Give --database if, and only if, the backup was made with it.",
        )


def _put_together(backup: HubBackup, source: Path, whole: Path) -> None:
    make_folder(whole)
    whole.chmod(0o700)
    for name, blob in sorted(backup.files.items()):
        if name == SEALED_KEYS_FILE:
            continue
        path = whole / name
        make_folder(path.parent)
        pieces = checked_pieces(part_path(source, blob.sha256), blob.sha256)
        write_files(path.parent, {path.name: pieces}, disk=PRIVATE_DISK)
    sealed = backup.files.get(SEALED_KEYS_FILE)
    if sealed is not None:
        pieces = checked_pieces(part_path(source, sealed.sha256), sealed.sha256)
        write_files(whole, {SEALED_KEYS_FILE: pieces}, disk=PRIVATE_DISK)


def _restore_trust(whole: Path, passphrase: bytes | None, now_ms: int) -> bool:
    """Put keys and metadata in order; says whether the hub can sign."""
    sealed, folder = whole / SEALED_KEYS_FILE, whole / TRUST_FOLDER
    make_folder(folder)
    keys: Mapping[str, str] = {}
    if passphrase is not None:
        content = unseal(sealed.read_bytes(), passphrase)
        name = "the sealed keys"
        keys = from_json(OnlineKeys, content, schema=KEYS_SCHEMA, name=name).keys
    sealed.unlink(missing_ok=True)
    for file in (KEY_FILE, NEXT_KEY_FILE):
        if file in keys:
            write_file(whole / file, keys[file].encode(), disk=PRIVATE_DISK)
    repository = Repository({path.name: path.read_bytes() for path in folder.iterdir()})
    repository.check()
    named = [
        key.encode()
        for key in keys.values()
        if repository.names_online(public_key(key.encode()))
    ]
    has_timestamp = "timestamp.json" in repository.files()
    if named and has_timestamp:
        repository.sign_online(named[0], now_ms=now_ms, least_version=now_ms // 60_000)
    files = repository.files()
    for path in folder.iterdir():
        if path.name not in files or (not named and path.name.endswith(_ONLINE_FILES)):
            path.unlink()
    if named:
        write_files(folder, files)
    return bool(named)


async def _withdraw(url: str, now_ms: int) -> Withdrawn:
    database = Database(url)
    try:
        await database.migrate()
        return await database.run(lambda one: _withdraw_all(one, now_ms))
    finally:
        await database.close()


def _withdraw_all(connection: Connection, now_ms: int) -> Withdrawn:
    table = tables.shadows
    rows = connection.execute(select(table.c.tenant, table.c.device)).all()
    by_tenant: dict[str, list[str]] = {}
    for tenant, device in rows:
        by_tenant.setdefault(tenant, []).append(device)
    desired: Counter[str] = Counter()
    paused: list[str] = []
    for tenant, devices in by_tenant.items():
        shadows = read_shadows(connection, tenant, devices)
        write_shadows(
            connection, tenant, [_counted_on(one, now_ms) for one in shadows.values()]
        )
        for shadow in shadows.values():
            desired.update(_wanted(shadow))
        paused += _pause(connection, tenant, now_ms)
    write_audit(
        connection,
        at_ms=now_ms,
        who=_WHO,
        what="hub.restored",
        document={"desired": dict(desired), "paused": list(paused)},
    )
    return Withdrawn(desired=dict(sorted(desired.items())), paused=tuple(paused))


def _counted_on(shadow: Shadow, now_ms: int) -> Shadow:
    ahead = replace(shadow, version=max(shadow.version, now_ms // 1000))
    changed = set_desired(ahead, {"releases": None}, now_ms=now_ms)
    return replace(changed, version=ahead.version + 1)


def _wanted(shadow: Shadow) -> list[str]:
    releases = shadow.desired.get("releases")
    entries = releases.items() if isinstance(releases, dict) else ()
    return [
        f"{name}/{entry['version']}"
        for name, entry in entries
        if isinstance(entry, dict) and "version" in entry
    ]


def _pause(connection: Connection, tenant: str, now_ms: int) -> list[str]:
    store = RolloutStore(tenant)
    paused = []
    for rollout in store.read(connection, states=UNDER_WAY):
        after, _ = steps(rollout, [Pause(by=_WHO)], now_ms)
        if after.state is not rollout.state:
            store.write(connection, rollout, after)
            paused.append(rollout.id)
    return paused

"""A backup of a hub: what it must not lose, by content address, in one folder.

Each file lies in the backup under its SHA-256, and `backup.json`, put in place last,
says which file of the hub's folder each one is: a backup that is cut off leaves the one
before. Blobs never change, so that only new ones are copied.

The order makes it consistent while the hub runs. The database is copied first, in one
read transaction (SQLite's online backup). What is published after that is in the later
copy of the trust folder, as after a hub that died while it took a publication; the
publisher hands it in again. A blob is always there before what names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from skerry.cloud.hub import DATABASE_FILE
from skerry.cloud.releases import KEY_FILE, NEXT_KEY_FILE, TRUST_FOLDER
from skerry.core.documents import from_json, to_json
from skerry.core.durable import (
    PRIVATE_DISK,
    TEMPORARY_SUFFIX,
    hold,
    make_folder,
    storage_errors,
    write_files,
)
from skerry.core.errors import DataError, StorageError, TrustError, UsageError
from skerry.core.files import name_file, read_file, read_pieces
from skerry.core.release import Blob, is_sha256
from skerry.evolve.trust import Repository
from skerry.evolve.trust.sealed import seal

BACKUP_SCHEMA = "skerry.backup/1"
BACKUP_FILE = "backup.json"
KEYS_SCHEMA = "skerry.online-keys/1"
SEALED_KEYS_FILE = "online-keys.sealed"
PARTS_FOLDER = "parts"
LARGEST_LIST_BYTES = 64 << 20
"""Most bytes of `backup.json`: some 300,000 blobs."""

_LOCK_FILE = "backup.lock"
_ATTEMPTS = 5
_NAMES = re.compile(
    rf"{re.escape(DATABASE_FILE)}|{re.escape(SEALED_KEYS_FILE)}"
    rf"|{TRUST_FOLDER}/[A-Za-z0-9._-]{{1,120}}\.json|blobs/[0-9a-f]{{2}}/[0-9a-f]{{64}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubBackup:
    """What a backup holds.

    Attributes:
        made_at_ms: When, milliseconds since 1970.
        files: By path in the hub's folder.
    """

    made_at_ms: int
    files: Mapping[str, Blob] = field(default_factory=dict)

    @property
    def has_database(self) -> bool:
        """Whether the database is among the files."""
        return DATABASE_FILE in self.files

    @property
    def has_keys(self) -> bool:
        """Whether the hub's online key is among the files, sealed."""
        return SEALED_KEYS_FILE in self.files


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineKeys:
    """A hub's private keys, as they are sealed.

    Attributes:
        keys: PEM, by file name.
    """

    keys: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """What was done.

    Attributes:
        backup: What the backup holds now.
        copied_bytes: How much was not there before.
        damaged: Blobs that the hub's disk has damaged, and that are left out.
    """

    backup: HubBackup
    copied_bytes: int
    damaged: tuple[str, ...]


def back_up(
    folder: Path,
    into: Path,
    *,
    now_ms: int,
    passphrase: bytes | None = None,
    has_database: bool = True,
) -> BackedUp:
    """Back a hub up, while it runs or not.

    Args:
        folder: The hub's folder.
        into: The backup's folder; one that is there is brought up to date.
        now_ms: The time, milliseconds since 1970.
        passphrase: Seals the hub's online keys; None leaves them out.
        has_database: Whether the database is a file in the folder. One that runs
            elsewhere must have been dumped, by its own tool, before.

    Raises:
        UsageError: There is no hub in the folder, or the passphrase is too short.
        ConflictError: Another backup is being made there.
        DataError: The backup that is there is damaged.
        StorageError: A disk refused; the backup of before is still whole.
    """
    if not (folder / (DATABASE_FILE if has_database else KEY_FILE)).is_file():
        raise UsageError(
            f"{folder} holds no hub" + (" with a SQLite file" if has_database else ""),
            hint="Give the hub's folder; where its database runs elsewhere, dump that "
            "with its own tool first, and give --database.",
        )
    make_folder(into)
    with hold(into / _LOCK_FILE, who="backup"):
        before = read_backup(into) if (into / BACKUP_FILE).exists() else None
        known = {one.sha256 for one in before.files.values()} if before else set()
        made = _Making(into, known=known)
        if has_database:
            made.keep_database(folder / DATABASE_FILE)
        for name, content in _read_trust(folder / TRUST_FOLDER).items():
            made.keep(f"{TRUST_FOLDER}/{name}", content)
        if passphrase is not None:
            made.keep(SEALED_KEYS_FILE, seal(_read_keys(folder), passphrase))
        made.keep_blobs(folder)
        backup = HubBackup(made_at_ms=now_ms, files=made.files)
        content = to_json(backup, schema=BACKUP_SCHEMA)
        write_files(into, {BACKUP_FILE: content}, disk=PRIVATE_DISK)
        _sweep(into, backup)
    return BackedUp(
        backup=backup, copied_bytes=made.copied_bytes, damaged=tuple(made.damaged)
    )


def read_backup(folder: Path) -> HubBackup:
    """Read what a backup holds.

    Raises:
        NewerSchemaError: A newer Skerry made it.
        DataError: There is none, or it is damaged.
    """
    path = folder / BACKUP_FILE
    content = read_file(path, largest_bytes=LARGEST_LIST_BYTES, error=DataError)
    backup = from_json(
        HubBackup,
        content,
        schema=BACKUP_SCHEMA,
        name=str(path),
        largest_bytes=LARGEST_LIST_BYTES,
    )
    for name, one in backup.files.items():
        if _NAMES.fullmatch(name) is None or not is_sha256(one.sha256):
            raise DataError(
                f"{path} names a file {name!r:.80} that no hub has",
                hint="Take another backup.",
            )
    return backup


def part_path(folder: Path, sha256: str) -> Path:
    """Where a file lies in a backup."""
    return folder / PARTS_FOLDER / sha256[:2] / sha256


def checked_pieces(path: Path, sha256: str) -> Iterator[bytes]:
    """The content of a file in pieces; an error after the last if its hash is another.

    Raises:
        DataError: It is damaged, or not there.
    """
    digest = hashlib.sha256()
    try:
        for piece in read_pieces(path):
            digest.update(piece)
            yield piece
    except OSError as problem:
        raise DataError(
            f"cannot read {path}: {problem.strerror or problem}",
            hint="Take another backup.",
        ) from problem
    if digest.hexdigest() != sha256:
        raise DataError(
            f"{path} is damaged: its hash is {digest.hexdigest()}",
            hint="Take another backup.",
        )


class _Making:
    """A backup that is being made.

    Args:
        into: Its folder.
        known: What the backup of before says is there.
    """

    def __init__(self, into: Path, *, known: set[str]) -> None:
        self.files: dict[str, Blob] = {}
        self.damaged: list[str] = []
        self.copied_bytes = 0
        self._into = into
        self._known = known

    def keep(self, name: str, content: bytes) -> None:
        """Take a small file in."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._put(name, Blob(sha256=sha256, size_bytes=len(content)), iter((content,)))

    def keep_database(self, path: Path) -> None:
        """Take a SQLite file in that others may write to meanwhile."""
        copy = self._into / f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"
        try:
            with storage_errors(copy):
                PRIVATE_DISK.write(copy, b"")
            _copy_database(path, copy)
            self._keep_file(DATABASE_FILE, copy)
        finally:
            copy.unlink(missing_ok=True)

    def keep_blobs(self, folder: Path) -> None:
        """Take in all blobs of a hub; what its disk has damaged is named."""
        for path in sorted((folder / "blobs").glob("*/*")):
            name, sha256 = str(path.relative_to(folder)), path.name
            if _NAMES.fullmatch(name) is None:
                continue
            blob = Blob(sha256=sha256, size_bytes=path.stat().st_size)
            try:
                self._put(name, blob, checked_pieces(path, sha256))
            except DataError:
                self.damaged.append(sha256)

    def _keep_file(self, name: str, path: Path) -> None:
        blob = name_file(path)
        if blob is None:
            raise StorageError(f"cannot read {path}", hint="Look at that disk.")
        self._put(name, blob, checked_pieces(path, blob.sha256))

    def _put(self, name: str, blob: Blob, pieces: Iterator[bytes]) -> None:
        path = part_path(self._into, blob.sha256)
        is_here = path.exists() and path.stat().st_size == blob.size_bytes
        if not (blob.sha256 in self._known and is_here):
            make_folder(path.parent)
            write_files(path.parent, {path.name: pieces}, disk=PRIVATE_DISK)
            self.copied_bytes += blob.size_bytes
        self.files[name] = blob


def _copy_database(source: Path, copy: Path) -> None:
    try:
        with (
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)
            ) as read,
            closing(sqlite3.connect(copy)) as written,
        ):
            # All pages in one step are one read transaction: writers go on beside it.
            read.backup(written)
            written.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise StorageError(
            f"cannot copy the database {source}: {error}",
            hint="Look at the disks of the hub and of the backup.",
        ) from error


def _read_trust(folder: Path) -> dict[str, bytes]:
    """Read the trust folder in a moment in which nothing is being put in place."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError, TrustError):
            files = {path.name: path.read_bytes() for path in _present(folder)}
            Repository(files).check()
            if {path.name for path in _present(folder)} == set(files):
                return files
    raise StorageError(
        f"the files in {folder} keep changing, or are damaged",
        hint="Make the backup again, once nobody publishes; see skerry hub status.",
    )


def _present(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.json") if not path.name.startswith(".")]


def _read_keys(folder: Path) -> bytes:
    names = [name for name in (KEY_FILE, NEXT_KEY_FILE) if (folder / name).exists()]
    keys = {name: (folder / name).read_text() for name in names}
    return to_json(OnlineKeys(keys=keys), schema=KEYS_SCHEMA)


def _sweep(into: Path, backup: HubBackup) -> None:
    """Remove what the newest backup does not name, and what was cut off."""
    named = {one.sha256 for one in backup.files.values()}
    with storage_errors(into):
        for path in (into / PARTS_FOLDER).glob("*/*"):
            if path.name not in named:
                path.unlink(missing_ok=True)
        for path in into.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)

"""The store-and-forward outbox: what was put in survives a kill and a power cut.

One SQLite file in WAL mode with `synchronous=FULL`: a commit returns once its bytes are
on the disk (https://www.sqlite.org/pragma.html#pragma_synchronous). An entry leaves it
only when the hub has acknowledged it. The numbers of its entries count in the file's
`epoch`, a random name made with it: who starts over from 1 also has another epoch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from skerry.core import durable
from skerry.core.documents import Json
from skerry.core.errors import DataError, NewerSchemaError, StateError, StorageError
from skerry.core.messages import LARGEST_MESSAGE_BYTES

LARGEST_BODY_BYTES = LARGEST_MESSAGE_BYTES - 1024
"""Most bytes of the body of an entry; the envelope has the rest of the message."""

log = logging.getLogger(__name__)

_FORMAT = 1
_ENTRY_BYTES = 64
"""What SQLite needs for an entry beside its texts, roughly."""

_SEALED = b"\x01"
"""So a sealed body begins; JSON never does."""

_EPOCH = "SELECT epoch FROM outbox"
_STATEMENTS = (
    "CREATE TABLE outbox (epoch TEXT NOT NULL)",
    """CREATE TABLE entries (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        trace TEXT NOT NULL,
        sent_at_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    )""",
    f"PRAGMA user_version={_FORMAT}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """What waits for the hub's acknowledgement.

    Attributes:
        seq: Its number in the epoch, from 1 up; 0 before it is put.
        kind: The kind of message.
        body: What it says.
        trace: What it belongs to, or empty.
        sent_at_ms: When it was put, by the device's clock, milliseconds since 1970.
    """

    seq: int = 0
    kind: str
    body: Mapping[str, Json] = field(default_factory=dict)
    trace: str = ""
    sent_at_ms: int


class Cipher(Protocol):
    """Seals texts, each bound to what is said about it in the clear."""

    def seal(self, content: bytes, about: bytes) -> bytes:
        """Encrypt a text."""
        ...

    def unseal(self, sealed: bytes, about: bytes) -> bytes:
        """Decrypt a text.

        Raises:
            DataError: It, or what is said about it, is not what was sealed.
        """
        ...


class Outbox:
    """An outbox on disk; every method may be called from any thread.

    A file that is damaged is set aside, and a new epoch begins.

    Args:
        path: The file; its folder exists.
        limit_bytes: Most bytes that may wait.
        cipher: Seals what the entries say, or None.

    Raises:
        NewerSchemaError: The file is of a newer Skerry.
        StorageError: The disk refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit_bytes: int = 64 << 20,
        cipher: Cipher | None = None,
    ) -> None:
        self._path = path
        self._cipher = cipher
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _storage_error(path, error) from error
            self._set_aside(str(error))
            with self._storage_errors():
                self._connection = self._open()
        with self._storage_errors():
            (self.epoch,) = self._row(_EPOCH)
            self._depth, self._size_bytes = self._measure()

    @property
    def depth(self) -> int:
        """How many entries wait."""
        return self._depth

    def put(
        self,
        kind: str,
        body: Mapping[str, Json],
        *,
        trace: str = "",
        sent_at_ms: int,
    ) -> int:
        """Keep one entry; it is safe on the disk when this returns.

        Returns:
            Its number.

        Raises:
            The errors of `put_many`.
        """
        entry = OutboxEntry(kind=kind, body=body, trace=trace, sent_at_ms=sent_at_ms)
        return self.put_many([entry])[0]

    def put_many(self, entries: Sequence[OutboxEntry]) -> list[int]:
        """Keep several entries, all or none, with one flush of the disk.

        Returns:
            Their numbers.

        Raises:
            DataError: One is larger than a message may be.
            StorageError: The outbox is full, or the disk refused.
        """
        rows = [
            (entry.kind, entry.trace, entry.sent_at_ms, self._write_body(entry))
            for entry in entries
        ]
        size_bytes = sum(_row_bytes(*row) for row in rows)
        insert = "INSERT INTO entries (kind, trace, sent_at_ms, body) VALUES (?,?,?,?)"
        with self._lock:
            if self._size_bytes + size_bytes > self._limit_bytes:
                raise StorageError(
                    f"the outbox {self._path} is full: {self._depth} entries wait, "
                    f"at most {self._limit_bytes} bytes may",
                    hint="It drains when the hub can be reached again.",
                )
            with self._transaction() as connection:
                numbers = [connection.execute(insert, row).lastrowid for row in rows]
            self._depth += len(rows)
            self._size_bytes += size_bytes
        return [number for number in numbers if number is not None]

    def after(self, seq: int, limit: int) -> list[OutboxEntry]:
        """The first entries, at most `limit`, with numbers above `seq`.

        Raises:
            StorageError: The disk refused.
        """
        query = (
            "SELECT seq, kind, trace, sent_at_ms, body FROM entries"
            " WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        with self._lock, self._storage_errors():
            rows = self._connection.execute(query, (seq, limit)).fetchall()
        return [
            OutboxEntry(
                seq=number,
                kind=kind,
                trace=trace,
                sent_at_ms=sent_at_ms,
                body=self._read_body(body, _about(kind, trace, sent_at_ms)),
            )
            for number, kind, trace, sent_at_ms, body in rows
        ]

    def acknowledge(self, epoch: str, seq: int) -> int:
        """Let go of all entries up to a number, as the hub has them.

        Args:
            epoch: The epoch that the hub speaks of; another than ours changes nothing.
            seq: The number.

        Returns:
            How many were let go.

        Raises:
            StorageError: The disk refused.
        """
        if epoch != self.epoch:
            return 0
        with self._lock:
            # A number is 64 bits wide at most; a hub may say anything.
            up_to = max(0, min(seq, 2**62))
            with self._transaction() as connection:
                gone = connection.execute(
                    "DELETE FROM entries WHERE seq <= ?", (up_to,)
                )
            self._depth, self._size_bytes = self._measure()
            return gone.rowcount

    def acknowledged(self) -> int:
        """The highest number below which nothing waits, that one included.

        Raises:
            StorageError: The disk refused.
        """
        with self._lock, self._storage_errors():
            (first,) = self._row("SELECT min(seq) FROM entries")
            return int(first - 1) if first else self._last()

    def renew(self) -> str:
        """Begin a new epoch: what waits counts from 1 again.

        For a hub that has lost what it once acknowledged: it can only wait for numbers
        that no longer exist.

        Raises:
            StorageError: The disk refused.
        """
        epoch = secrets.token_hex(16)
        with self._lock:
            with self._transaction() as connection:
                (first,) = self._row("SELECT min(seq) FROM entries")
                shift = (first or self._last() + 1) - 1
                connection.execute("UPDATE entries SET seq = seq - ?", (shift,))
                connection.execute("UPDATE sqlite_sequence SET seq = seq - ?", (shift,))
                connection.execute("UPDATE outbox SET epoch = ?", (epoch,))
            self.epoch = epoch
        log.warning("outbox.renewed", extra={"epoch": epoch, "depth": self._depth})
        return epoch

    def seal(self) -> int:
        """Seal what was put in the clear, and leave none of it in the file.

        Returns:
            How many entries were sealed.

        Raises:
            StorageError: The disk refused; all are as they were.
        """
        cipher = self._cipher
        if cipher is None:
            return 0
        with self._lock:
            with self._storage_errors():
                rows = self._connection.execute(
                    "SELECT seq, kind, trace, sent_at_ms, body FROM entries"
                ).fetchall()
            sealed = [
                (_SEALED + cipher.seal(body, _about(kind, trace, sent_at_ms)), seq)
                for seq, kind, trace, sent_at_ms, body in rows
                if not body.startswith(_SEALED)
            ]
            with self._transaction() as connection:
                connection.executemany("UPDATE entries SET body=? WHERE seq=?", sealed)
            with self._storage_errors():
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(sealed)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _write_body(self, entry: OutboxEntry) -> bytes:
        body = write_body(entry)
        if self._cipher is None:
            return body
        about = _about(entry.kind, entry.trace, entry.sent_at_ms)
        return _SEALED + self._cipher.seal(body, about)

    def _read_body(self, body: bytes, about: bytes) -> dict[str, Json]:
        if self._cipher is not None:
            try:
                body = self._cipher.unseal(body.removeprefix(_SEALED), about)
            except DataError as error:
                # The numbers must have no gap: the hub would wait for it for ever.
                log.warning("outbox.entry_lost", extra={"why": error.what})
                return {}
        read: dict[str, Json] = msgspec.json.decode(body)
        return read

    def _open(self) -> sqlite3.Connection:
        with durable.storage_errors(self._path):
            # SQLite gives its other files the permissions of this one.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check that the file is an outbox; make it one if it is empty."""
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > _FORMAT:
            raise NewerSchemaError(
                f"the outbox {self._path} has format {found}, this version reads "
                f"up to {_FORMAT}",
                hint="Upgrade Skerry here first.",
            )
        if found == 0:
            self._create(connection)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict == "ok" and not connection.execute(_EPOCH).fetchone():
            verdict = "there is no epoch"
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _STATEMENTS:
            connection.execute(statement)
        connection.execute("INSERT INTO outbox VALUES (?)", (secrets.token_hex(16),))
        connection.execute("COMMIT")
        with durable.storage_errors(self._path):
            durable.REAL_DISK.sync(self._path.parent)

    def _set_aside(self, why: str) -> None:
        name = f"{self._path.name}.damaged-{secrets.token_hex(4)}"
        with durable.storage_errors(self._path):
            for suffix in ("-wal", "-shm", ""):
                file = self._path.with_name(self._path.name + suffix)
                if file.exists():
                    file.replace(self._path.with_name(name + suffix))
            durable.REAL_DISK.sync(self._path.parent)
        log.error("outbox.damaged", extra={"why": why, "kept_as": name})

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._storage_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise StateError(
                f"the outbox {self._path} is closed", hint="Open it again."
            ) from error
        except sqlite3.Error as error:
            raise _storage_error(self._path, error) from error

    def _row(self, query: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._connection.execute(query).fetchone()
        return row

    def _last(self) -> int:
        last = self._connection.execute("SELECT seq FROM sqlite_sequence").fetchone()
        return int(last[0]) if last else 0

    def _measure(self) -> tuple[int, int]:
        count, size_bytes = self._row(
            "SELECT count(*), sum(length(kind) + length(trace) + length(body))"
            " FROM entries"
        )
        return count, (size_bytes or 0) + count * _ENTRY_BYTES


def write_body(entry: OutboxEntry) -> bytes:
    """Write the body of an entry as JSON, as the outbox keeps it.

    Raises:
        DataError: It, its kind or its trace is too long for a message.
    """
    body = msgspec.json.encode(entry.body)
    if len(body) > LARGEST_BODY_BYTES or len(entry.kind) > 64 or len(entry.trace) > 256:
        raise DataError(
            f"an entry of kind {entry.kind[:64]!r} has {len(body)} bytes, at most "
            f"{LARGEST_BODY_BYTES} expected",
            hint="Send large things as blobs.",
        )
    return body


def _about(kind: str, trace: str, sent_at_ms: int) -> bytes:
    """What is said about a sealed entry in the clear."""
    return msgspec.json.encode([kind, trace, sent_at_ms])


def _row_bytes(kind: str, trace: str, _sent_at_ms: int, body: bytes) -> int:
    return len(kind) + len(trace) + len(body) + _ENTRY_BYTES


def _storage_error(path: Path, error: sqlite3.Error) -> StorageError:
    return StorageError(
        f"the disk refused the outbox {path}: {error}",
        hint="Free some space, or check the folder's permissions.",
    )

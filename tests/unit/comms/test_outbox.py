from __future__ import annotations

import logging
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from skerry.comms.outbox import LARGEST_BODY_BYTES, Outbox, OutboxEntry
from skerry.core.errors import DataError, NewerSchemaError, StateError, StorageError


@contextmanager
def opened(path: Path, *, limit_bytes: int = 1 << 20) -> Iterator[Outbox]:
    """An outbox that is closed at the end."""
    with closing(Outbox(path, limit_bytes=limit_bytes)) as outbox:
        yield outbox


def put(outbox: Outbox, *names: str) -> list[int]:
    """Put one event a name."""
    return [outbox.put("event", {"name": name}, sent_at_ms=5) for name in names]


def names(outbox: Outbox, after: int = 0, limit: int = 100) -> list[str]:
    """The names of the events that wait."""
    return [str(entry.body["name"]) for entry in outbox.after(after, limit)]


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    """Numbers, order, texts and the epoch are those of before."""
    with opened(tmp_path / "o") as outbox:
        epoch = outbox.epoch
        assert put(outbox, "a", "b") == [1, 2]
        outbox.put("sample", {"x": [1, None]}, trace="t", sent_at_ms=9)
    with opened(tmp_path / "o") as outbox:
        assert outbox.epoch == epoch
        assert outbox.depth == 3
        assert outbox.after(2, 9) == [
            OutboxEntry(
                seq=3, kind="sample", body={"x": [1, None]}, trace="t", sent_at_ms=9
            )
        ]
        assert names(outbox, 0, 2) == ["a", "b"]


def test_only_acknowledged_entries_leave(tmp_path: Path) -> None:
    """Up to the number, in this epoch; numbers are never used again."""
    with opened(tmp_path / "o") as outbox:
        put(outbox, "a", "b", "c")
        assert outbox.acknowledge("another", 3) == 0
        assert outbox.acknowledge(outbox.epoch, 2) == 2
        assert outbox.acknowledge(outbox.epoch, 2) == 0
        assert (outbox.depth, names(outbox)) == (1, ["c"])
        assert outbox.acknowledged() == 2
        assert outbox.acknowledge(outbox.epoch, 10**30) == 1
        assert outbox.acknowledged() == 3
    with opened(tmp_path / "o") as outbox:
        assert outbox.acknowledged() == 3
        assert put(outbox, "d") == [4]


def test_a_batch_is_all_or_nothing(tmp_path: Path) -> None:
    """One entry that is too large keeps the others out."""
    small = OutboxEntry(kind="event", body={"name": "a"}, sent_at_ms=1)
    large = OutboxEntry(
        kind="event", body={"name": "x" * LARGEST_BODY_BYTES}, sent_at_ms=1
    )
    with opened(tmp_path / "o") as outbox:
        assert outbox.put_many([small, small]) == [1, 2]
        with pytest.raises(DataError, match="an entry of kind 'event'"):
            outbox.put_many([small, large])
        assert outbox.depth == 2


def test_a_full_outbox_refuses(tmp_path: Path) -> None:
    """What waits is kept; there is room again once the hub acknowledged."""
    with opened(tmp_path / "o", limit_bytes=300) as outbox:
        put(outbox, "a", "b", "c")
        with pytest.raises(StorageError, match="is full: 3 entries wait"):
            put(outbox, "d")
    with opened(tmp_path / "o", limit_bytes=300) as outbox:
        with pytest.raises(StorageError, match="is full"):
            put(outbox, "d")
        outbox.acknowledge(outbox.epoch, 1)
        put(outbox, "d")
        assert names(outbox) == ["b", "c", "d"]


@pytest.mark.parametrize("how", ["garbage", "cut", "overwritten", "empty table"])
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A new epoch begins, it is logged, and the old file is kept for people."""
    path = tmp_path / "o"
    with opened(path) as outbox:
        epoch = outbox.epoch
        entry = OutboxEntry(kind="event", body={"name": "x" * 200}, sent_at_ms=1)
        outbox.put_many([entry] * 200)
    content = path.read_bytes()
    if how == "garbage":
        path.write_bytes(b"this was once an outbox" * 400)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "overwritten":
        path.write_bytes(content[:5000] + b"\xff" * 20_000 + content[25_000:])
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM outbox")
            connection.commit()
    with caplog.at_level(logging.ERROR), opened(path) as outbox:
        assert outbox.epoch != epoch
        assert put(outbox, "a") == [1]
    assert caplog.messages == ["outbox.damaged"]
    assert len(list(tmp_path.glob("o.damaged-*"))) >= 1


def test_a_file_of_a_newer_skerry_is_left_alone(tmp_path: Path) -> None:
    """It is refused, not set aside: an upgrade brings it back."""
    with opened(tmp_path / "o") as outbox:
        put(outbox, "a")
    with closing(sqlite3.connect(tmp_path / "o")) as connection:
        connection.execute("PRAGMA user_version=2")
    with pytest.raises(NewerSchemaError, match="format 2"):
        Outbox(tmp_path / "o")
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_the_disk_may_refuse(tmp_path: Path) -> None:
    """A missing folder and a full disk are StorageErrors; what was kept stays."""
    with pytest.raises(StorageError):
        Outbox(tmp_path / "none" / "o")
    with opened(tmp_path / "o") as outbox:
        put(outbox, "a")
        pages = outbox._row("PRAGMA page_count")[0]
        outbox._connection.execute(f"PRAGMA max_page_count={pages}")
        large = ["x" * 1000] * 40
        with pytest.raises(StorageError, match="full"):
            put(outbox, *large)
        depth = outbox.depth
        outbox._connection.execute("PRAGMA max_page_count=100000")
        put(outbox, "b")
        assert outbox.depth == depth + 1
        assert names(outbox)[0] == "a"


def test_a_closed_outbox_says_so(tmp_path: Path) -> None:
    """Using it is a fault of ours, told apart from the disk's."""
    outbox = Outbox(tmp_path / "o")
    outbox.close()
    with pytest.raises(StateError, match="is closed"):
        put(outbox, "a")


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """Samples of the field lie in it."""
    with opened(tmp_path / "o") as outbox:
        put(outbox, "a")
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_a_renewed_outbox_counts_from_one(tmp_path: Path) -> None:
    """What waits keeps its order; what comes later follows."""
    with opened(tmp_path / "o") as outbox:
        put(outbox, "a", "b", "c")
        epoch = outbox.epoch
        outbox.acknowledge(epoch, 1)
        assert outbox.renew() == outbox.epoch != epoch
        assert [entry.seq for entry in outbox.after(0, 9)] == [1, 2]
        assert outbox.acknowledged() == 0
        assert put(outbox, "d") == [3]
        outbox.acknowledge(outbox.epoch, 3)
        outbox.renew()
        assert put(outbox, "e") == [1]
        assert names(outbox) == ["e"]


def test_many_threads_may_put(tmp_path: Path) -> None:
    """Each entry gets a number of its own."""
    with opened(tmp_path / "o") as outbox:
        threads = [
            threading.Thread(target=put, args=(outbox, *"abcde")) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [entry.seq for entry in outbox.after(0, 99)] == list(range(1, 21))


class Xor:
    """A cipher of no use, which notices what it did not seal."""

    def seal(self, content: bytes, about: bytes) -> bytes:
        return about + bytes(byte ^ 0x55 for byte in content)

    def unseal(self, sealed: bytes, about: bytes) -> bytes:
        if not sealed.startswith(about):
            raise DataError("it was edited", hint="")
        return bytes(byte ^ 0x55 for byte in sealed.removeprefix(about))


def test_what_entries_say_can_be_sealed(tmp_path: Path) -> None:
    """On the disk nothing of it can be read; it counts and waits as any other."""
    path = tmp_path / "o"
    with closing(Outbox(path, cipher=Xor())) as outbox:
        put(outbox, "a secret", "another secret")
        assert names(outbox) == ["a secret", "another secret"]
        assert outbox.seal() == 0
    assert not any(b"secret" in each.read_bytes() for each in tmp_path.iterdir())
    with closing(Outbox(path, cipher=Xor())) as outbox:
        assert names(outbox, 1) == ["another secret"]
        assert outbox.acknowledge(outbox.epoch, 1) == 1


def test_an_edited_entry_says_nothing_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does one that somebody put in the clear; those behind it are not held up."""
    path = tmp_path / "o"
    with closing(Outbox(path, cipher=Xor())) as outbox:
        put(outbox, "a", "b", "c")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entries SET sent_at_ms = 6 WHERE seq = 1")
        connection.execute("UPDATE entries SET body = ? WHERE seq = 2", (b"{}",))
    with closing(Outbox(path, cipher=Xor())) as outbox:
        bodies = [entry.body for entry in outbox.after(0, 9)]
    assert bodies == [{}, {}, {"name": "c"}]
    assert "outbox.entry_lost" in caplog.messages


def test_what_waits_in_the_clear_is_sealed(tmp_path: Path) -> None:
    """Nothing of it stays in the file; without a cipher nothing happens."""
    path = tmp_path / "o"
    with opened(path) as outbox:
        put(outbox, *(f"secret {number}" for number in range(500)))
        outbox.acknowledge(outbox.epoch, 300)
        assert outbox.seal() == 0
    assert b"secret" in path.read_bytes()
    with closing(Outbox(path, cipher=Xor())) as outbox:
        assert outbox.seal() == 200
        assert names(outbox, 0, 1) == ["secret 300"]
        assert not any(b"secret" in each.read_bytes() for each in tmp_path.iterdir())
        assert outbox.seal() == 0
        assert put(outbox, "more") == [501]

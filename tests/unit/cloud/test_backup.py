from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from skerry.cloud.backup import BACKUP_FILE, back_up, part_path, read_backup
from skerry.cloud.database import sqlite_url
from skerry.cloud.hub import DATABASE_FILE, Hub
from skerry.cloud.releases import KEY_FILE
from skerry.cloud.restore import restore
from skerry.core.clock import FakeClock
from skerry.core.errors import (
    ConflictError,
    DataError,
    StorageError,
    TrustError,
    UsageError,
)
from tests.hubs import ROOT_SHA256, running_hub
from tests.publishing import make_bundle, make_publisher, publish

PASSPHRASE = b"correct horse battery"
GOLDEN = Path(__file__).parents[2] / "golden"
NOW_MS = 1_800_000_000_000


def _with_hub(folder: Path, case: Callable[[Hub], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_hub(folder, clock=FakeClock()) as (hub, _):
            await case(hub)

    asyncio.run(run())


async def _publish(hub: Hub, tmp_path: Path) -> None:
    await publish(hub, make_bundle(make_publisher(tmp_path, hub), 1))


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """The folder of a hub with one release, which is stopped."""
    _with_hub(tmp_path / "hub", lambda hub: _publish(hub, tmp_path))
    return tmp_path / "hub"


def _restore(backup: Path, folder: Path, **options: object) -> object:
    return asyncio.run(restore(backup, folder, now_ms=NOW_MS, **options))  # type: ignore[arg-type]


def test_only_what_is_new_is_copied(hub_folder: Path, tmp_path: Path) -> None:
    """A second backup copies no blob again, and leaves nothing of the first one."""
    into = tmp_path / "backup"
    first = back_up(hub_folder, into, now_ms=1, passphrase=PASSPHRASE)
    second = back_up(hub_folder, into, now_ms=2)
    blobs = {name for name in first.backup.files if name.startswith("blobs/")}
    assert len(blobs) >= 2
    assert second.copied_bytes <= first.backup.files[DATABASE_FILE].size_bytes
    assert read_backup(into) == second.backup
    assert not second.backup.has_keys
    kept = {path.name for path in into.glob("parts/*/*")}
    assert kept == {one.sha256 for one in second.backup.files.values()}
    assert all(path.stat().st_mode & 0o77 == 0 for path in into.glob("parts/*/*"))


def test_a_hub_that_writes_is_backed_up(tmp_path: Path) -> None:
    """What was committed before is in it, whatever is written meanwhile."""

    async def case(hub: Hub) -> None:
        writing = [
            asyncio.create_task(hub.devices.create(f"d{n}", root_sha256=ROOT_SHA256))
            for n in range(20)
        ]
        await hub.devices.create("before", root_sha256=ROOT_SHA256)
        into = tmp_path / "backup"
        made = await asyncio.to_thread(back_up, hub.settings.folder, into, now_ms=1)
        await asyncio.gather(*writing)
        copy = part_path(into, made.backup.files[DATABASE_FILE].sha256)
        rows = sqlite3.connect(copy)
        names = {name for (name,) in rows.execute("SELECT name FROM devices")}
        assert rows.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows.close()
        assert "before" in names

    _with_hub(tmp_path / "hub", case)


def test_a_restored_hub_is_the_hub(hub_folder: Path, tmp_path: Path) -> None:
    """Releases, blobs and the key are those of before; versions have gone on."""
    back_up(hub_folder, tmp_path / "backup", now_ms=1, passphrase=PASSPHRASE)
    again = tmp_path / "again"
    _restore(tmp_path / "backup", again, passphrase=PASSPHRASE)
    assert (again / KEY_FILE).read_bytes() == (hub_folder / KEY_FILE).read_bytes()
    assert (again / KEY_FILE).stat().st_mode & 0o77 == 0
    assert (again / DATABASE_FILE).stat().st_mode & 0o77 == 0

    async def case(hub: Hub) -> None:
        assert [str(one.id) for one in await hub.releases.list()] == ["meter/1"]
        versions = {one.role: one.version for one in hub.releases.standings()}
        assert versions["timestamp"] >= NOW_MS // 60_000
        assert versions["snapshot"] >= NOW_MS // 60_000

    _with_hub(again, case)


def test_shadows_never_count_back(tmp_path: Path) -> None:
    """Restored twice from the same backup, versions grow all the same."""

    async def create(hub: Hub) -> None:
        await hub.devices.create("d", root_sha256=ROOT_SHA256)
        await hub.shadows.set_desired("d", {"releases": {"meter": {"version": 3}}})

    _with_hub(tmp_path / "hub", create)
    back_up(tmp_path / "hub", tmp_path / "backup", now_ms=1)
    seen = [0]
    for n, later_s in enumerate((0, 3600)):
        folder = tmp_path / f"again-{n}"
        now_ms = NOW_MS + later_s * 1000
        done = asyncio.run(restore(tmp_path / "backup", folder, now_ms=now_ms))
        assert done.withdrawn.desired == {"meter/3": 1}

        async def look(hub: Hub) -> None:
            shadow = await hub.shadows.get("d")
            assert shadow.version > seen[-1]
            assert "releases" not in shadow.desired
            for _ in range(3):
                shadow = await hub.shadows.set_desired("d", {"n": shadow.version})
            seen.append(shadow.version)

        _with_hub(folder, look)


def test_a_damaged_backup_restores_nothing(hub_folder: Path, tmp_path: Path) -> None:
    """A byte changed, a part missing, a list that names what no hub has: refused."""
    into, again = tmp_path / "backup", tmp_path / "again"
    made = back_up(hub_folder, into, now_ms=1)
    part = part_path(into, made.backup.files[DATABASE_FILE].sha256)
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="damaged"):
        _restore(into, again)
    part.unlink()
    with pytest.raises(DataError, match="cannot read"):
        _restore(into, again)
    part.write_bytes(content)
    listed = into / BACKUP_FILE
    listed.write_text(listed.read_text().replace('"hub.sqlite"', '"../hub.sqlite"'))
    with pytest.raises(DataError, match="names a file"):
        _restore(into, again)
    assert not again.exists()
    assert not list(tmp_path.glob(".again*"))


def test_a_backup_that_is_cut_off_leaves_the_last(
    hub_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses before the list is in place: the backup of before is whole."""
    into = tmp_path / "backup"
    back_up(hub_folder, into, now_ms=1)

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("full", hint="Free some.")

    monkeypatch.setattr("skerry.cloud.backup.to_json", refuse)
    with pytest.raises(StorageError):
        back_up(hub_folder, into, now_ms=2)
    monkeypatch.undo()
    assert read_backup(into).made_at_ms == 1
    _restore(into, tmp_path / "again")


def test_a_damaged_blob_is_named_and_the_good_copy_kept(
    hub_folder: Path, tmp_path: Path
) -> None:
    """What rots on the hub's disk does not reach the backup."""
    into = tmp_path / "backup"
    path = next(one for one in (hub_folder / "blobs").glob("*/*") if one.stat().st_size)
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    made = back_up(hub_folder, into, now_ms=1)
    assert made.damaged == (path.name,)
    assert f"blobs/{path.name[:2]}/{path.name}" not in made.backup.files
    path.write_bytes(content)
    assert back_up(hub_folder, into, now_ms=2).damaged == ()
    path.write_bytes(bytes(len(content)))
    assert back_up(hub_folder, into, now_ms=3).damaged == ()
    assert part_path(into, path.name).read_bytes() == content


def test_what_does_not_fit_is_refused(hub_folder: Path, tmp_path: Path) -> None:
    """No hub, a folder in use, a wrong or needless passphrase, a second database."""
    into, again = tmp_path / "backup", tmp_path / "again"
    with pytest.raises(UsageError, match="holds no hub"):
        back_up(tmp_path / "nothing", into, now_ms=1)
    with pytest.raises(UsageError, match="12 or more"):
        back_up(hub_folder, into, now_ms=1, passphrase=b"short")
    back_up(hub_folder, into, now_ms=1)
    with pytest.raises(UsageError, match="no keys"):
        _restore(into, again, passphrase=PASSPHRASE)
    with pytest.raises(UsageError, match="another one is named"):
        _restore(into, again, database="sqlite://")
    back_up(hub_folder, into, now_ms=1, passphrase=PASSPHRASE)
    with pytest.raises(TrustError, match="does not open"):
        _restore(into, again, passphrase=PASSPHRASE + b"!")
    with pytest.raises(ConflictError, match="not empty"):
        _restore(into, hub_folder, passphrase=PASSPHRASE)
    assert not again.exists()


def test_a_database_elsewhere_is_brought_on_there(tmp_path: Path) -> None:
    """With its own dump restored, shadows and rollouts are put in order in place."""

    async def create(hub: Hub) -> None:
        await hub.devices.create("d", root_sha256=ROOT_SHA256)

    _with_hub(tmp_path / "hub", create)
    (tmp_path / "hub" / DATABASE_FILE).rename(tmp_path / "elsewhere.sqlite")
    into, again = tmp_path / "backup", tmp_path / "again"
    made = back_up(tmp_path / "hub", into, now_ms=1, has_database=False)
    assert not made.backup.has_database
    with pytest.raises(UsageError, match="no database"):
        _restore(into, again)
    _restore(into, again, database=sqlite_url(tmp_path / "elsewhere.sqlite"))
    assert not (again / DATABASE_FILE).exists()
    rows = sqlite3.connect(tmp_path / "elsewhere.sqlite")
    (version,) = rows.execute("SELECT version FROM shadows").fetchone()
    rows.close()
    assert version > NOW_MS // 1000


def test_the_format_of_a_backup_stays_readable(tmp_path: Path) -> None:
    """The first version of the list can be read for ever."""
    shutil.copyfile(GOLDEN / "backup-1.json", tmp_path / BACKUP_FILE)
    backup = read_backup(tmp_path)
    assert backup.made_at_ms == 1_767_225_600_000
    assert set(backup.files) == {DATABASE_FILE, "trust/1.root.json"}

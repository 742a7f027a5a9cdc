from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.core.errors import StorageError, TrustError
from skerry.core.release import Blob, ReleaseId
from skerry.edge.downloads import SPARE_BYTES, Downloads, size_of
from skerry.edge.installed import Installed
from skerry.edge.slots import Slots
from tests.releases import NAME, blob_of, small_release

RELEASE = ReleaseId(name="other", version=1)
BLOB = Blob(sha256="a" * 64, size_bytes=10_000)


class Engine:
    """Serves what the test says."""

    def __init__(self) -> None:
        self.serving: dict[str, Installed] = {}

    def active(self, name: str) -> Installed | None:
        return self.serving.get(name)


class Disk:
    """A gateway's folder with two releases, on a disk of a given size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slots = Slots(folder, target="any")
        self.engine = Engine()
        self.size_bytes = 1 << 40
        for version in (1, 2):
            release = small_release(version)
            self.slots.install(release.signed, release.contents)
            self.slots.switch(release.manifest.id, rollout="r")
            self.slots.settle(NAME)

    def used_bytes(self) -> int:
        return sum(size_of(path) for path in self.folder.rglob("*"))

    def downloads(self, *, quota_bytes: int | None = None) -> Downloads:
        return Downloads(
            self.folder,
            self.slots,
            self.engine,
            free_bytes=lambda _: self.size_bytes - self.used_bytes(),
            quota_bytes=quota_bytes,
        )

    def part(self, name: str, fill: str, *, age_s: float = 0.0) -> Path:
        """A partial download of 1000 bytes."""
        path = self.folder / "downloads" / name / f"{fill * 64}.part"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
        return path

    def slot_files(self) -> set[Path]:
        return {path for path in (self.folder / "slots").rglob("*") if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A gateway's folder with two releases."""
    return Disk(tmp_path)


def make_room(downloads: Downloads, *blobs: Blob, placed_bytes: int = 0) -> None:
    """What an update of `other` does before it downloads."""
    downloads.of("other").make_room(
        list(blobs), placed_bytes=placed_bytes, release=RELEASE
    )


def test_a_name_keeps_only_what_it_wants(disk: Disk) -> None:
    """Its own earlier ones go at once, those of others stay while there is room."""
    own, others, wanted = disk.part("other", "b"), disk.part("x", "c"), BLOB
    kept = disk.part("other", "a")
    make_room(disk.downloads(), wanted)
    assert not own.exists()
    assert others.exists()
    assert kept.exists()


def test_where_room_is_short_the_oldest_goes_first(disk: Disk) -> None:
    """And no more than must."""
    old, older, new = (
        disk.part(name, "d", age_s=age_s)
        for name, age_s in (("x", 50), ("y", 90), ("z", 10))
    )
    disk.size_bytes = disk.used_bytes() + SPARE_BYTES + BLOB.size_bytes - 1500
    make_room(disk.downloads(), BLOB)
    assert [path.exists() for path in (old, older, new)] == [False, False, True]


def test_what_another_name_fetches_just_now_stays(disk: Disk) -> None:
    """There is not room for both: the second is refused, with the figures."""
    downloads = disk.downloads()
    busy = disk.part("x", "c")
    downloads.of("x").make_room(
        [Blob(sha256="c" * 64, size_bytes=5000)], placed_bytes=0, release=RELEASE
    )
    disk.size_bytes = disk.used_bytes() + SPARE_BYTES + 100
    with pytest.raises(StorageError, match=r"other/1 needs \d+ bytes free") as caught:
        make_room(downloads, BLOB)
    assert f"{SPARE_BYTES + BLOB.size_bytes} bytes" in caught.value.what
    assert f"{SPARE_BYTES + 100} are" in caught.value.what
    assert busy.exists()
    downloads.of("x").clear()
    assert not busy.exists()


def test_a_slot_in_use_is_never_touched(disk: Disk) -> None:
    """Neither active nor standby nor prepared; only what belongs to no release."""
    before = disk.slot_files()
    stale = disk.folder / "slots" / NAME / "a" / "library-7.so"
    torn = disk.folder / "slots" / "gone" / "b" / ".model.onnx.1a2b.skerry-tmp"
    torn.parent.mkdir(parents=True)
    for path in (stale, torn):
        path.write_bytes(bytes(1000))
    disk.size_bytes = disk.used_bytes()
    with pytest.raises(StorageError):
        make_room(disk.downloads(), BLOB)
    assert disk.slot_files() == before
    third = small_release(3)
    disk.slots.install(third.signed, third.contents)
    prepared = disk.slot_files()
    with pytest.raises(StorageError):
        make_room(disk.downloads(), BLOB)
    assert disk.slot_files() == prepared


def test_what_the_engine_serves_is_never_touched(disk: Disk) -> None:
    """Whatever the record says: a release that was rolled back may still answer."""
    active = disk.slots.active(NAME)
    assert active is not None
    disk.engine.serving[NAME] = active
    disk.slots.roll_back(NAME, keep=False, refused=None)
    disk.size_bytes = 0
    with pytest.raises(StorageError):
        make_room(disk.downloads(), BLOB)
    assert all(path.exists() for path in active.files.values())
    disk.engine.serving.clear()
    with pytest.raises(StorageError):
        make_room(disk.downloads(), BLOB)
    assert not any(path.exists() for path in active.files.values())


def test_a_quota_bounds_slots_and_downloads(disk: Disk) -> None:
    """What else lies on the disk does not count, what is too much is said to be."""
    records = sum(size_of(path) for path in disk.folder.glob("slots*.json"))
    used = disk.used_bytes() - records
    needed = SPARE_BYTES + BLOB.size_bytes
    make_room(disk.downloads(quota_bytes=used + needed), BLOB)
    with pytest.raises(StorageError, match="within its quota") as caught:
        make_room(disk.downloads(quota_bytes=used + needed - 1), BLOB)
    assert "--disk-quota-mb" in caught.value.hint


def test_what_is_here_already_needs_no_room(disk: Disk) -> None:
    """The part of a download, but not more of it than there can be."""
    path = disk.part("other", "a")
    path.write_bytes(bytes(20_000))
    disk.size_bytes = disk.used_bytes() + SPARE_BYTES
    make_room(disk.downloads(), BLOB)


def test_a_release_is_installed_from_files(disk: Disk, tmp_path: Path) -> None:
    """As from memory; a file that is not what was signed is noticed on the way."""
    release = small_release(3)
    files = {}
    for role, content in release.contents.items():
        files[role] = tmp_path / f"{role}.part"
        files[role].write_bytes(content)
    installed = disk.slots.install(release.signed, files)
    for role, content in release.contents.items():
        assert installed.files[role].read_bytes() == content
    files["model"].write_bytes(b"another model")
    with pytest.raises(TrustError, match=r"model of .* became") as caught:
        disk.slots.install(release.signed, files)
    assert caught.value.reason == "corrupt"
    assert disk.slots.facts(NAME).active == 2


@pytest.mark.parametrize("version", [1, 2])
def test_what_lies_in_slots_can_be_shared(disk: Disk, version: int) -> None:
    """By its hash: of the active release and of the standby one, and nothing else."""
    release = small_release(version)
    for content in release.contents.values():
        path = disk.slots.shared(blob_of(content).sha256)
        assert path is not None
        assert path.read_bytes() == content
    assert disk.slots.shared(blob_of(small_release(3).contents["model"]).sha256) is None


def test_a_large_file_is_written_in_pieces(disk: Disk, tmp_path: Path) -> None:
    """Nothing of it is in memory but a piece: the disk is called once for each."""
    calls: list[int] = []
    big = tmp_path / "big"
    big.write_bytes(bytes(1_000_000))
    append: Callable[[Path, bytes], None] = disk.slots._disk.append

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(type(self).inner, name)

        def append(self, path: Path, content: bytes) -> None:
            calls.append(len(content))
            append(path, content)

        inner = disk.slots._disk

    disk.slots._disk = Counting()  # type: ignore[assignment]
    release = small_release(3)
    with pytest.raises(TrustError):
        disk.slots.install(release.signed, {**release.contents, "model": big})
    assert sum(calls) + (1 << 18) == 1_000_000
    assert max(calls) <= 1 << 18

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from skerry.app.simulate.disk import PowerCut
from skerry.app.simulate.faults import DeviceClock, FaultyBlobs, FaultyDisk
from skerry.core.clock import FakeClock
from skerry.core.durable import write_file
from skerry.core.errors import LinkError, StateError, StorageError
from skerry.core.seams import BlobStore


def make_disk(seed: int = 0) -> FaultyDisk:
    """A disk whose bad luck is chosen by the seed."""
    return FaultyDisk(np.random.default_rng(seed))


def test_a_device_may_believe_in_another_date() -> None:
    """Its clock goes with the fleet's; only its date is its own."""
    shared = FakeClock()
    clock = DeviceClock(shared)
    assert clock.unix_ms() == shared.unix_ms()
    clock.set_unix_ms(0)
    shared.advance(wall_s=2)
    assert (clock.unix_ms(), clock.wall_s(), clock.cpu_s()) == (2000, 2.0, 2.0)
    clock.work(0.5)
    assert (clock.wall_s(), shared.wall_s()) == (2.5, 2.0)


def test_a_full_disk_refuses_until_there_is_space(tmp_path: Path) -> None:
    """What stood there stands, and nothing is left over."""
    disk, path = make_disk(), tmp_path / "file"
    write_file(path, b"old", disk=disk)
    disk.is_full = True
    with pytest.raises(StorageError, match="No space"):
        write_file(path, b"new", disk=disk)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
    disk.is_full = False
    write_file(path, b"new", disk=disk)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_leaves_the_old_file_or_the_new_one(tmp_path: Path, seed: int) -> None:
    """At each call of a durable write, whatever the luck."""
    path = tmp_path / "file"
    for call in range(4):
        disk = make_disk(seed)
        write_file(path, b"old", disk=disk)
        disk.cut_at = disk.calls + call
        with pytest.raises(PowerCut):
            write_file(path, b"new!", disk=disk)
        with pytest.raises(PowerCut):
            disk.sync(tmp_path)
        disk.lose_power()
        disk.power_up()
        assert path.read_bytes() in {b"old", b"new!"}
        for left in tmp_path.glob("*.skerry-tmp"):
            left.unlink()


def test_what_was_never_synced_may_be_lost(tmp_path: Path) -> None:
    """Else a power cut would find nothing."""
    seen = set()
    for seed in range(20):
        path = tmp_path / f"{seed}"
        path.write_bytes(b"old")
        disk = make_disk(seed)
        disk.write(tmp_path / "new", b"new!")
        disk.replace(tmp_path / "new", path)
        disk.lose_power()
        seen.add(path.read_bytes())
    assert seen == {b"old", b"new!", b"ne"}


class _Store:
    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        del sha256
        yield b"0123456789"[offset:end]

    async def put(self, sha256: str, content: bytes) -> None:
        raise NotImplementedError

    async def stat(self, sha256: str) -> int | None:
        return 10 if sha256 == "a" else None


async def take(blobs: FaultyBlobs, offset: int = 0) -> tuple[bytes, str]:
    """What comes of a blob, and why it ended."""
    content = b""
    try:
        async for piece in blobs.open("a", offset=offset):
            content += piece
    except LinkError as error:
        return content, error.what
    return content, ""


def test_blobs_break_flip_and_cannot_be_reached() -> None:
    """Each fault as it was asked for; what came is counted."""

    async def scenario() -> None:
        is_up = True

        def reach() -> BlobStore:
            if not is_up:
                raise LinkError("it is down", hint="Wait.")
            return _Store()

        blobs = FaultyBlobs(reach)
        blobs.breaks["a"] = 4
        assert await take(blobs) == (b"0123", "the stream broke")
        assert await take(blobs, 4) == (b"456789", "")
        assert blobs.sent == {"a": 10}
        blobs.flipped.add("a")
        assert await take(blobs) == (b"1123456789", "")
        assert [await blobs.stat("a"), await blobs.stat("b")] == [10, None]
        with pytest.raises(StateError, match="does not put"):
            await blobs.put("a", b"x")
        is_up = False
        assert await take(blobs) == (b"", "it is down")

    asyncio.run(scenario())

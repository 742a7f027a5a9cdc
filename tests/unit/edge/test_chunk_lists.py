from __future__ import annotations

from pathlib import Path

import pytest

from skerry.core.chunks import Chunks, write_chunks
from skerry.core.release import Blob, chunks_path
from skerry.edge import update_steps
from tests.agents import Bench, play
from tests.releases import NAME, small_release

MODEL = small_release(1).contents["model"]
LIST = write_chunks(Chunks.cut(MODEL))


@pytest.fixture(autouse=True)
def _small_blobs_have_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_steps, "SMALLEST_CHUNKED_BYTES", 100)


def sign(bench: Bench, content: bytes) -> Blob:
    """Sign and keep what is to be the chunk list of the first release's model."""
    blob = bench.hub.keep(content)
    path = chunks_path(Blob.of(MODEL).sha256, tenant="main")
    bench.hub.targets[path] = blob
    return blob


def test_the_list_is_fetched_before_its_blob(tmp_path: Path) -> None:
    """Once, and nothing of it stays."""

    async def script(bench: Bench) -> None:
        listed = sign(bench, LIST)
        await bench.get(1)
        opened = bench.hub.opened
        assert opened.count(listed.sha256) == 1
        assert opened.index(listed.sha256) < opened.index(Blob.of(MODEL).sha256)

    bench = play(tmp_path, script)
    assert not list((bench.folder / "downloads" / NAME).iterdir())


@pytest.mark.parametrize("content", [b"no list at all", LIST[:-1], LIST + b"?"])
def test_a_list_that_is_none_is_done_without(tmp_path: Path, content: bytes) -> None:
    """It only saves bytes: what comes is held against the hash of the whole."""

    async def script(bench: Bench) -> None:
        sign(bench, content)
        await bench.get(1)

    bench = play(tmp_path, script)
    assert not bench.outbox.failures


def test_a_list_that_is_lost_is_done_without(tmp_path: Path) -> None:
    """Also where the hub does not have it, or has other bytes."""

    async def script(bench: Bench) -> None:
        listed = sign(bench, LIST)
        del bench.hub.blobs[listed.sha256]
        await bench.get(1)
        assert listed.sha256 in bench.hub.opened

    assert not play(tmp_path / "lost", script).outbox.failures

    async def spoilt(bench: Bench) -> None:
        listed = sign(bench, LIST)
        bench.hub.blobs[listed.sha256] = LIST[::-1]
        await bench.get(1)

    assert not play(tmp_path / "spoilt", spoilt).outbox.failures


def test_a_list_that_is_far_too_large_is_not_fetched(tmp_path: Path) -> None:
    """Nobody who signs can have that meant."""

    async def script(bench: Bench) -> None:
        listed = sign(bench, bytes(10_000))
        await bench.get(1)
        assert listed.sha256 not in bench.hub.opened

    play(tmp_path, script)


def test_what_came_is_counted_and_reported(tmp_path: Path) -> None:
    """All blobs of the release, and its manifest."""
    release = small_release(1)
    came = len(release.signed) + sum(map(len, release.contents.values()))

    async def script(bench: Bench) -> None:
        await bench.get(1)
        assert bench.outbox.reported["agent"]["received_bytes"] == {"hub": came}

    play(tmp_path, script)

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.comms import download as download_module
from skerry.comms.download import MOST_FETCHES, download, most_unsynced_bytes
from skerry.core.chunks import Chunks
from skerry.core.errors import DataError, LinkError, SkerryError, TrustError
from skerry.core.release import Blob

CONTENT = np.random.default_rng(0).bytes(100_000)
BLOB = Blob.of(CONTENT)
CHUNKS = Chunks.cut(CONTENT)
SIZE = CHUNKS.chunk_bytes


class Store:
    """One blob; a test spoils what is given of it."""

    def __init__(self, content: bytes = CONTENT, *, piece_bytes: int = 7000) -> None:
        self.content = content
        self.piece_bytes = piece_bytes
        self.asked: list[tuple[int, int | None]] = []
        self.spoil: Callable[[int, bytes], bytes] = lambda _, piece: piece
        self.breaks_after: int | None = None
        self.error: SkerryError | None = None
        self.given_up: list[SkerryError] = []

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        assert sha256 == BLOB.sha256
        self.asked.append((offset, end))
        if self.error is not None:
            raise self.error
        stop = len(self.content) if end is None else end
        left, self.breaks_after = self.breaks_after, None
        for start in range(offset, stop, self.piece_bytes):
            piece = self.content[start : min(start + self.piece_bytes, stop)]
            yield self.spoil(start, piece[:left])
            if left is not None and (left := left - len(piece)) <= 0:
                raise LinkError("the line broke", hint="Wait.")

    def give_up(self, error: SkerryError) -> None:
        self.given_up.append(error)


def flip(*places: int) -> Callable[[int, bytes], bytes]:
    """Change these bytes, the first time that they are given."""
    left = set(places)

    def spoil(start: int, piece: bytes) -> bytes:
        found = {place for place in left if start <= place < start + len(piece)}
        left.difference_update(found)
        content = bytearray(piece)
        for place in found:
            content[place - start] ^= 4
        return bytes(content)

    return spoil


def fetch(
    store: Store,
    part: Path,
    *,
    peers: tuple[Store, ...] = (),
    chunks: Chunks | None = CHUNKS,
) -> Counter[str]:
    """Download once; how many bytes came from where."""
    came: Counter[str] = Counter()

    def count(origin: str, n_bytes: int) -> None:
        came[origin] += n_bytes

    asyncio.run(download(store, BLOB, part, chunks=chunks, peers=peers, received=count))
    assert part.read_bytes() == CONTENT
    return came


def test_a_flipped_byte_costs_one_chunk(tmp_path: Path) -> None:
    """Only the chunks that it spoilt are asked for again, by their range."""
    store = Store()
    store.spoil = flip(5, 3 * SIZE, 4 * SIZE, len(CONTENT) - 1)
    came = fetch(store, tmp_path / "x")
    last = len(CHUNKS) - 1
    assert store.asked[1:] == [(0, SIZE), (3 * SIZE, 5 * SIZE), (last * SIZE, None)]
    assert came["hub"] == 2 * len(CONTENT) - (last - 3) * SIZE


def test_a_byte_that_is_always_wrong_is_refused(tmp_path: Path) -> None:
    """After some attempts; the chunks that were right stay for another store."""
    store, part = Store(CONTENT[:-1] + b"?"), tmp_path / "x"
    with pytest.raises(TrustError, match="of another hash") as caught:
        fetch(store, part)
    assert caught.value.reason == "corrupt"
    assert len(store.asked) == MOST_FETCHES
    assert fetch(Store(), part)["hub"] == len(CONTENT) % SIZE


@pytest.mark.parametrize("is_zeros", [False, True])
def test_a_tail_torn_by_a_power_cut_costs_its_chunks(
    tmp_path: Path,
    is_zeros: bool,  # noqa: FBT001
) -> None:
    """What was not synced may be gone or zeros; what stands before it is kept."""
    part, torn = tmp_path / "x", 50_000
    part.write_bytes(CONTENT[:torn] + (bytes(20_000) if is_zeros else b""))
    came = fetch(Store(), part)
    kept = (torn // SIZE) * SIZE if is_zeros else torn
    assert came["hub"] <= len(CONTENT) - kept


def test_a_hole_in_the_middle_is_filled(tmp_path: Path) -> None:
    """File systems write pages in any order: a late page may be there, an early not."""
    part = tmp_path / "x"
    part.write_bytes(CONTENT[: 2 * SIZE] + bytes(3 * SIZE) + CONTENT[5 * SIZE :])
    store = Store()
    assert fetch(store, part)["hub"] == 3 * SIZE
    assert store.asked == [(2 * SIZE, 5 * SIZE)]


def test_what_is_all_there_asks_for_nothing(tmp_path: Path) -> None:
    """Also where the file is too long."""
    (tmp_path / "x").write_bytes(CONTENT + b"more")
    store = Store()
    assert fetch(store, tmp_path / "x") == Counter()
    assert not store.asked


def test_more_than_was_signed_is_refused(tmp_path: Path) -> None:
    """An endless stream is left at the first byte too many."""
    with pytest.raises(TrustError, match="came more"):
        fetch(Store(CONTENT + b"x" * 1_000_000), tmp_path / "x")
    assert (tmp_path / "x").stat().st_size == len(CONTENT)


def test_a_list_of_another_blob_is_found_out(tmp_path: Path) -> None:
    """The whole has its own hash, which decides."""
    other = CONTENT[::-1]
    with pytest.raises(TrustError, match="chunks that are signed"):
        fetch(Store(other), tmp_path / "x", chunks=Chunks.cut(other))
    assert not (tmp_path / "x").exists()


def test_without_a_list_all_is_fetched_again(tmp_path: Path) -> None:
    """As often as a chunk of that size; one that is larger only once."""
    store = Store()
    store.spoil = flip(5)
    assert fetch(store, tmp_path / "x", chunks=None)["hub"] == 2 * len(CONTENT)


def test_a_large_blob_without_a_list_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who pays for bytes decides whether to try again."""
    monkeypatch.setattr(download_module, "LARGEST_CHUNK_BYTES", 1000)
    store = Store()
    store.spoil = flip(5)
    with pytest.raises(TrustError):
        fetch(store, tmp_path / "x", chunks=None)
    assert len(store.asked) == 1
    assert not (tmp_path / "x").exists()


def test_a_peer_saves_the_hub(tmp_path: Path) -> None:
    """All of it comes from there, and the hub is not even asked."""
    hub, peer = Store(), Store()
    assert fetch(hub, tmp_path / "x", peers=(peer,)) == {"peer": len(CONTENT)}
    assert not hub.asked
    assert not peer.given_up


def test_a_lying_peer_costs_what_it_gave_and_no_more(tmp_path: Path) -> None:
    """The first wrong chunk ends it, and the hub gives what is missing."""
    hub, peer = Store(), Store(piece_bytes=SIZE)
    peer.content = CONTENT[: 4 * SIZE] + bytes(len(CONTENT) - 4 * SIZE)
    came = fetch(hub, tmp_path / "x", peers=(peer,))
    assert came == {"peer": 5 * SIZE, "hub": len(CONTENT) - 4 * SIZE}
    assert isinstance(peer.given_up[0], TrustError)


@pytest.mark.parametrize("breaks_after", [0, 1, 30_000])
def test_a_peer_that_breaks_off_gives_way(tmp_path: Path, breaks_after: int) -> None:
    """To the next one, and to the hub at last."""
    hub, first, second = Store(), Store(), Store()
    first.breaks_after = breaks_after
    second.error = LinkError("gone", hint="-")
    came = fetch(hub, tmp_path / "x", peers=(first, second))
    assert came["hub"] + came["peer"] == len(CONTENT)
    assert [len(peer.given_up) for peer in (first, second)] == [1, 1]


def test_without_a_list_no_peer_is_asked(tmp_path: Path) -> None:
    """One that lies could spoil the whole."""
    peer = Store()
    fetch(Store(), tmp_path / "x", peers=(peer,), chunks=None)
    assert not peer.asked


def test_a_missing_blob_is_the_stores_error(tmp_path: Path) -> None:
    """It passes through, from the hub; a peer's does not matter."""
    hub, peer = Store(), Store()
    hub.error = DataError("there is no blob", hint="-")
    with pytest.raises(DataError):
        fetch(hub, tmp_path / "x")
    peer.error = LinkError("there is no blob", hint="-")
    fetch(Store(), tmp_path / "x", peers=(peer,))


def test_a_cancelled_download_writes_nothing_more(tmp_path: Path) -> None:
    """The next one has the file for itself."""

    async def story() -> None:
        store = Store(piece_bytes=100)
        for _ in range(5):
            task = asyncio.create_task(
                download(store, BLOB, tmp_path / "x", chunks=CHUNKS)
            )
            await asyncio.sleep(0.003)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await download(store, BLOB, tmp_path / "x", chunks=CHUNKS)

    asyncio.run(story())
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_download_that_is_cancelled_as_it_opens_its_file_closes_it(
    tmp_path: Path,
) -> None:
    """It never saw the file, which is opened on another thread."""
    may_go_on = threading.Event()
    opened: list[io.RawIOBase] = []

    def opens(path: Path) -> io.RawIOBase:
        may_go_on.wait(10)
        opened.append(path.open("w+b", buffering=0))
        return opened[0]

    async def story() -> None:
        task = asyncio.create_task(
            download(Store(), BLOB, tmp_path / "x", chunks=CHUNKS, opens=opens)
        )
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert opened[0].closed


@given(
    seed=st.integers(0, 2**32 - 1),
    left=st.binary(max_size=200) | st.just(CONTENT) | st.just(bytes(60_000)),
    is_chunked=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_the_file_is_the_blob(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    left: bytes,
    is_chunked: bool,  # noqa: FBT001
) -> None:
    """From whatever was left, over flips, breaks, and restarts that tear the tail."""
    part = tmp_path_factory.mktemp("part") / "x"
    part.write_bytes(left)
    rng, store = np.random.default_rng(seed), Store()
    chunks = CHUNKS if is_chunked else None
    for _ in range(int(rng.integers(6))):
        store.breaks_after = int(rng.integers(60_000))
        store.spoil = flip(*map(int, rng.integers(0, len(CONTENT), rng.integers(3))))
        with contextlib.suppress(LinkError, TrustError):
            fetch(store, part, chunks=chunks)
        if part.exists() and rng.random() < 0.5:
            torn = part.read_bytes()
            n_lost = int(rng.integers(most_unsynced_bytes(BLOB)))
            keeps = bytes(min(n_lost, len(torn))) if rng.random() < 0.5 else b""
            part.write_bytes(torn[: len(torn) - n_lost] + keeps)
    store.breaks_after, store.spoil = None, lambda _, piece: piece
    fetch(store, part, chunks=chunks)


def test_the_hash_of_the_whole_needs_no_second_look() -> None:
    """Without a list the one chunk is the blob itself."""
    whole = Chunks.whole(BLOB)
    assert len(whole) == 1
    assert whole.span(0) == (0, len(CONTENT))
    assert whole.is_right(0, hashlib.sha256(CONTENT).digest())

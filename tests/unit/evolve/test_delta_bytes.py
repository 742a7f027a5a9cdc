"""Deltas of blobs that are no models, and what is no delta."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard

from skerry.core.errors import DataError
from skerry.evolve.delta import diagonals, diff, pack, patch, reads_of, rebuild
from skerry.evolve.delta.apply import PIECE_BYTES
from skerry.evolve.delta.plan import HEADER, MAGIC

GOLDEN = Path(__file__).parents[2] / "golden"
RNG = np.random.default_rng(3)
OLD = RNG.normal(0, 30, 60_000).astype(np.int8).view(np.uint8)


def _retrained() -> bytes:
    """A third of the weights change by one, as a fine-tune does to INT8."""
    steps = RNG.integers(-1, 2, OLD.size) * (RNG.random(OLD.size) < 0.33)
    return (OLD + steps.astype(np.int8).view(np.uint8)).tobytes()


def test_retrained_weights_are_subtracted() -> None:
    """Where bytes change a little everywhere, their difference is what is small."""
    old, new = OLD.tobytes(), _retrained()
    delta = diff(old, new)
    assert len(delta) < 0.15 * len(new)
    assert patch(old, delta, largest_bytes=len(new)) == new


def test_moved_and_changed_bytes_are_found_in_the_old_blob() -> None:
    """Where parts were moved, put in and changed a little, hardly anything is sent."""
    old = OLD.tobytes()
    moved = bytearray(old[30_000:] + b"a new layer" + old[:30_000])
    moved[1000], moved[45_000] = 1, 2
    delta = diff(old, bytes(moved))
    assert len(delta) < 300
    assert patch(old, delta, largest_bytes=len(moved)) == bytes(moved)


def test_blobs_that_share_nothing_cost_no_more_than_packed_alone() -> None:
    """The old blob is then not looked at."""
    new = b"".join(b"%d " % number for number in range(20_000))
    delta = diff(OLD.tobytes(), new)
    assert len(delta) < len(zstandard.compress(new, 19)) + 200
    assert patch(OLD.tobytes(), delta, largest_bytes=len(new)) == new


def test_the_same_blobs_give_the_same_delta() -> None:
    """A delta can be named by its hash."""
    assert diff(OLD.tobytes(), b"x" * 99) == diff(OLD.tobytes(), b"x" * 99)


@pytest.mark.parametrize("old", [b"", b"a", b"abcdefg", b"abcdefgh", bytes(2000)])
@pytest.mark.parametrize("new", [b"", b"a", b"abcdefgh", bytes(2000)])
def test_small_blobs(old: bytes, new: bytes) -> None:
    """Nothing is too small, not even nothing."""
    assert patch(old, diff(old, new), largest_bytes=len(new)) == new


def test_it_is_applied_in_pieces_that_can_be_made_again() -> None:
    """No piece is large, and a device that lost its power begins anew."""
    old, new = bytes(3 * PIECE_BYTES) + OLD.tobytes(), OLD.tobytes() * 5
    delta = diff(old, new)
    for _ in range(2):
        pieces = rebuild(reads_of(old), reads_of(delta), largest_bytes=len(new))
        made = list(pieces)
        assert max(map(len, made)) <= PIECE_BYTES
        assert b"".join(made) == new


def test_golden_deltas_are_applied_for_ever() -> None:
    """The files of each version still give the blob they were made for."""
    new = b"skerry " * 20 + b"rock " + b"skerry " * 20
    first = (GOLDEN / "delta-1.bin").read_bytes()
    assert patch(b"skerry " * 40, first, largest_bytes=999) == new
    old = (np.arange(6000) * 7919 % 251).astype(np.uint8)
    wanted = old + (np.arange(6000) % 3 == 0)
    second = (GOLDEN / "delta-2.bin").read_bytes()
    assert second.startswith(MAGIC)
    assert patch(old.tobytes(), second, largest_bytes=6000) == (
        wanted.astype(np.uint8).tobytes()
    )


FIRST_HEADER = struct.Struct(">8sBQQ32s32s")
OLD_BLOB = b"the old blob"


def _first(body: bytes, *, codec: int = 1, size: int = 9, old: int = 12) -> bytes:
    """A delta of the first kind to nine times `x`."""
    hashes = (hashlib.sha256(one).digest() for one in (OLD_BLOB, b"x" * 9))
    return FIRST_HEADER.pack(b"SKDELTA1", codec, old, size, *hashes) + body


@pytest.mark.parametrize(
    ("delta", "what"),
    [
        (b"", "no delta"),
        (b"SKDELTA3" + bytes(99), "no delta"),
        (MAGIC + bytes(3), "no delta"),
        (b"SKDELTA1" + bytes(3), "no delta"),
        (b"SKDELTA1" + bytes(99), "codec is 0"),
        (_first(b"", codec=3), "codec is 3"),
        (_first(b"", old=7), "another blob, of 7"),
        (_first(b"", size=101), "gives 101 bytes, at most 100"),
        (_first(b"", codec=2), "subtracts 12 bytes from 9"),
        (_first(b""), "unpacks to 0 bytes"),
        (_first(b"junk"), "cannot be unpacked"),
        (_first(zstandard.compress(b"x" * 8)), "unpacks to 8 bytes"),
        (_first(zstandard.compress(bytes(10**7))), "unpacks to 10 bytes or more"),
        (_first(zstandard.compress(b"y" * 9)), "other bytes than it says"),
        (diff(b"another", b"x"), "another blob, of 7"),
        (diff(OLD_BLOB, b"x" * 101), "gives 101 bytes, at most 100"),
        (diff(OLD_BLOB, b"x" * 50)[:-1], "is damaged"),
        (diff(OLD_BLOB, b"x" * 50)[: HEADER.size + 2], "is damaged"),
        (MAGIC + bytes(64) + b"\xff" * 8, "its plan has 4294967295 bytes"),
    ],
)
def test_what_is_no_whole_delta_is_refused(delta: bytes, what: str) -> None:
    """Each fault is told; whoever meets it fetches the whole blob."""
    with pytest.raises(DataError, match=what) as caught:
        patch(OLD_BLOB, delta, largest_bytes=100)
    assert "whole blob" in caught.value.hint


def test_a_delta_that_makes_another_blob_gives_no_last_piece() -> None:
    """What comes before the end is not the blob yet."""
    delta = bytearray(diff(OLD_BLOB, b"x" * 50))
    delta[50] ^= 1
    with pytest.raises(DataError, match="other bytes than it says"):
        patch(OLD_BLOB, bytes(delta), largest_bytes=100)


def test_a_window_that_needs_much_memory_is_refused() -> None:
    """A frame cannot have a gateway set 2 GiB aside."""
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = writer.compress(b"x" * 9) + writer.flush()
    with pytest.raises(DataError, match="cannot be unpacked"):
        patch(OLD_BLOB, _first(body), largest_bytes=100)


def test_blobs_that_do_not_fit_into_memory_have_no_delta_of_the_first_kind() -> None:
    """It says how large both are before anything is unpacked."""
    with pytest.raises(DataError, match="of memory"):
        patch(OLD_BLOB, _first(b"", size=1 << 40), largest_bytes=1 << 41)


def test_more_changes_than_a_plan_may_have_parts_are_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They cost a little more, and not the whole blob."""
    old = np.random.default_rng(4).integers(0, 256, 40_000, np.uint8)
    new = old.copy()
    new[::400] += 1
    single = diff(old.tobytes(), new.tobytes())
    monkeypatch.setattr(pack, "MOST_PARTS", 50)
    joined = diff(old.tobytes(), new.tobytes())
    assert patch(old.tobytes(), joined, largest_bytes=len(new)) == new.tobytes()
    assert len(single) < len(joined) < len(new) / 50


def test_a_large_blob_is_not_packed_only_to_be_thrown_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And fewer windows are looked up, which finds what was moved all the same."""
    monkeypatch.setattr(pack, "LARGE_BYTES", 1 << 10)
    monkeypatch.setattr(pack, "_SAMPLE_BYTES", 1 << 12)
    monkeypatch.setattr(diagonals, "_MOST_LOOKUPS", 1 << 10)
    rng = np.random.default_rng(4)
    old, other = (rng.bytes(60_000) for _ in range(2))
    packed: list[int] = []
    compress = pack.compress

    def counted(content: bytes, *rest: bytes, **given: int) -> bytes:
        packed.append(len(content))
        return compress(content, *rest, **given)

    monkeypatch.setattr(pack, "compress", counted)
    moved = old[20_000:] + b"?" + old[:20_000]
    assert len(diff(old, moved)) < 500
    assert max(packed) < len(moved)
    packed.clear()
    assert len(diff(old, other)) < len(other) + 300
    assert max(packed) == len(other)

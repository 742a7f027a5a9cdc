from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zstandard

from skerry.core.errors import DataError
from skerry.evolve.delta import _HEADER, MAGIC, Codec, diff, patch

GOLDEN = Path(__file__).parents[2] / "golden" / "delta-1.bin"
RNG = np.random.default_rng(3)
OLD = RNG.integers(0, 256, 60_000, np.uint8)


def _retrained() -> bytes:
    """A third of the weights change by one, as a fine-tune does to INT8."""
    steps = RNG.integers(-1, 2, OLD.size) * (RNG.random(OLD.size) < 0.33)
    return (OLD + steps.astype(np.int8).view(np.uint8)).tobytes()


def test_retrained_weights_are_subtracted() -> None:
    """Where bytes change a little everywhere, their difference is what is small."""
    old, new = OLD.tobytes(), _retrained()
    delta = diff(old, new)
    assert delta[8] == Codec.SUBTRACT
    assert len(delta) < 0.25 * len(new)
    assert patch(old, delta, largest_bytes=len(new)) == new


def test_moved_bytes_are_found_in_the_old_blob() -> None:
    """Where bytes were put in before the rest, hardly anything is sent."""
    old = OLD.tobytes()
    new = old[:100] + b"a new layer" + old[100:]
    delta = diff(old, new)
    assert delta[8] == Codec.PATCH_FROM
    assert len(delta) < 300
    assert patch(old, delta, largest_bytes=len(new)) == new


def test_the_same_blobs_give_the_same_delta() -> None:
    """A delta can be named by its hash."""
    assert diff(OLD.tobytes(), b"x" * 99) == diff(OLD.tobytes(), b"x" * 99)


@pytest.mark.parametrize("old", [b"", b"a", b"abcdefg", b"abcdefgh", bytes(2000)])
@pytest.mark.parametrize("new", [b"", b"a", b"abcdefgh", bytes(2000)])
def test_small_blobs(old: bytes, new: bytes) -> None:
    """Nothing is too small, not even nothing."""
    assert patch(old, diff(old, new), largest_bytes=len(new)) == new


def test_golden_delta_is_applied_for_ever() -> None:
    """The first version's file still gives the blob it was made for."""
    assert patch(b"skerry " * 40, GOLDEN.read_bytes(), largest_bytes=999) == (
        b"skerry " * 20 + b"rock " + b"skerry " * 20
    )


def _delta(body: bytes, *, codec: int = 1, size: int = 9) -> bytes:
    old = b"the old blob"
    header = bytearray(diff(old, b"x" * size)[: _HEADER.size])
    header[8] = codec
    return bytes(header) + body


@pytest.mark.parametrize(
    ("delta", "what"),
    [
        (b"", "no delta"),
        (b"SKDELTA2" + bytes(99), "no delta"),
        (MAGIC + bytes(3), "no delta"),
        (MAGIC + bytes(99), "codec is 0"),
        (_delta(b"", codec=3), "codec is 3"),
        (diff(b"another", b"x"), "another blob, of 7"),
        (_delta(b"", size=101), "gives 101 bytes, at most 100"),
        (_delta(b"", codec=2), "subtracts 12 bytes from 9"),
        (_delta(b""), "unpacks to 0 bytes"),
        (_delta(b"junk"), "cannot be unpacked"),
        (_delta(zstandard.compress(b"x" * 8)), "unpacks to 8 bytes"),
        (_delta(zstandard.compress(bytes(10**7))), "unpacks to 10 bytes or more"),
        (_delta(zstandard.compress(b"y" * 9)), "other bytes than it says"),
        (diff(b"the old blob", b"x" * 50)[:-1], "cannot be|unpacks to|other bytes"),
    ],
)
def test_what_is_no_whole_delta_is_refused(delta: bytes, what: str) -> None:
    """Each fault is told; whoever meets it fetches the whole blob."""
    with pytest.raises(DataError, match=what) as caught:
        patch(b"the old blob", delta, largest_bytes=100)
    assert "whole blob" in caught.value.hint


def test_a_window_that_needs_much_memory_is_refused() -> None:
    """A frame cannot have a gateway set 2 GiB aside."""
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = writer.compress(b"x" * 9) + writer.flush()
    with pytest.raises(DataError, match="cannot be unpacked"):
        patch(b"the old blob", _delta(body), largest_bytes=100)

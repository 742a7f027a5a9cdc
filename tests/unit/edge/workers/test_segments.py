from __future__ import annotations

import os

import pytest

from skerry.edge.workers.segments import SMALLEST_BYTES, Segment


def test_both_sides_see_the_same_bytes() -> None:
    """What one writes the other reads, under another descriptor."""
    ours = Segment.create(10)
    theirs = Segment(os.dup(ours.fd))
    assert ours.size_bytes == theirs.size_bytes == SMALLEST_BYTES
    ours.memory[3:6] = b"abc"
    assert theirs.memory[3:6] == b"abc"
    ours.close()
    theirs.close()
    theirs.close()


def test_nobody_can_change_its_size() -> None:
    """A shorter file under a mapping would kill who reads it."""
    segment = Segment.create(100_000)
    for size in (0, 1_000_000):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, size)
    segment.close()


def test_what_is_no_memory_is_closed() -> None:
    """A descriptor that cannot be mapped does not stay open."""
    reader, writer = os.pipe()
    with pytest.raises((OSError, ValueError)):
        Segment(reader)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(reader)
    os.close(writer)

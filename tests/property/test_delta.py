"""A delta gives back the new blob, whatever the two blobs are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.evolve.delta import diff, patch

pieces = st.lists(st.binary(max_size=200), max_size=6)


@settings(max_examples=60, deadline=None)
@given(old=pieces, new=pieces, shared=st.binary(max_size=3000))
def test_patch_undoes_diff(old: list[bytes], new: list[bytes], shared: bytes) -> None:
    """Blobs that share much, little or nothing, of any lengths."""
    before, after = shared.join(old), shared.join(new)
    delta = diff(before, after)
    assert patch(before, delta, largest_bytes=len(after)) == after


@settings(max_examples=30, deadline=None)
@given(old=st.binary(max_size=3000), steps=st.binary(max_size=40))
def test_patch_undoes_diff_of_equal_lengths(old: bytes, steps: bytes) -> None:
    """Blobs of the same length that differ in a few bytes."""
    after = bytearray(old)
    for place, step in enumerate(steps):
        if old:
            after[(place * 7919) % len(old)] = step
    delta = diff(old, bytes(after))
    assert patch(old, delta, largest_bytes=len(old)) == after

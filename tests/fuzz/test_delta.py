"""Deltas from outside: a clear refusal, whatever they say, in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import tracemalloc

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skerry.adapt.tflite import write_tflite
from skerry.core.errors import DataError
from skerry.evolve.delta import diff, patch
from skerry.evolve.delta.onnx_file import read_onnx
from skerry.evolve.delta.plan import HEADER, LARGEST_PLAN_BYTES, MAGIC
from skerry.evolve.delta.tflite_file import IDENTIFIER, read_tflite
from skerry.graph import parse_graph
from tests.deltas import floats, quantized, trained_on

OLD = quantized(floats())
TFLITE = write_tflite(parse_graph(OLD))
NEW = quantized(trained_on(floats(), 3e-4))
DELTA = diff(OLD, NEW)
PLAN_SIZES = HEADER.unpack_from(DELTA)[3:]
PLAN = zstandard.ZstdDecompressor().decompress(
    DELTA[HEADER.size : HEADER.size + PLAN_SIZES[0]], max_output_size=PLAN_SIZES[1]
)
REST = DELTA[HEADER.size + PLAN_SIZES[0] :]

MOST_BYTES = 64 << 20
"""More memory than this no delta takes for these blobs."""

edits = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.integers(0, 255), st.integers(0, 2)),
    min_size=1,
    max_size=4,
)


def _edited(content: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """Change, put in or take out single bytes."""
    changed = bytearray(content)
    for place, byte, kind in edits:
        at = place % (len(changed) + 1)
        changed[at : at + (kind != 1)] = b"" if kind == 2 else bytes([byte])
    return bytes(changed)


def _with_plan(plan: bytes, rest: bytes = REST) -> bytes:
    """The delta with another plan, as somebody would write it who means ill."""
    packed = zstandard.compress(plan)
    hashes = (hashlib.sha256(one).digest() for one in (OLD, NEW))
    return HEADER.pack(MAGIC, *hashes, len(packed), len(plan)) + packed + rest


def _refused(delta: bytes) -> None:
    """It is refused in little memory, or gives the right bytes all the same."""
    tracemalloc.start()
    try:
        assert patch(OLD, delta, largest_bytes=len(NEW)) == NEW
    except DataError as error:
        assert "cannot be applied" in error.what  # noqa: PT017
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < MOST_BYTES


@settings(max_examples=80, deadline=None)
@given(edits=edits)
def test_a_damaged_delta_of_a_model(edits: list[tuple[int, int, int]]) -> None:
    """Wherever the damage is."""
    _refused(_edited(DELTA, edits))


@settings(max_examples=250, deadline=None)
@given(edits=edits)
def test_a_plan_that_lies(edits: list[tuple[int, int, int]]) -> None:
    """Of sizes, offsets, kinds, scales, streams and how they are coded."""
    _refused(_with_plan(_edited(PLAN, edits)))


@settings(max_examples=100, deadline=None)
@given(plan=st.binary(max_size=200), rest=st.binary(max_size=200))
def test_any_bytes_as_a_plan(plan: bytes, rest: bytes) -> None:
    """Bytes that were never a plan are refused."""
    _refused(_with_plan(plan, rest))


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_behind_the_magic(content: bytes) -> None:
    """Bytes that were never a delta are refused."""
    with pytest.raises(DataError):
        patch(OLD, MAGIC + content, largest_bytes=len(NEW))


def test_a_plan_that_unpacks_to_much_is_refused() -> None:
    """A bomb is not unpacked."""
    bomb = zstandard.compress(bytes(1 << 30))
    header = HEADER.pack(MAGIC, bytes(32), bytes(32), len(bomb), LARGEST_PLAN_BYTES)
    _refused(header + bomb)


@settings(max_examples=150, deadline=None)
@given(edits=edits)
@example(edits=[(0, 0x3A, 0)])
def test_a_damaged_model_has_a_delta_too(edits: list[tuple[int, int, int]]) -> None:
    """Whatever the walk through a file meets, it ends, with tensors inside of it."""
    content = _edited(OLD, edits)
    try:
        found = read_onnx(content)
    except ValueError:
        return
    assert all(0 <= one.offset < one.end <= len(content) for one in found.tensors)


@settings(max_examples=300, deadline=None)
@given(edits=edits)
def test_a_damaged_tflite_file_has_a_delta_too(
    edits: list[tuple[int, int, int]],
) -> None:
    """Wherever its offsets lead, round in circles too."""
    # Most of a file is weights: it is damaged where its tables are.
    tables = len(TFLITE) - 4096
    content = TFLITE[:8] + _edited(TFLITE[8:512], edits)
    content += TFLITE[512:tables] + _edited(TFLITE[tables:], edits)
    try:
        found = read_tflite(content)
    except ValueError:
        return
    assert all(0 <= one.offset < one.end <= len(content) for one in found.tensors)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_behind_the_identifier(content: bytes) -> None:
    """They are refused, or lead to tensors inside of the file."""
    head = b"\x1c\0\0\0" + IDENTIFIER
    with contextlib.suppress(ValueError):
        found = read_tflite(head + content)
        assert all(one.end <= len(head + content) for one in found.tensors)


def test_many_graphs_that_are_one_end() -> None:
    """Each with as many tensors, which are one, too: not as many times as many."""
    n = 1 << 10
    content = bytearray(struct.pack("<I4s", 0, IDENTIFIER))
    from_places = [0]
    # The model's third field is its graphs, a graph's first its tensors.
    for field in (2, 0, None):
        slots = 0 if field is None else field + 1
        offsets = [0] * (slots - 1) + [4] * bool(slots)
        content += struct.pack(f"<HH{slots}H", 4 + 2 * slots, 8, *offsets)
        table = len(content)
        for place in from_places:
            struct.pack_into("<I", content, place, table - place)
        content += struct.pack("<iII", 4 + 2 * slots, 4, n)
        from_places = [len(content) + 4 * one for one in range(n)]
        content += bytes(4 * n)
    with pytest.raises(ValueError, match="too many tensors"):
        read_tflite(bytes(content))


@settings(max_examples=5, deadline=None)
@given(edits=edits)
def test_a_delta_between_damaged_models(edits: list[tuple[int, int, int]]) -> None:
    """Both ways, it gives what it was made for."""
    content = _edited(OLD, edits)
    assert patch(OLD, diff(OLD, content), largest_bytes=len(content)) == content
    assert patch(content, diff(content, OLD), largest_bytes=len(OLD)) == OLD

"""Deltas of TFLite files: their tensors are found without any package."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from skerry.adapt.tflite import write_tflite
from skerry.evolve.delta import diff, patch
from skerry.evolve.delta.kinds import Kind
from skerry.evolve.delta.pack import read_contents
from skerry.evolve.delta.tflite_file import read_tflite
from skerry.graph import infer_shapes, parse_graph
from tests import tflite as tflite_files
from tests.deltas import floats, trained_on
from tests.models import model_bytes

TEXT = """net (float[1, 16, 8, 8] x) => (float[1, 64, 6, 6] y) {
  y = Conv(x, w, b)
}"""


@functools.cache
def tflite(step: float) -> bytes:
    """A quantized model whose weights changed by about that much."""
    weights = trained_on(floats(), step) if step else floats()
    given = {name: weights[name] for name in ("w", "b")}
    graph = infer_shapes(parse_graph(model_bytes(TEXT, given)))
    return write_tflite(tflite_files.quantized(graph))


def test_tensors_are_found_with_their_scales() -> None:
    """Where the codes lie, their scales, and those of the sums."""
    content = tflite(0)
    found = read_tflite(content)
    assert found == read_contents(content)
    codes = next(one for one in found.tensors if one.shape == (64, 3, 3, 16))
    assert (codes.kind, codes.axis, codes.inner) == (Kind.INT8, 0, 144)
    named = {one.name: one for one in found.tensors}
    scale = named[codes.scale]
    weights = np.asarray(floats()["w"])
    np.testing.assert_allclose(
        np.frombuffer(content[scale.offset : scale.end], "<f4"),
        np.abs(weights).max(axis=(1, 2, 3)) / 127,
        rtol=1e-6,
    )
    sums = [pair for pair in found.products.values() if pair[1] == codes.scale]
    assert len(sums) == 1


def test_a_model_trained_on_costs_a_fraction() -> None:
    """Less than what is known of its bytes alone would make of it."""
    old, new = tflite(0), tflite(2e-4)
    delta = diff(old, new)
    assert patch(old, delta, largest_bytes=len(new)) == new
    # Another identifier: the same bytes, of no known format.
    hidden = [content[:4] + b"?" + content[5:] for content in (old, new)]
    assert len(delta) < 0.9 * len(diff(*hidden))


@pytest.mark.parametrize("place", [0, 200])
def test_offsets_that_lead_nowhere_are_no_model(place: int) -> None:
    """They are refused, and the file is packed as bytes."""
    content = bytearray(tflite(0))
    content[place : place + 4] = b"\xff\xff\xff\x7f"
    if place:
        assert patch(tflite(0), diff(tflite(0), bytes(content)), largest_bytes=1 << 20)
        return
    with pytest.raises(ValueError, match="offset"):
        read_tflite(bytes(content))
    with pytest.raises(ValueError, match="no TFLite"):
        read_tflite(b"")

"""The reader of dlib's net, without dlib: on bytes written here, whole and damaged."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

CONVERT: dict[str, Any] = runpy.run_path(
    str(Path(__file__).parents[3] / "examples" / "faces" / "convert.py")
)
STAGES = CONVERT["STAGES"]


def _whole(number: int) -> bytes:
    size = max(1, (abs(number).bit_length() + 7) // 8)
    return bytes([size | (0x80 if number < 0 else 0)]) + abs(number).to_bytes(
        size, "little"
    )


def _name(name: str) -> bytes:
    return _whole(len(name)) + name.encode()


def _tensor(array: np.ndarray) -> bytes:
    head = b"".join(map(_whole, (2, array.size, 1, 1, 1)))
    return head + array.astype("<f4").tobytes()


def _convolution(
    rng: np.random.Generator, inside: int, outside: int, side: int
) -> bytes:
    count = outside * inside * side * side
    numbers = rng.normal(0, 1 / np.sqrt(inside * side * side), count + outside)
    affine = np.concatenate([np.full(outside, 0.5), np.full(outside, 0.1)])
    return _name("con_4") + _tensor(numbers) + _name("affine_") + _tensor(affine)


def _file() -> bytes:
    """A net of random weights in dlib's form."""
    rng = np.random.default_rng(0)
    parts = [_name("loss_metric_2"), _convolution(rng, 3, 32, 7)]
    depth = 32
    for channels, blocks, _ in STAGES:
        for _block in range(blocks):
            parts += [_convolution(rng, depth, channels, 3)]
            parts += [_convolution(rng, channels, channels, 3)]
            depth = channels
    weights = rng.normal(size=128 * depth)
    parts += [_name("fc_2"), _whole(128), _whole(depth), _tensor(weights)]
    return b"".join(parts)


def test_a_net_in_dlibs_form_becomes_one_that_runs() -> None:
    """29 convolutions, from a face of 150 × 150 to 128 numbers."""
    model = CONVERT["build"](_file())
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 29
    assert kinds.count("AveragePool") == 4
    session = onnxruntime.InferenceSession(model.SerializeToString())
    face = np.full((1, 3, 150, 150), 128, np.float32)
    (found,) = session.run(None, {"face": face})
    assert found.shape == (1, 128)
    assert np.isfinite(found).all()
    assert np.ptp(found) > 0


@given(number=st.integers(-(1 << 63), 1 << 63))
def test_numbers_are_read_as_they_are_written(number: int) -> None:
    """A byte with sign and length, then the bytes, the lowest first."""
    assert CONVERT["Reader"](_whole(number)).whole() == number


@given(content=st.binary(max_size=80))
def test_what_is_no_net_is_refused(content: bytes) -> None:
    """Whatever the bytes are."""
    with pytest.raises(ValueError, match=r".+"):
        CONVERT["build"](content)
    with pytest.raises(ValueError, match=r".+"):
        CONVERT["build"](_name("con_4") + content)
    with pytest.raises(ValueError, match=r".+"):
        CONVERT["Reader"](content).tensor(1000)


def test_weights_that_are_no_numbers_are_refused() -> None:
    """A tensor of NaN."""
    tensor = _tensor(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="not finite"):
        CONVERT["Reader"](tensor).tensor(2)

"""Deltas of models: what is known of their tensors makes them small."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from skerry.evolve.delta import diff, patch
from skerry.evolve.delta.kinds import Kind
from skerry.evolve.delta.pack import read_contents
from tests.deltas import floats, only_tensors, quantized, raw_tensor, trained_on

RNG = np.random.default_rng(8)


def _size(old: bytes, new: bytes) -> int:
    delta = diff(old, new)
    assert patch(old, delta, largest_bytes=len(new)) == new
    return len(delta)


def test_tensors_are_found_with_what_they_are_multiplied_with() -> None:
    """Without onnx: where they lie, their scales, and the scales of sums."""
    content = quantized(floats())
    found = read_contents(content)
    named = {one.name: one for one in found.tensors}
    assert named["w_codes"].kind is Kind.INT8
    assert named["w_codes"].shape == (64, 16, 3, 3)
    assert named["w_codes"].scale == "w_scale"
    assert named["w_codes"].inner == 16 * 9
    assert found.products == {"b_scale": ("x_scale", "w_scale")}
    for one in found.tensors:
        assert one.end <= len(content)


def test_a_model_trained_on_costs_a_fraction() -> None:
    """Weights change by a step or two, and each scale with them."""
    old, new = floats(), trained_on(floats(), 2e-4)
    assert _size(quantized(old), quantized(new)) < 0.4 * len(quantized(new))


def test_another_scale_of_the_same_weights_costs_the_scale() -> None:
    """Integers are brought to the new scale before they are subtracted."""
    old = floats()
    new = {
        **old,
        "w": np.asarray(old["w"]) * np.linspace(0.5, 2, 64)[:, None, None, None],
    }
    plain = len(quantized(new))
    assert _size(quantized(old), quantized(new)) < 0.15 * plain


def test_the_scales_of_sums_follow() -> None:
    """Of another scale of the inputs one number is sent, not one a channel."""
    old, new = quantized(floats()), quantized(floats(), x_scale=0.021)
    assert _size(old, new) < 400


def test_renamed_and_reordered_tensors_are_found() -> None:
    """By what is in them."""
    arrays = [RNG.normal(0, 30, (32, 64)).astype(np.int8) for _ in range(6)]
    old = only_tensors(
        {
            f"layer{i}": raw_tensor(3, one.tobytes(), one.shape)
            for i, one in enumerate(arrays)
        }
    )
    new = only_tensors(
        {
            f"other{i}": raw_tensor(
                3,
                (one + (RNG.random(one.shape) < 0.1)).astype(np.int8).tobytes(),
                one.shape,
            )
            for i, one in enumerate(arrays[::-1])
        }
    )
    assert _size(old, new) < 0.12 * len(new)


def test_added_and_removed_tensors() -> None:
    """What is new costs its own size, what is gone next to nothing."""
    arrays = {
        f"layer{i}": RNG.normal(0, 30, (32, 64)).astype(np.int8) for i in range(6)
    }
    tensors = {
        name: raw_tensor(3, one.tobytes(), one.shape) for name, one in arrays.items()
    }
    most = only_tensors(
        {name: one for name, one in tensors.items() if name != "layer2"}
    )
    every = only_tensors(tensors)
    assert _size(every, most) < 250
    assert _size(most, every) < 1.05 * 2048 + 250


@pytest.mark.parametrize("axis", [0, 1])
def test_more_classes_cost_the_classes(axis: int) -> None:
    """A head that grew is foreseen from the one before, row by row."""
    old = RNG.normal(0, 30, (80, 64)).astype(np.int8)
    more = list(old.shape)
    more[axis] += 4
    new = RNG.normal(0, 30, more).astype(np.int8)
    new[:80, :64] = old
    files = [
        only_tensors({"head": raw_tensor(3, one.tobytes(), one.shape)})
        for one in (old, new)
    ]
    assert _size(*files) < 4 * 80 + 500
    assert _size(*reversed(files)) < 700


@pytest.mark.parametrize(
    ("kind", "dtype", "most"),
    [
        (onnx.TensorProto.FLOAT, np.float32, 0.7),
        (onnx.TensorProto.FLOAT16, np.float16, 0.6),
        (onnx.TensorProto.DOUBLE, np.float64, 0.9),
    ],
)
def test_floats_that_changed_a_little(
    kind: int, dtype: type[np.floating], most: float
) -> None:
    """Their upper bytes hardly change."""
    old = RNG.normal(0, 0.1, 20_000).astype(dtype)
    new = (old * (1 + 1e-3 * RNG.normal(size=old.size))).astype(dtype)
    files = [
        only_tensors({"w": raw_tensor(kind, one.tobytes(), one.shape)})
        for one in (old, new)
    ]
    assert _size(*files) < most * len(files[1])


def test_four_bits_are_subtracted_one_by_one() -> None:
    """Two are in a byte, and each changes on its own."""
    codes = RNG.integers(-7, 7, 40_000)
    steps = (RNG.random(codes.size) < 0.05).astype(int)
    files = []
    for some in (codes, codes + steps):
        pairs = (some & 15).reshape(-1, 2)
        content = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()
        files.append(only_tensors({"w": raw_tensor(22, content, (200, 200))}))
    assert _size(*files) < 0.35 * len(files[1])


def test_a_model_trained_anew_costs_no_more_than_packed_alone() -> None:
    """Nothing is foreseen from weights that have nothing in common."""
    import lzma

    old, new = quantized(floats(1)), quantized(floats(2))
    assert _size(old, new) < 1.01 * len(lzma.compress(new, preset=9))


def test_a_file_that_only_begins_like_a_model_is_bytes() -> None:
    """Whatever cannot be walked through is packed as bytes."""
    content = quantized(floats())
    assert read_contents(content[:-3]).tensors == ()
    assert _size(content, content[:-3]) < 200

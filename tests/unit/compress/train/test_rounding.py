"""What rounds in a module rounds as onnxruntime does."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.train.rounding import BiasRounder, Pair, Rounder
from skerry.core.seams import Array
from skerry.graph import parse_graph
from skerry.runtimes.torch import torch
from tests import models, running


def pair(
    scale: Array, zero_point: Array, *, dtype: str = "uint8", axis: int | None = None
) -> Pair:
    """A place that rounds an activation."""
    return Pair(
        name="scale",
        kind="activation",
        source="x",
        consumers=(),
        scale=np.asarray(scale, np.float32),
        zero_point=np.asarray(zero_point),
        axis=axis,
        dtype=dtype,
    )


@pytest.mark.parametrize(
    ("dtype", "onnx", "zero_point"),
    [("uint8", "uint8", 1), ("uint8", "uint8", 255), ("int8", "int8", -3)],
)
def test_every_half_goes_to_the_even_multiple(
    dtype: str, onnx: str, zero_point: int
) -> None:
    """Codes and floats are onnxruntime's, at halves, at both ends and beyond them."""
    scale = np.float32(0.37)
    x = np.arange(-700, 700, dtype=np.float32) / 2 * scale
    graph = parse_graph(
        models.model_bytes(
            f"net (float[1400] x) => ({onnx}[1400] q, float[1400] y) "
            "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
            {"s": np.array(scale), "z": np.array(zero_point, dtype)},
        )
    )
    expected = running.run(graph, {"x": x})
    rounder = Rounder(pair(scale, np.array(zero_point), dtype=dtype))
    assert np.array_equal(rounder.codes(torch.from_numpy(x)), expected["q"])
    assert np.array_equal(rounder(torch.from_numpy(x)).numpy(), expected["y"])


def test_channels_have_scales_of_their_own() -> None:
    """Along its axis each channel is rounded to its own multiples."""
    rounder = Rounder(
        pair(np.array([1.0, 0.25]), np.array([0, 0]), dtype="int4", axis=0)
    )
    x = torch.tensor([[0.6, 9.0], [0.6, -9.0]])
    assert rounder(x).tolist() == [[1.0, 7.0], [0.5, -2.0]]
    assert rounder.codes(x).tolist() == [[1, 7], [2, -8]]


def test_gradients_pass_where_nothing_is_clipped() -> None:
    """The straight-through estimator: 1 inside the range, 0 beyond it."""
    x = torch.tensor([-1.0, 0.4, 254.0, 300.0], requires_grad=True)
    Rounder(pair(np.array(1.0), np.array(0)))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_a_bias_is_rounded_to_the_sums_it_is_added_to() -> None:
    """Its scale is the product of what its layer multiplies, also after training."""
    read = Rounder(pair(np.array(0.5), np.array(3)))
    weight = Rounder(pair(np.array([0.1, 0.2]), np.array([0, 0]), dtype="int8", axis=0))
    own = pair(np.array([9.0, 9.0]), np.array([0, 0]), dtype="int32", axis=0)
    bias = BiasRounder(own, read, weight)
    assert bias.codes(torch.tensor([1.0, 1.0])).tolist() == [20, 10]
    read.scale.fill_(0.25)
    assert bias.codes(torch.tensor([1.0, -1.0])).tolist() == [40, -20]
    assert bias(torch.tensor([1.01, 1.01])).tolist() == pytest.approx([1.0, 1.0])
    assert bias.codes(torch.tensor([1e12, -1e12])).tolist() == [2**31 - 1, -(2**31)]

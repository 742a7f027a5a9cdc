from __future__ import annotations

from collections.abc import Callable

import pytest

from skerry.compress.ptq.quantize import prepare
from skerry.compress.search.kernels import Ran, count_for, read_kernels
from skerry.core.profile import OperatorTime, Profile
from skerry.graph import Graph, parse_graph
from tests import models

NET = models.model_bytes(
    """net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
      a = Conv(x, w) r = Relu(a) b10 = Conv(r, w) b1 = Conv(b10, w) y = Sin(b1)
    }""",
    models.random_weights({"w": (4, 4, 1, 1)}),
)


@pytest.fixture
def graph(quantized: Callable[..., Graph]) -> Graph:
    """The net in integers."""
    return quantized(NET)


def profile(*kernels: tuple[str, str, float, str]) -> Profile:
    """Make a profile of (name, type, time, dtype)."""
    return Profile(
        runtime="some",
        threads=1,
        repeats=1,
        operators=tuple(
            OperatorTime(name=name, op_type=op_type, latency_ms=time_ms, dtype=dtype)
            for name, op_type, time_ms, dtype in kernels
        ),
    )


def test_kernels_are_found_whatever_is_added_to_their_names(graph: Graph) -> None:
    """The longest known name counts, up to a sign: b1 is not b10."""
    found = read_kernels(
        profile(
            ("a_token_7", "QLinearConv", 2.0, "uint8"),
            ("x.QuantizeLinear", "QuantizeLinear", 0.5, "float32"),
            ("b10/WithoutBiases", "Convolution x_I8", 1.0, "int8"),
            ("b1_nchwc", "Conv", 3.0, "float32"),
            ("nowhere", "Reorder", 9.0, ""),
        ),
        graph,
        count_for(prepare(parse_graph(NET))),
    )
    assert found["a"] == Ran(latency_ms=2.5, kernel="QLinearConv", is_integer=True)
    assert found["b10"].is_integer
    assert found["b1"] == Ran(latency_ms=3.0, kernel="Conv", is_integer=False)
    assert "y" not in found


def test_a_fused_activation_counts_for_its_layer() -> None:
    """Runtimes name the fused kernel after the one or the other."""
    counted = count_for(prepare(parse_graph(NET)))
    assert counted == {"a": "a", "r": "a", "b10": "b10", "b1": "b1", "y": "y"}


def test_a_conversion_is_no_kernel_of_an_operator(graph: Graph) -> None:
    """It counts as time, but what an operator ran as is what computed."""
    names = {name: name for name in ("a", "r", "b10", "b1", "y")}
    found = read_kernels(
        profile(
            ("b1.DequantizeLinear", "DequantizeLinear", 5.0, "uint8"),
            ("b1", "QLinearConv", 1.0, "uint8"),
        ),
        graph,
        names,
    )
    assert found["b1"] == Ran(latency_ms=6.0, kernel="QLinearConv", is_integer=True)

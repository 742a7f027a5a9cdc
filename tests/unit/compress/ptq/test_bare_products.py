from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress.ptq.bare_products import give_biases
from skerry.core.seams import Array, LoadOptions
from skerry.graph import Graph, infer_shapes, name_all_nodes, parse_graph, write_graph
from skerry.runtimes import get_runtime
from tests import models, running

Quantized = Callable[..., Graph]
STEP = 0.3


def two_products(
    first: str, second: str, sizes: tuple[int, int, int, int], zero_point: int
) -> Graph:
    """Two quantized products of matrices without a bias, one after the other."""
    rows, width, hidden, out = sizes
    rng = np.random.default_rng(7)
    constants = {
        "s": np.float32(0.05),
        "z": np.uint8(zero_point),
        "t": np.float32(STEP),
        "u": np.uint8(128),
        "wc": rng.integers(-127, 128, (width, hidden)).astype(np.int8),
        "vc": rng.integers(-127, 128, (hidden, out)).astype(np.int8),
        "ws": np.full(hidden, 0.01, np.float32),
        "vs": np.full(out, 0.01, np.float32),
        "wz": np.zeros(hidden, np.int8),
        "vz": np.zeros(out, np.int8),
    }
    text = f"""net (float[{rows}, {width}] x) => (float[{rows}, {out}] y) {{
      p = QuantizeLinear(x, s, z) q = DequantizeLinear(p, s, z)
      w = DequantizeLinear<axis = 1>(wc, ws, wz) a = {first}(q, w)
      b = QuantizeLinear(a, t, u) c = DequantizeLinear(b, t, u)
      v = DequantizeLinear<axis = 1>(vc, vs, vz) y = {second}(c, v)
    }}"""
    return infer_shapes(
        name_all_nodes(parse_graph(models.model_bytes(text, constants)))
    )


def on(runtime: str, graph: Graph, sample: dict[str, Array]) -> Array:
    """Run a graph on one runtime, in float32."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_graph(graph, Path(folder) / "net.onnx")
        session = get_runtime(runtime).load(model, LoadOptions(precision="float32"))
        found: Array = session.run(sample)["y"]
        session.close()
    return found


kinds = st.sampled_from(["MatMul", "Gemm"])
widths = st.integers(2, 20)


@settings(max_examples=25, deadline=None)
@given(
    kinds, kinds, st.tuples(widths, widths, widths, widths), st.sampled_from([90, 128])
)
def test_both_runtimes_give_the_same(
    first: str, second: str, sizes: tuple[int, int, int, int], zero_point: int
) -> None:
    """Products of matrices without biases come out alike, up to a step in between."""
    graph = two_products(first, second, sizes, zero_point)
    give_biases(graph)
    sample = running.random_inputs(graph, seed=1)
    found, expected = on("openvino", graph, sample), on("onnxruntime", graph, sample)
    # A few values lie between two steps, where the last bit decides.
    assert found == pytest.approx(expected, abs=4 * STEP * 1.27)


def test_a_product_with_a_bias_is_left_as_it_was(quantized: Quantized) -> None:
    """The layers of an ordinary net have biases: nothing is added."""
    graph = quantized(models.mlp(), operators="fused")
    content = graph.to_bytes()
    give_biases(graph)
    assert graph.to_bytes() == content

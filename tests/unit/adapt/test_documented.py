"""What users report of real NPUs, said by the audit before anything is compiled."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.audit import Audit, audit
from skerry.adapt.target_files import load_target
from skerry.graph import Graph, parse_graph
from tests.models import model_bytes

SCALES = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}


def net(text: str, **weights: object) -> Graph:
    """A graph of int8 tensors: `Q` and `D` stand for the pairs' arguments."""
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    return parse_graph(
        model_bytes(text.replace("$", "s, z"), {**SCALES, **arrays}), name="net"
    )


def transposed(height: int, width: int) -> Graph:
    """One Transpose of [1, 8, height, width], in int8."""
    return net(
        f"""t (int8[1, 8, {height}, {width}] x) => (int8[1, {height}, {width}, 8] y) {{
          d = DequantizeLinear(x, $)
          t = Transpose<perm = [0, 2, 3, 1]>(d)
          y = QuantizeLinear(t, $)
        }}"""
    )


@pytest.mark.parametrize(
    ("height", "width", "where"),
    [(256, 2560, "cpu"), (1, 8192, "npu"), (64, 129, "cpu")],
)
def test_rk3588_leaves_large_transposes_to_the_cpu(
    height: int, width: int, where: str
) -> None:
    """Issue 490: `height(256) * width(2560)`, required product no larger than 8192."""
    found = audit(transposed(height, width), load_target("rk3588"))
    (one,) = found.operators
    assert one.processor == where
    assert where == "npu" or "8192" in one.reason
    if (height, width) == (256, 2560):
        assert "Split Transpose" in found.remedies[0].advice


def test_rv1106_does_not_run_what_its_npu_refuses() -> None:
    """Issues 145, 316: there is no CPU to fall back to, and it is said before."""
    graph = net(
        """m (int8[1, 8] x) => (int8[1, 8] y) {
          d = DequantizeLinear(x, $)
          m = Min(d, d)
          y = QuantizeLinear(m, $)
        }"""
    )
    found = audit(graph, load_target("rv1106"))
    assert not found.would_run
    assert "No processor runs Min" in found.problems[0]


def test_rv1106_runs_no_floats() -> None:
    """Issue 145: FP16 is not supported; a float model does not run at all."""
    graph = net("r (float[1, 8] x) => (float[1, 8] y) { y = Relu(x) }")
    found = audit(graph, load_target("rv1106"))
    assert not found.would_run
    assert "float32" in found.problems[0]


def after_a_transpose() -> Audit:
    """Relu, Transpose, Relu, Relu on the Edge TPU, which refuses the Transpose."""
    graph = net(
        """e (int8[1, 4, 4, 8] x) => (int8[1, 4, 8, 4] y) {
          d = DequantizeLinear(x, $)
          a = Relu(d)
          t = Transpose<perm = [0, 1, 3, 2]>(a)
          b = Relu(t)
          c = Relu(b)
          y = QuantizeLinear(c, $)
        }"""
    )
    return audit(graph, load_target("coral-edge-tpu"))


def test_edge_tpu_takes_one_subgraph() -> None:
    """Issue 342: all that follows the first unmapped operator is on the CPU."""
    found = after_a_transpose()
    places = [one.processor for one in found.operators]
    assert places[0] == "edge-tpu"
    assert "edge-tpu" not in places[1:]
    assert len(found.subgraphs) == 2
    assert "comes after Transpose" in found.operators[2].reason


def test_edge_tpu_is_told_what_ends_its_subgraph() -> None:
    """Without the Transpose, two more operators would be mapped."""
    (remedy,) = [
        one for one in after_a_transpose().remedies if "ends the one" in one.advice
    ]
    assert remedy.operators == 2


def averaged(height: int) -> Graph:
    """Mean over height and width of [1, height, 128, 3], in int8."""
    return net(
        f"""m (int8[1, {height}, 128, 3] x) => (int8[1, 1, 1, 3] y) {{
          d = DequantizeLinear(x, $)
          m = ReduceMean<axes = [1, 2]>(d)
          y = QuantizeLinear(m, $)
        }}"""
    )


def test_edge_tpu_maps_a_large_mean_in_four_tiles() -> None:
    """Issue 461: 1×256×128×3 is not mapped, in four tiles it is."""
    coral = load_target("coral-edge-tpu")
    found = audit(averaged(256), coral)
    assert found.operators[0].processor != "edge-tpu"
    assert "into 4 tiles" in found.remedies[0].advice
    assert audit(averaged(64), coral).operators[0].processor == "edge-tpu"

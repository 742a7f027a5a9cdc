"""A graph as a target sees it."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.operators import Operator, Workload, read_workload
from skerry.graph import Graph, count, infer_shapes, parse_graph
from tests.models import Weights, model_bytes


def read(graph: Graph) -> Workload:
    """Infer a graph's shapes and read it."""
    return read_workload(infer_shapes(graph))


def read_text(
    text: str, weights: Weights | None = None, *, opset: int = 17
) -> Workload:
    """Read a graph given in ONNX's text form."""
    return read(parse_graph(model_bytes(text, weights, opset=opset), name="small"))


def by_result(workload: Workload) -> dict[str, Operator]:
    """The operators by the names of what they make."""
    return {operator.outputs[0].name: operator for operator in workload.operators}


def test_a_float_graph_is_read_as_it_is(float_net: Graph) -> None:
    """Operators, dtypes, shapes, attributes, constants and MACs are the graph's."""
    workload = read(float_net)
    assert [one.op_type for one in workload.operators] == [
        "Conv",
        "Relu",
        "Div",
        "MaxPool",
    ]
    conv = workload.operators[0]
    assert conv.dtype == "float32"
    assert conv.outputs[0].shape == (1, 4, 8, 8)
    assert conv.attributes["pads"] == (1, 1, 1, 1)
    assert [one.name for one in conv.constants] == ["w", "b"]
    assert conv.macs == 4 * 8 * 8 * 3 * 9
    assert by_result(workload)["d"].inputs[1].scalar == 6  # type: ignore[union-attr]
    assert workload.results == {"y"}
    assert workload.weight_bytes == 4 * (4 * 27 + 4 + 1)


def test_quantized_graph_computes_in_its_integers(quantized_net: Graph) -> None:
    """Q and DQ vanish; what stands between them counts as INT8, weights too."""
    operators = by_result(read(quantized_net))
    assert list(operators) == ["c", "r", "f", "y"]
    conv = operators["c"]
    assert {one.dtype for one in conv.activations} == {"int8"}
    assert {one.dtype for one in conv.constants} == {"int8"}
    assert {one.dtype for one in operators["r"].activations} == {"int8"}


@pytest.mark.parametrize("channels", [1, 4])
def test_weights_know_how_many_scales_they_have(channels: int) -> None:
    """One a tensor or one a channel; a constant that is not quantized has none."""
    scales = np.full(channels, 0.1, np.float32)
    zeros = np.zeros(channels, np.int8)
    weights = {
        "q": np.ones((4, 3, 3, 3), np.int8),
        "scale": scales if channels > 1 else scales[0],
        "zero": zeros if channels > 1 else zeros[0],
        "b": np.ones(4, np.float32),
    }
    workload = read_text(
        """net (float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) {
          w = DequantizeLinear<axis = 0>(q, scale, zero)
          y = Conv(x, w, b)
        }""",
        weights,
    )
    conv = by_result(workload)["y"]
    assert [one.scales for one in conv.constants] == [channels, 0]


def test_bytes_moved_keep_the_dtype_they_have(quantized_net: Graph) -> None:
    """A Flatten after a DequantizeLinear moves INT8; a Sigmoid after it is float."""
    operators = by_result(read(quantized_net))
    assert {one.dtype for one in operators["f"].activations} == {"int8"}
    assert operators["y"].outputs[0].dtype == "float32"


def test_a_value_read_in_floats_too_stays_float() -> None:
    """A result that one reader takes unquantized must be computed in floats."""
    workload = read_text(
        """net (float[1, 4] x) => (float[1, 4] a, float[1, 4] b) {
          r = Relu(x)
          q = QuantizeLinear(r, scale, zero)
          d = DequantizeLinear(q, scale, zero)
          a = Relu(d)
          b = Sigmoid(r)
        }""",
        {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.uint8)},
    )
    operators = by_result(workload)
    assert operators["r"].outputs[0].dtype == "float32"
    assert operators["a"].dtype == "uint8"
    assert operators["b"].dtype == "float32"


def test_an_activation_with_nothing_to_fuse_into_reads_floats() -> None:
    """A Relu right after a float input reads floats, whatever follows it."""
    workload = read_text(
        """net (float[1, 4] x) => (float[1, 4] y) {
          r = Relu(x)
          q = QuantizeLinear(r, scale, zero)
          y = DequantizeLinear(q, scale, zero)
        }""",
        {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)},
    )
    relu = workload.operators[0]
    assert [one.dtype for one in relu.activations] == ["float32", "int8"]
    assert workload.results == {"r"}


def test_what_is_computed_from_weights_alone_is_a_weight() -> None:
    """A transposed, dequantized weight stays INT8, and no operator transposes it."""
    workload = read_text(
        """net (float[1, 4] x) => (float[1, 3] y) {
          wd = DequantizeLinear(w, scale, zero)
          wt = Transpose<perm = [1, 0]>(wd)
          y = MatMul(x, wt)
        }""",
        {
            "w": np.ones((3, 4), np.int8),
            "scale": np.array(0.1, np.float32),
            "zero": np.array(0, np.int8),
        },
    )
    (product,) = workload.operators
    (weight,) = product.constants
    assert (weight.dtype, weight.shape) == ("int8", (4, 3))
    assert product.macs == 12


def test_a_branch_is_no_constant_though_its_condition_is() -> None:
    """What the graphs inside an If read from outside is no input of the If."""
    workload = read_text(
        """net (float[1, 4] x) => (float[1, 4] y) {
          c = If(flag) <
            then_branch = yes () => (float[1, 4] a) { a = Relu(x) },
            else_branch = no () => (float[1, 4] b) { b = Neg(x) }
          >
          y = Abs(c)
        }""",
        {"flag": np.array(True)},  # noqa: FBT003 - a tensor's content
    )
    assert [one.op_type for one in workload.operators] == ["If", "Abs"]


def test_a_long_chain_of_reshapes_is_followed() -> None:
    """Dtypes pass through as many byte movers as there are, without recursion."""
    length = 1200
    chain = "\n".join(f"v{n + 1} = Identity(v{n})" for n in range(length))
    text = f"chain (float[1, 4] v0) => (float[1, 4] v{length}) {{ {chain} }}"
    graph = parse_graph(model_bytes(text), name="chain")
    assert len(read_workload(graph).operators) == length


def test_live_bytes_agree_with_the_graphs_own_count(float_net: Graph) -> None:
    """On a float graph the peak is the one that the graph room counts."""
    inferred = infer_shapes(float_net)
    live = read_workload(inferred).live_bytes()
    assert live is not None
    assert max(live) == count(inferred).peak_activation_bytes


def test_live_bytes_hold_inputs_and_outputs_at_once(float_net: Graph) -> None:
    """Each operator needs what it reads and makes; what is read no more is gone."""
    picture, planes, pooled = 4 * 3 * 64, 4 * 4 * 64, 4 * 4 * 16
    assert read(float_net).live_bytes() == (
        picture + planes,
        2 * planes,
        2 * planes,
        planes + pooled,
    )


def test_as_int8_quarters_weights_and_keeps_a_wide_bias(float_net: Graph) -> None:
    """Imagined INT8 has byte weights, an int32 bias, and byte activations."""
    workload = read(float_net)
    imagined = workload.as_int8()
    assert imagined.weight_bytes == 4 * 27 + 4 * 4 + 1
    assert imagined.live_bytes() == tuple(
        size // 4 for size in workload.live_bytes() or ()
    )
    assert imagined.operators[0].macs == workload.operators[0].macs


def test_sizes_known_only_at_run_time_are_not_guessed() -> None:
    """A symbolic size leaves the shape open and the memory unknown."""
    workload = read_text("net (float[batch, 4] x) => (float[batch, 4] y) {y = Relu(x)}")
    assert workload.operators[0].outputs[0].shape is None
    assert workload.live_bytes() is None


@pytest.mark.parametrize("call", ["ReduceMean<axes = [2, 3]>(x)", "ReduceSum(x, axes)"])
def test_axes_are_read_from_where_the_opset_has_them(call: str) -> None:
    """Reductions give their axes as an attribute or as a constant input."""
    workload = read_text(
        f"net (float[1, 3, 4, 4] x) => (float[1, 3, 1, 1] y) {{ y = {call} }}",
        {"axes": np.array([2, 3])} if "axes)" in call else None,
    )
    assert workload.operators[0].attributes["axes"] == (2, 3)

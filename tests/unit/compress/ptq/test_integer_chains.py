from __future__ import annotations

import pytest

from skerry.compress.ptq.plan import observable, plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.core.errors import UsageError
from skerry.graph import Graph, parse_graph
from tests import models

WEIGHTS = {
    "w": (4, 4, 1, 1),
    "v": (4, 4, 1, 1),
    "u": (4, 4, 1, 1),
    "square": (4, 4),
    "line": (4,),
}
PICTURE = "float[1, 4, 8, 8]"


def net(body: str, output: str = PICTURE, inputs: str = PICTURE) -> Graph:
    """Prepare a graph that makes `y` of `x`; weights are by name."""
    used = {name: shape for name, shape in WEIGHTS.items() if f", {name}" in body}
    text = f"net ({inputs} x) => ({output} y) {{ {body} }}"
    return prepare(parse_graph(models.model_bytes(text, models.random_weights(used))))


def test_a_residual_between_layers_is_integer() -> None:
    """An Add whose operands are integers and that a layer reads is quantized."""
    plan = plan_quantization(
        net("a = Conv(x, w) b = Conv(a, v) c = Add(a, b) d = Conv(c, u) y = Sin(d)"),
        operators="fused",
    )
    assert plan.nodes == ("a", "b", "c", "d")
    assert set(plan.writes) == {"a", "b", "c", "d"}
    assert set(plan.reads) == {"x"}


def test_an_operator_that_no_layer_reads_stays_float() -> None:
    """Where the chain ends, an operator reads floats: its own pair would be lost."""
    plan = plan_quantization(
        net("a = Conv(x, w) b = Conv(a, v) c = Add(a, b) y = Sin(c)"),
        operators="fused",
    )
    assert plan.nodes == ("a", "b")


def test_an_operator_on_floats_stays_float() -> None:
    """What no layer makes is not rounded for the sake of an addition."""
    plan = plan_quantization(
        net("s = Sin(x) c = Add(s, x) d = Conv(c, u) y = Sin(d)"), operators="fused"
    )
    assert plan.nodes == ("d",)
    assert set(plan.reads) == {"c"}


def test_a_limit_vanishes_into_an_addition() -> None:
    """A Relu behind a residual is part of it: one pair, behind the Relu."""
    plan = plan_quantization(
        net(
            "a = Conv(x, w) b = Conv(a, v) c = Add(a, b) r = Relu(c)"
            " d = Conv(r, u) y = Sin(d)"
        ),
        operators="fused",
    )
    assert plan.outputs["c"] == "r"
    assert "c" not in plan.writes


def test_a_small_float_operand_is_quantized_with_the_rest() -> None:
    """The weights that an attention gives channels do not break the chain."""
    plan = plan_quantization(
        net(
            "a = Conv(x, w) g = GlobalAveragePool(a) h = Conv(g, v)"
            " s = HardSigmoid(h) m = Mul(a, s) e = Conv(m, u) y = Sin(e)"
        ),
        operators="fused",
    )
    assert "m" in plan.nodes
    assert set(plan.reads) == {"x", "s"}
    assert "s" not in plan.nodes


def test_softmax_is_never_rounded_for_onnxruntime() -> None:
    """The small probabilities of an attention would be lost for no gain."""
    plan = plan_quantization(
        net(
            "q = MatMul(x, square) s = Softmax(q) y = MatMul(s, square)",
            "float[2, 4]",
            "float[2, 4]",
        ),
        operators="fused",
    )
    assert plan.nodes == ("q", "y")
    assert "q" not in plan.writes


def test_a_convolution_that_must_write_floats_is_float_on_onnxruntime() -> None:
    """It has no integer convolution with a float result; OpenVINO does."""
    graph = net("a = Conv(x, w) y = Conv(a, v)")
    ort = plan_quantization(graph, operators="fused", runtime="onnxruntime")
    openvino = plan_quantization(graph, operators="fused", runtime="openvino")
    assert ort.nodes == ("a",)
    assert openvino.nodes == ("a", "y")


@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "litert"])
def test_each_range_of_a_plan_is_observed(build: models.Builder, runtime: str) -> None:
    """Whatever stays float, calibration has watched what the plan needs."""
    graph = prepare(parse_graph(build()))
    seen = observable(graph, "fused", runtime)
    for node in graph.nodes:
        keep = frozenset({node.name})
        plan = plan_quantization(
            graph, operators="fused", keep_float=keep, runtime=runtime
        )
        assert {*plan.reads.values(), *plan.writes.values()} <= seen
        assert node.name not in plan.nodes


def test_an_unknown_runtime_is_refused() -> None:
    """Patterns are known by the names of runtimes; the nearest one is named."""
    with pytest.raises(UsageError, match="onxruntime") as caught:
        plan_quantization(
            net("y = Conv(x, w)"), operators="fused", runtime="onxruntime"
        )
    assert "onnxruntime" in caught.value.hint

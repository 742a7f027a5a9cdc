from __future__ import annotations

import pytest

from skerry.compress.ptq.operators import Operators
from skerry.compress.ptq.plan import observable, plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.core.errors import UsageError
from skerry.graph import Graph, parse_graph
from tests import models

WEIGHTS = {
    "w": (4, 4, 1, 1),
    "v": (4, 4, 1, 1),
    "square": (4, 4),
    "line": (4,),
}
PICTURE = "float[1, 4, 4, 4]"


def net(
    body: str, outputs: str = f"{PICTURE} y", inputs: str = f"{PICTURE} x"
) -> Graph:
    """Prepare a graph of operators that stand in a text; weights are by name."""
    used = {name: shape for name, shape in WEIGHTS.items() if f", {name}" in body}
    text = f"net ({inputs}) => ({outputs}) {{ {body} }}"
    return prepare(parse_graph(models.model_bytes(text, models.random_weights(used))))


@pytest.mark.parametrize("operators", ["weights", "all"])
@pytest.mark.parametrize("activation", ["Relu(a)", "Clip(a, zero, six)"])
def test_an_activation_is_fused(operators: Operators, activation: str) -> None:
    """No pair stands between a convolution and the activation that only it feeds."""
    graph = net(
        "zero = Constant<value_float = 0.0>() six = Constant<value_float = 6.0>()"
        f"a = Conv(x, w) b = {activation} y = Conv(b, v)"
    )
    plan = plan_quantization(graph, operators=operators)
    assert plan.writes == {"b": "b"}
    assert plan.reads == {"x": "x"}
    assert plan.outputs == {"a": "b"}


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, w) b = Relu(a) c = Conv(b, v) y = Add(a, c)",
        "a = Conv(x, w) r = ReduceMin<keepdims = 0>(a) b = Clip(x, r) y = Conv(b, v)",
    ],
)
def test_an_activation_with_company_is_not_fused(body: str) -> None:
    """What another operator reads, or what is but a limit, has a pair of its own."""
    plan = plan_quantization(net(body), operators="weights")
    assert plan.writes["a"] == "a"


def test_an_activation_inside_if_is_not_fused() -> None:
    """A Relu in a branch is another graph's: the convolution's own output it is."""
    graph = net(
        "a = Conv(x, w) y = If(flag) <"
        "then_branch = yes () => (float[1, 4, 4, 4] p) { p = Relu(a) },"
        "else_branch = no () => (float[1, 4, 4, 4] q) { q = Identity(x) } >",
        inputs=f"bool flag, {PICTURE} x",
    )
    assert plan_quantization(graph, operators="all").writes == {"a": "a"}


def test_outputs_stay_float() -> None:
    """What the caller gets, fused or carried or written, is never rounded."""
    graph = net(
        "a = Conv(x, w) p = Conv(x, v) q = Relu(p) c = Conv(x, w) r = Transpose(c)",
        outputs=f"{PICTURE} a, {PICTURE} q, {PICTURE} r",
    )
    for operators in ("weights", "all"):
        plan = plan_quantization(graph, operators=operators)
        assert not {"a", "q", "r"} & {*plan.writes, *plan.reads}


def test_carriers_share_the_scale() -> None:
    """MaxPool and Reshape behind a convolution take its scale on; indices do not."""
    graph = net(
        "a = Conv(x, w) b, i = MaxPool<kernel_shape = [2, 2]>(a)"
        " c = Transpose<perm = [0, 1, 3, 2]>(b) y = Conv(c, v) j = Cast<to = 1>(i)",
        outputs="float[1, 4, 3, 3] y, float[1, 4, 3, 3] j",
    )
    plan = plan_quantization(graph, operators="weights")
    assert plan.carries == ("b", "c")
    assert plan.writes == {"a": "a", "b": "a", "c": "a"}


def test_a_float_carrier_is_not_quantized_for_itself() -> None:
    """Behind a float value a carrier stays float, and its reader reads integers."""
    plan = plan_quantization(
        net("b = Transpose<perm = [0, 1, 3, 2]>(x) y = Conv(b, v)"), operators="all"
    )
    assert plan.carries == ()
    assert plan.reads == {"b": "b"}


def test_products_of_matrices_write_integers_only_for_integers() -> None:
    """MatMul keeps a float result for a float reader, a convolution does not."""
    matrices, picture = "float[1, 4] x", "float[1, 4] y"
    alone = net("a = MatMul(x, square) y = Sin(a)", picture, matrices)
    chain = net("a = MatMul(x, square) y = MatMul(a, square)", picture, matrices)
    conv = net("a = Conv(x, w) y = Sin(a)")
    assert not plan_quantization(alone, operators="all").writes
    assert plan_quantization(chain, operators="weights").writes == {"a": "a"}
    assert plan_quantization(conv, operators="weights").writes == {"a": "a"}


def test_what_is_kept_float_is_not_in_the_plan() -> None:
    """Neither it nor what it writes is quantized; a fused activation is split off."""
    graph = net("a = Conv(x, w) b = Relu(a) y = Conv(b, v)")
    first = plan_quantization(graph, operators="all", keep_float=frozenset({"a"}))
    assert "a" not in first.nodes
    assert "x" not in first.reads
    assert "a" not in first.writes
    relu = plan_quantization(graph, operators="weights", keep_float=frozenset({"b"}))
    assert relu.writes == {"a": "a"}
    everything = plan_quantization(
        graph, operators="all", keep_float=frozenset({"a", "b", "y"})
    )
    assert (everything.nodes, everything.reads, everything.writes) == ((), {}, {})


def test_a_carrier_that_is_kept_float_carries_nothing() -> None:
    """A carrier can be named too; its result has no pair then."""
    graph = net("a = Conv(x, w) b = Transpose<perm = [0, 1, 3, 2]>(a) y = Sin(b)")
    plan = plan_quantization(graph, operators="all", keep_float=frozenset({"b"}))
    assert plan.carries == ()
    assert plan.writes == {"a": "a"}


def test_biases_limits_and_scales_are_no_operands() -> None:
    """A bias, a limit or a scale that is computed stays float."""
    matrix = "float[1, 4]"
    gemm = net("y = Gemm(x, square, c)", f"{matrix} y", f"{matrix} x, {matrix} c")
    assert plan_quantization(gemm, operators="all").reads == {"x": "x"}
    clip = net(
        "a = Conv(x, w) b = Sin(a) y = Clip(b, low, high)",
        inputs=f"{PICTURE} x, float low, float high",
    )
    assert plan_quantization(clip, operators="all").reads == {"x": "x", "b": "b"}


def test_two_activations_are_multiplied_only_with_all() -> None:
    """A MatMul without constant weights is arithmetic."""
    square = "float[4, 4]"
    graph = net(
        "a = MatMul(x, square) y = MatMul(a, z)",
        f"{square} y",
        f"{square} x, {square} z",
    )
    assert plan_quantization(graph, operators="weights").nodes == ("a",)
    plan = plan_quantization(graph, operators="all")
    assert plan.nodes == ("a", "y")
    assert set(plan.reads) == {"x", "z"}


@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
@pytest.mark.parametrize("operators", ["weights", "all"])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_each_range_of_a_plan_is_observed(
    build: models.Builder, operators: Operators, kept: int
) -> None:
    """Whatever stays float, calibration has watched what the plan needs."""
    graph = prepare(parse_graph(build()))
    names = plan_quantization(graph, operators=operators).nodes
    for start in range(len(names)):
        keep = frozenset(names[start : start + kept])
        plan = plan_quantization(graph, operators=operators, keep_float=keep)
        needed = {*plan.reads.values(), *plan.writes.values()}
        assert needed <= observable(graph, operators)


def test_a_name_that_is_no_node_is_refused() -> None:
    """A node to keep float that is not there is an error with the nearest name."""
    graph = net("first = Conv(x, w) y = Relu(first)")
    with pytest.raises(UsageError, match="frist") as caught:
        plan_quantization(graph, operators="all", keep_float=frozenset({"frist"}))
    assert "first" in caught.value.hint


def test_nodes_must_be_named() -> None:
    """A graph that was not prepared is a fault of the caller."""
    graph = parse_graph(models.mlp())
    with pytest.raises(ValueError, match="named"):
        plan_quantization(graph, operators="all")

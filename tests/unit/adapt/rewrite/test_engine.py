"""Rules are chosen because an operator does not run, and only where the new ones do."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.operators import read_workload
from skerry.adapt.rewrite import RULES, adapt, rules_for
from skerry.adapt.rewrite.engine import drawn_whole
from skerry.adapt.rewrite.means import MEAN_TILES
from skerry.adapt.rewrite.residence import residence
from skerry.adapt.target_files import load_target
from skerry.core.target import Limit, Take
from skerry.graph import Graph, infer_shapes, parse_graph
from tests.models import Weights, model_bytes
from tests.rewriting import NPU, target_of
from tests.running import random_inputs, run, same_outputs

ETHOS = load_target(NPU)


def net(
    body: str, weights: Weights | None = None, *, opset: int = 20, domains: str = ""
) -> Graph:
    """A net from x [1, 4, 8, 8] to y of the same shape."""
    text = f"net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {{ {body} }}"
    return parse_graph(
        model_bytes(text, weights, opset=opset, domains=domains), name="net"
    )


def kinds(graph: Graph) -> list[str]:
    """The operators, in order."""
    return [node.op_type for node in graph.nodes]


def channels(*numbers: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """One number a channel of a picture."""
    return np.array(numbers, np.float32).reshape(-1, 1, 1)


def test_swish_with_one_beta_a_channel_becomes_mul_and_sigmoid() -> None:
    """The activation that no compiler knows runs on the NPU, and is what it was."""
    beta = channels(0.5, 1, 1.5, -2)
    graph = net(
        "a = Relu(x) y = com.example.SwishBeta(a, beta)",
        {"beta": beta},
        domains=', "com.example": 1',
    )
    adapted = adapt(graph, ETHOS)
    assert kinds(adapted.graph) == ["Relu", "Mul", "Sigmoid", "Mul"]
    assert adapted.left == ()
    (applied,) = adapted.applied
    assert applied.op_type == "SwishBeta"
    assert applied.rules == ("Swish-β written out",)
    assert applied.reason == "of com.example, not of ONNX itself"
    assert not applied.is_approximation
    x = random_inputs(graph)["x"]
    a = np.maximum(x, 0)
    y = run(adapted.graph, {"x": x})["y"]
    np.testing.assert_allclose(y, a / (1 + np.exp(-beta * a)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("a = Relu(x) y = Mish(a)", {}),
        ("y = LayerNormalization(x, s, s)", {"s": np.ones(8, np.float32)}),
        ("y = InstanceNormalization(x, s, s)", {"s": np.ones(4, np.float32)}),
        ("y = Celu(x)", {}),
        ("y = LogSoftmax<axis = 1>(x)", {}),
        ("y = HardSwish(x)", {}),
        (
            "y = Conv<dilations = [30, 30], pads = [30, 30, 30, 30]>(x, w)",
            {"w": np.ones((4, 4, 3, 3), np.float32)},
        ),
    ],
    ids=lambda one: one.split("= ")[-1].split("(")[0] if isinstance(one, str) else "",
)
def test_rules_build_on_each_other_until_all_runs(body: str, weights: Weights) -> None:
    """What a replacement has that does not run is replaced in turn."""
    graph = net(body, weights)
    adapted = adapt(graph, ETHOS)
    assert adapted.left == ()
    after = residence(adapted.graph, ETHOS)
    assert after.operators == after.of
    assert after.subgraphs == 1
    assert same_outputs(graph, adapted.graph, atol=1e-3)


@pytest.mark.parametrize(
    "body",
    [
        "a = Relu(x) y = com.example.Neg(a)",
        (
            "a = Transpose<perm = [0, 2, 3, 1]>(x) b = com.example.Relu(a) "
            "y = Transpose<perm = [0, 3, 1, 2]>(b)"
        ),
        "c = com.example.Conv(x, w) y = BatchNormalization(c, s, s, s, s)",
    ],
    ids=["alone", "between transposes", "before a normalization"],
)
def test_operators_of_others_are_not_taken_for_those_of_onnx(body: str) -> None:
    """A vendor's Neg may be anything: nothing equal to it is known."""
    s = np.ones(4, np.float32)
    weights = {"w": np.ones((4, 4, 1, 1), np.float32), "s": s}
    graph = net(body, weights, domains=', "com.example": 1')
    adapted = adapt(graph, target_of("Relu", "Mul", "Add", "Conv"))
    foreign = [node.op_type for node in adapted.graph.nodes if node.domain]
    assert foreign == [node.op_type for node in graph.nodes if node.domain]


def test_what_runs_is_left_alone() -> None:
    """A model that runs whole is given back as it is."""
    graph = net("a = Relu(x) s = Sigmoid(a) y = Mul(a, s)")
    adapted = adapt(graph, ETHOS)
    assert adapted.graph is graph
    assert adapted.applied == ()


def test_a_replacement_that_does_not_run_either_is_not_made() -> None:
    """Where Exp is missing, Softplus stays, and its line says what was tried."""
    graph = net("y = Softplus(x)")
    adapted = adapt(graph, target_of("Relu"), max_error=0)
    assert adapted.graph is graph
    (left,) = adapted.left
    assert (left.node, left.op_type, left.shape) == ("y", "Softplus", "1×4×8×8")
    assert left.reason == "not in the operator table"
    assert "Softplus written out" in left.advice


def test_an_operator_without_a_rule_names_itself() -> None:
    """The node, its shape and what to try are told."""
    (left,) = adapt(net("y = Sin(x)"), ETHOS).left
    assert left.advice.startswith("No rule replaces Sin.")


def test_unknown_sizes_are_what_to_fix_first() -> None:
    """A model with open shapes is told to fix them."""
    text = "net (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }"
    adapted = adapt(parse_graph(model_bytes(text)), ETHOS)
    assert [one.advice for one in adapted.left] == [
        "Fix the sizes of the model's inputs."
    ]


def test_an_approximation_is_made_only_within_the_error_allowed() -> None:
    """Without Tanh itself it comes in pieces: more of them for a smaller error."""
    board = target_of("Relu", "Sub", "Mul", "Add")
    graph = net("y = Tanh(x)")
    coarse, fine = (adapt(graph, board, max_error=e) for e in (0.1, 0.01))
    assert coarse.applied[0].is_approximation
    assert len(coarse.graph.nodes) < len(fine.graph.nodes)
    for adapted, error in ((coarse, 0.1), (fine, 0.01)):
        inputs = random_inputs(graph)
        off = run(graph, inputs)["y"] - run(adapted.graph, inputs)["y"]
        assert np.abs(off).max() <= error
    assert adapt(graph, board, max_error=0).applied == ()


def test_the_hard_form_is_taken_where_its_error_is_allowed() -> None:
    """With Clip but no Sigmoid, and a wide allowance, Swish is hard-swish."""
    board = target_of("Mul", "Add", "Clip")
    graph = net("s = Sigmoid(x) y = Mul(x, s)")
    adapted = adapt(graph, board, max_error=0.15)
    assert kinds(adapted.graph) == ["Mul", "Add", "Clip", "Mul"]


def test_a_transpose_that_an_inverse_follows_disappears() -> None:
    """Two transposes with an activation between leave the activation."""
    graph = net(
        "a = Transpose<perm = [0, 2, 3, 1]>(x) b = Relu(a) "
        "y = Transpose<perm = [0, 3, 1, 2]>(b)"
    )
    adapted = adapt(graph, target_of("Relu"))
    assert kinds(adapted.graph) == ["Relu"]
    assert same_outputs(graph, adapted.graph)


def test_two_transposes_alone_leave_the_input_itself() -> None:
    """A replacement may be nothing at all: the output keeps its name."""
    graph = net(
        "r = Relu(x) a = Transpose<perm = [0, 2, 3, 1]>(r) "
        "y = Transpose<perm = [0, 3, 1, 2]>(a)"
    )
    adapted = adapt(graph, target_of("Relu"))
    assert adapted.left == ()
    assert [one.name for one in adapted.graph.outputs] == ["y"]
    assert same_outputs(graph, adapted.graph)


def test_the_documented_mean_of_the_edge_tpu_is_tiled() -> None:
    """A mean over 1×256×128×3, at most 8,192 numbers at once: in four tiles."""
    text = """net (float[1, 256, 128, 3] x) => (float[1, 1, 1, 3] y)
        { y = ReduceMean<axes = [1, 2]>(x) }"""
    graph = parse_graph(model_bytes(text))
    limit = Limit(quantity="reduced", at_most=8192, take=Take.PRODUCT)
    board = target_of("ReduceMean", "Slice", "Add", "Mul", limits=[limit])
    by_axis = {"mean, one dimension at a time"}
    tiling = [rule for rule in RULES if rule.name not in by_axis]
    adapted = adapt(graph, board, rules=tiling)
    assert kinds(adapted.graph).count("ReduceMean") == 4
    assert adapted.left == ()
    assert same_outputs(graph, adapted.graph)


def test_the_documented_transpose_of_the_rknn_is_tiled() -> None:
    """Transpose 1×64×64×40 where at most 8,192 pixels are taken: in tiles."""
    text = """net (float[1, 8, 128, 96] x) => (float[1, 128, 96, 8] y)
        { y = Transpose<perm = [0, 2, 3, 1]>(x) }"""
    graph = parse_graph(model_bytes(text))
    limit = Limit(quantity="rows", at_most=128 * 96 * 2)
    board = target_of("Transpose", "Slice", "Concat", limits=[limit])
    adapted = adapt(graph, board)
    assert adapted.left == ()
    assert same_outputs(graph, adapted.graph)


def test_six_dimensions_become_four() -> None:
    """DepthToSpace, whose transpose has six dimensions, runs where four are taken."""
    text = """net (float[1, 12, 4, 5] x) => (float[1, 3, 8, 10] y)
        { y = DepthToSpace<blocksize = 2>(x) }"""
    graph = parse_graph(model_bytes(text))
    adapted = adapt(graph, target_of("Transpose", max_rank=4))
    ranks = [
        len(tensor.shape or ())
        for one in read_workload(infer_shapes(adapted.graph)).operators
        for tensor in one.activations
        if one.op_type == "Transpose"
    ]
    assert ranks
    assert max(ranks) == 4
    assert same_outputs(graph, adapted.graph)


def test_a_quantized_activation_becomes_a_table_where_gather_runs() -> None:
    """Between integers, Mish is a table; elsewhere no scale would be known."""
    body = """net (int8[1, 8] x) => (int8[1, 8] y) {
        a = DequantizeLinear(x, s, p) b = Mish(a) y = QuantizeLinear(b, s, p) }"""
    weights = {"s": np.array(0.05, np.float32), "p": np.array(3, np.int8)}
    graph = parse_graph(model_bytes(body, weights, opset=19))
    board = target_of("Cast", "Gather", dtypes=["int8", "int32"])
    adapted = adapt(graph, board)
    assert kinds(adapted.graph) == ["Cast", "Gather"]
    x = np.arange(-4, 4, dtype=np.int8).reshape(1, 8) * 30
    got, expected = (run(one, {"x": x})["y"] for one in (adapted.graph, graph))
    np.testing.assert_array_equal(got, expected)
    without = adapt(graph, target_of("Tanh", "Softplus", "Mul", dtypes=["int8"]))
    assert without.graph is graph


def test_a_graph_in_an_old_opset_is_brought_up_to_the_operators_needed() -> None:
    """Gelu came with opset 20: a model of 17 is fused all the same."""
    numbers = {"root": 2**0.5, "one": 1, "half": 0.5}
    graph = net(
        "a = Div(x, root) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",
        {name: np.array(n, np.float32) for name, n in numbers.items()},
        opset=17,
    )
    adapted = adapt(graph, ETHOS)
    assert kinds(adapted.graph) == ["Gelu"]
    assert same_outputs(graph, adapted.graph)


def test_names_stay_unique_however_often_a_rule_is_used() -> None:
    """Two places of one rule do not share names, and the file is valid."""
    graph = net("a = Mish(x) b = Mish(a) y = Mish(b)")
    adapted = adapt(graph, ETHOS)
    again = parse_graph(adapted.graph.to_bytes())
    names = [node.name for node in again.nodes]
    assert len(set(names)) == len(names)
    assert len(adapted.applied) == 3


def test_rules_for_names_what_could_help_an_operator() -> None:
    """None for what runs, all that name it for what does not."""
    runs, not_run = read_workload(
        infer_shapes(net("a = Relu(x) y = Mish(a)"))
    ).operators
    npu = ETHOS.processors[0]
    assert rules_for(runs, npu) == ()
    assert "Mish written out" in [one.name for one in rules_for(not_run, npu)]


def test_only_what_is_named_is_replaced() -> None:
    """The rest is left as it is, though it does not run either."""
    graph = net("a = Mish(x) b = Relu(a) y = HardSigmoid(b)")
    adapted = adapt(graph, ETHOS, only=frozenset({"Mish"}))
    assert [one.op_type for one in adapted.applied] == ["Mish"]
    assert [one.op_type for one in adapted.left] == ["HardSigmoid"]


def test_one_rule_says_what_it_would_draw() -> None:
    """The first replacement that runs whole, for each operator that is refused."""
    text = """net (float[1, 4, 128, 64] x) => (float[1, 4, 1, 1] y) {
      y = ReduceMean<axes = [2, 3]>(x) }"""
    graph = parse_graph(model_bytes(text, opset=13), name="net")
    small = Limit(quantity="reduced", take=Take.PRODUCT, at_most=4096)
    target = target_of("ReduceMean", "Slice", "Sum", "Add", "Mul", limits=(small,))
    ((node, drawn),) = drawn_whole(graph, target, MEAN_TILES)
    assert node == "y"
    assert kinds(drawn).count("Slice") == 2
    assert kinds(graph) == ["ReduceMean"]
    assert list(drawn_whole(graph, load_target("x86-64"), MEAN_TILES)) == []

from __future__ import annotations

import pytest

from skerry.graph import (
    Graph,
    anything,
    chain,
    constant,
    find,
    op,
    parse_graph,
    sole_use,
)
from tests import models

X = anything("x")
HARD_SWISH = op(
    "Div",
    op("Mul", X, op("Clip", op("Add", X, constant(3)), constant(0), constant(6))),
    constant(6),
)


def parsed(body: str, outputs: str = "float[4] y") -> Graph:
    """A graph of one input x from the text of its nodes."""
    weights = "<float one = {1}, float three = {3}, float[2] mixed = {3, 4}>"
    return parse_graph(
        models.model_bytes(f"net (float[4] x) => ({outputs}) {weights} {{ {body} }}")
    )


def kinds(graph: Graph, pattern: op) -> list[list[str]]:
    """The operators of each match."""
    return [[node.op_type for node in match.nodes] for match in find(graph, pattern)]


def test_chains() -> None:
    """Each convolution followed by a batch norm is found, in order."""
    graph = parse_graph(models.conv_net())
    found = find(graph, chain("Conv", "BatchNormalization"))
    assert [[node.outputs[0].name for node in match.nodes] for match in found] == [
        ["stem", "stem_n"],
        ["depth", "depth_n"],
    ]
    assert kinds(graph, chain("Conv", "BatchNormalization", "Relu")) == [
        ["Conv", "BatchNormalization", "Relu"]
    ]
    assert find(graph, chain("Relu", "BatchNormalization")) == ()


def test_hard_swish() -> None:
    """An expression that reads a value twice is found, and the value named."""
    (match,) = find(parse_graph(models.conv_net()), HARD_SWISH)
    assert [node.op_type for node in match.nodes] == ["Add", "Clip", "Mul", "Div"]
    assert match.values["x"].name == "depth_n"


@pytest.mark.parametrize(
    "body",
    ["a = Add(x, three) y = Relu(a)", "a = Add(three, x) y = Relu(a)"],
)
def test_operands_in_either_order(body: str) -> None:
    """Add and Mul match whichever way round their operands stand."""
    assert kinds(parsed(body), op("Relu", op("Add", X, constant(3)))) == [
        ["Add", "Relu"]
    ]


def test_order_matters_elsewhere() -> None:
    """Sub does not match with its operands swapped."""
    assert find(parsed("y = Sub(three, x)"), op("Sub", X, constant(3))) == ()


def test_both_orders_are_tried_at_each_level() -> None:
    """A wrong first choice deep inside is taken back."""
    pattern = op("Mul", op("Add", X, anything("z")), op("Relu", anything("z")))
    graph = parsed("a = Add(x, three) r = Relu(x) y = Mul(r, a)")
    (match,) = find(graph, pattern)
    assert (match.values["x"].name, match.values["z"].name) == ("three", "x")


@pytest.mark.parametrize(
    ("operand", "number", "is_found"),
    [
        ("three", 3, True),
        ("three", None, True),
        ("three", 3.1, False),
        ("one", 3, False),
        ("x", None, False),
    ],
)
def test_constants(operand: str, number: float | None, *, is_found: bool) -> None:
    """A constant matches its number, or any; a computed value matches none."""
    pattern = op("Sub", X, constant(number, name="c"))
    found = find(parsed(f"y = Sub(x, {operand})"), pattern)
    assert bool(found) is is_found
    if found:
        assert found[0].values["c"].name == operand


def test_constant_of_several_numbers() -> None:
    """All elements must be the number."""
    graph = parsed("y = Concat<axis = 0>(x, mixed)", "float[6] y")
    assert find(graph, op("Concat", X, constant(3))) == ()


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("a = Exp(x) b = Relu(a) y = Add(a, b)", "float[4] y"),
        ("a = Exp(x) y = Relu(a)", "float[4] y, float[4] a"),
    ],
)
def test_what_others_read_is_no_match(body: str, outputs: str) -> None:
    """A value inside that another node reads, or that is an output, is kept."""
    assert find(parsed(body, outputs), chain("Exp", "Relu")) == ()


def test_what_a_branch_reads_is_no_match() -> None:
    """A reader inside an If counts as a reader."""
    graph = parse_graph(
        models.model_bytes(
            """net (bool flag, float[4] x) => (float[4] y, float[4] z) {
              a = Exp(x)
              z = Relu(a)
              y = If(flag) <
                then_branch = yes () => (float[4] t) { t = Neg(a) },
                else_branch = no () => (float[4] e) { e = Neg(x) }
              >
            }"""
        )
    )
    assert find(graph, chain("Exp", "Relu")) == ()


def test_no_node_is_in_two_matches() -> None:
    """Of overlapping places the earlier is taken."""
    graph = parsed("a = Relu(x) b = Relu(a) c = Relu(b) y = Relu(c)")
    found = find(graph, chain("Relu", "Relu"))
    assert [[node.outputs[0].name for node in match.nodes] for match in found] == [
        ["a", "b"],
        ["c", "y"],
    ]


def test_custom_operators_do_not_match() -> None:
    """An operator of another domain is not the standard's of the same name."""
    content = models.model_bytes(
        "net (float[4] x) => (float[4] y) {y = com.example.Relu(x)}",
        domains=', "com.example": 1',
    )
    assert find(parse_graph(content), op("Relu")) == ()


def test_a_value_read_once_has_one_use() -> None:
    """Twice by one node, by nobody, or by the caller too: that is another number."""
    body = "unread = Abs(x) a = Neg(x) b = Mul(a, a) y = Sub(x, b) z = Relu(y)"
    graph = parsed(body, "float[4] y, float[4] z")
    values = {value.name: value for value in graph.values()}
    node, place = sole_use(values["b"]) or (None, 0)
    assert (node and node.op_type, place) == ("Sub", 1)
    for name in ("a", "unread", "x", "y"):
        assert sole_use(values[name]) is None

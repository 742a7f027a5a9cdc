"""Division: by a constant as a product, by something positive by way of logarithms.

x / c = x · (1/c), and a / b = a · exp(−ln b) for b > 0: identities of real numbers. The
second is what a processor with Exp and Log as look-up tables can do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skerry.adapt.rewrite.bounds import UNIT_ROUNDOFF, of_result, rounding
from skerry.adapt.rewrite.rule import Replacement, Rule, Site
from skerry.graph import Graph, Node, Value

LOGARITHM_ERROR = 2.0**-12
"""Relative error of exp(k ln x), |k| ≤ 1: that of ln, at most 2⁻¹⁹ (1 + 88), is that of
the exponent, and exp makes it relative."""

_NEVER_NEGATIVE = {
    "Abs": 0,
    "Exp": 1,
    "Relu": 0,
    "Sigmoid": 1,
    "Softmax": 1,
    "Softplus": 1,
}
_KEEP_SIGN = frozenset(
    {"Identity", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Sqrt"}
)


def _by_constant(site: Site) -> Iterator[Replacement]:
    divisor = site.constant(1)
    if divisor is None or divisor.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        factor = (1 / divisor.astype(np.float64)).astype(divisor.dtype)
    tiny = np.finfo(divisor.dtype).tiny
    if not (np.isfinite(factor).all() and (np.abs(factor) >= tiny).all()):
        return
    draft = site.draft()
    made = draft.op("Mul", site.read(draft, 0), draft.constant(factor))
    # One rounding each of the quotient, of the reciprocal and of the product.
    yield site.to(draft, made, bound=rounding(4 * UNIT_ROUNDOFF, of_result))


def _by_positive(site: Site) -> Iterator[Replacement]:
    if not is_positive(site.graph, site.node.inputs[1]):
        return
    draft = site.draft()
    logarithm = draft.op("Log", site.read(draft, 1))
    inverse = draft.op("Exp", draft.negative(logarithm))
    made = draft.op("Mul", site.read(draft, 0), inverse)
    yield site.to(draft, made, bound=rounding(LOGARITHM_ERROR, of_result))


def _reciprocal(site: Site) -> Iterator[Replacement]:
    if not is_positive(site.graph, site.node.inputs[0]):
        return
    draft = site.draft()
    logarithm = draft.op("Log", site.read(draft, 0))
    made = draft.op("Exp", draft.negative(logarithm))
    yield site.to(draft, made, bound=rounding(LOGARITHM_ERROR, of_result))


def is_positive(graph: Graph, value: Value | None, *, depth: int = 6) -> bool:
    """Whether a value is known to be above zero, by how it is made."""
    return _sign(graph, value, depth) > 0


def _sign(graph: Graph, value: Value | None, depth: int) -> int:
    """Find 1 where all is above zero, 0 where it may be zero too, −1 if unknown."""
    array = graph.constant(value)
    if array is not None:
        return 1 if (array > 0).all() else 0 if (array >= 0).all() else -1
    node = None if value is None else value.producer()
    if node is None or node.domain or depth == 0:
        return -1
    if node.op_type in _NEVER_NEGATIVE:
        return _NEVER_NEGATIVE[node.op_type]
    return _sign_kept(graph, node, depth - 1)


def _sign_kept(graph: Graph, node: Node, depth: int) -> int:
    """The sign of a result that depends on those of the operands."""
    inputs = tuple(node.inputs)
    exponent = graph.constant(inputs[1]) if node.op_type == "Pow" else None
    is_square = node.op_type == "Mul" and inputs[0] is inputs[1]
    if is_square or (exponent is not None and (exponent == 2).all()):
        return 0
    signs = [_sign(graph, one, depth) for one in inputs[:2]]
    found = -1
    if node.op_type == "Add":
        found = max(signs) if min(signs) >= 0 else -1
    elif node.op_type == "Mul":
        found = min(signs)
    elif node.op_type in _KEEP_SIGN:
        found = signs[0]
    return found


DIVISION_BY_CONSTANT = Rule(
    name="division by a constant",
    replaces=frozenset({"Div"}),
    advice="Replace Div by a constant with Mul by its reciprocal",
    source="x / c = x · (1/c)",
    draw=_by_constant,
)
DIVISION = Rule(
    name="division by a positive",
    replaces=frozenset({"Div"}),
    advice="Replace Div by something positive with Mul, Exp and Log",
    source="a / b = a · exp(−ln b) for b > 0",
    draw=_by_positive,
)
RECIPROCAL = Rule(
    name="reciprocal of a positive",
    replaces=frozenset({"Reciprocal"}),
    advice="Replace Reciprocal of something positive with Exp and Log",
    source="1 / b = exp(−ln b) for b > 0",
    draw=_reciprocal,
)

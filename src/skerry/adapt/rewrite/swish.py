"""Swish-β, x · σ(βx), with one β or one a channel; SiLU is β = 1, QuickGelu β = 1.702.

P. Ramachandran, B. Zoph, Q. Le, "Searching for Activation Functions", arXiv:1710.05941.
Where a processor has Mul and Sigmoid, the definition itself is the replacement. Where
it has no Sigmoid, the hard form (A. Howard et al., "Searching for MobileNetV3", ICCV
2019, section 5.2) puts clip(t/6 + ½, 0, 1) in place of σ(t). With t = βx the error is
|t| · |σ(t) − clip(t/6 + ½, 0, 1)| / |β|; it is even in t; for t ≥ 3 it is t/(1 + eᵗ),
which falls, and below 3 it is smaller than there: at most 3/(1 + e³) / |β|.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from skerry.adapt.rewrite.bounds import (
    FUNCTION_ERROR,
    approximation,
    of_peak,
    rounding,
)
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site
from skerry.core.seams import Array
from skerry.graph import Node, Value, anything, constant, op

HARD_ERROR = 3 / (1 + math.exp(3))
"""The largest |t| · |σ(t) − clip(t/6 + ½, 0, 1)|."""

QUICK_GELU_BETA = 1.702
NAMES = frozenset({"QuickGelu", "SiLU", "Silu", "Swish", "SwishBeta", "swish"})
_ONE = np.ones((), np.float32)

X = anything("x")
PATTERNS = (
    op("Mul", X, op("Sigmoid", op("Mul", X, constant(name="beta")))),
    op("Mul", X, op("Sigmoid", X)),
)


def _definition(site: Site) -> Iterator[Replacement]:
    draft = site.draft()
    x, beta = site.read(draft, 0), _operand(site, draft)
    if beta is None:
        return
    scaled = x if _is_one(_number(site)) else draft.op("Mul", x, beta)
    made = draft.op("Mul", x, draft.op("Sigmoid", scaled))
    yield site.to(draft, made, bound=rounding(4 * FUNCTION_ERROR, of_peak))


def _hard(site: Site) -> Iterator[Replacement]:
    for x, beta, root in swishes(site):
        draft = site.draft()
        yield from _draw_hard(site, draft, draft.read(x), beta, root)


def swishes(site: Site) -> Iterator[tuple[Value, Array, Node]]:
    """Where a site is a Swish with a constant β: its input, its β, its last node.

    An operator of that name, or one written out around a Sigmoid. No β is zero.
    """
    found: list[tuple[Value | None, Array | None, Node]] = []
    if site.node.op_type in NAMES:
        found.append((site.node.inputs[0], _number(site), site.node))
    for pattern in PATTERNS if site.node.op_type == "Sigmoid" else ():
        for match in site.matches(pattern):
            given = match.values.get("beta")
            beta = _ONE if given is None else site.graph.constant(given)
            found.append((match.values["x"], beta, match.nodes[-1]))
    for x, beta, root in found:
        if x is not None and beta is not None and beta.all() and beta.size:
            yield x, beta, root


def _draw_hard(
    site: Site, draft: Draft, x: Value, beta: Array, root: Node
) -> Iterator[Replacement]:
    least = float(np.abs(beta).min())
    slope = draft.constant((beta / 6).astype(beta.dtype))
    ramp = draft.op("Add", draft.op("Mul", x, slope), 0.5)
    gate = draft.op("Clip", ramp, 0.0, 1.0)
    bound = approximation(HARD_ERROR / least, of="3 / (1 + e³) / |β|")
    made = draft.op("Mul", x, gate)
    yield site.to(draft, made, bound=bound, root=root)


def _number(site: Site) -> Array | None:
    """The constant β of a Swish operator; None where it varies."""
    if site.has(1):
        return site.constant(1)
    given = QUICK_GELU_BETA if site.node.op_type == "QuickGelu" else 1.0
    for name in ("alpha", "beta"):
        given = site.attribute(name, given)
    return np.asarray(given, np.float32)


def _operand(site: Site, draft: Draft) -> Value | None:
    if site.has(1):
        return site.read(draft, 1)
    beta = _number(site)
    return None if beta is None else draft.constant(beta)


def _is_one(beta: Array | None) -> bool:
    return beta is not None and bool((beta == 1).all())


SWISH = Rule(
    name="Swish-β written out",
    replaces=NAMES,
    advice="Write Swish out as Mul and Sigmoid",
    source="arXiv:1710.05941, section 4",
    draw=_definition,
)
HARD_SWISH_FORM = Rule(
    name="Swish-β, hard form",
    replaces=NAMES | {"Sigmoid"},
    advice="Replace Swish by its hard form of Mul, Add and Clip",
    source="arXiv:1905.02244, section 5.2",
    draw=_hard,
)

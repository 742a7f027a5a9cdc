"""GELU in its forms, and forms near it.

D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415. The exact form
is ½ x (1 + erf(x/√2)); the other one ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), which is
x σ(2 √(2/π) (x + 0.044715 x³)) as ½ (1 + tanh z) = σ(2z). A third is x σ(1.702 x).

The distances of the second and the third from the first are at most `TANH_ERROR` and
`SIGMOID_ERROR`: the difference of two functions of slope at most L was computed on a
grid of step h up to |x| = 12, where both differ from max(x, 0) by less than 10⁻⁸, and
between two points of the grid it grows by at most L h (the unit tests repeat it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from skerry.adapt.rewrite.bounds import (
    FUNCTION_ERROR,
    approximation,
    of_peak,
    rounding,
)
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site
from skerry.graph import Node, Value, anything, constant, op
from skerry.graph.match import Op

TANH_ERROR = 4.8e-4
SIGMOID_ERROR = 0.0205
CUBIC = 0.044715
SLOPE = math.sqrt(2 / math.pi)

NAMES = frozenset({"FastGelu", "Gelu"})
EQUAL = rounding(8 * FUNCTION_ERROR, of_peak)

X = anything("x")
_ERRORS = (
    op("Add", op("Erf", op("Div", X, constant(math.sqrt(2)))), constant(1)),
    op("Add", op("Erf", op("Mul", X, constant(1 / math.sqrt(2)))), constant(1)),
)
PATTERNS: tuple[Op, ...] = tuple(
    pattern
    for error in _ERRORS
    for pattern in (
        op("Mul", op("Mul", X, error), constant(0.5)),
        op("Mul", op("Mul", X, constant(0.5)), error),
        op("Mul", X, op("Mul", error, constant(0.5))),
    )
)
"""How exporters write the exact form."""


def _is_tanh_form(site: Site) -> bool:
    is_fast = site.node.op_type == "FastGelu"
    return is_fast or site.attribute("approximate", "none") == "tanh"


def _definition(site: Site) -> Iterator[Replacement]:
    if site.node.op_type not in NAMES or site.has(1):
        return
    is_near = _is_tanh_form(site)
    for form in (_sigmoid_of_cubic, _tanh_of_cubic) if is_near else (_exact,):
        draft = site.draft()
        yield site.to(draft, form(draft, site.read(draft, 0)), bound=EQUAL)


def _exact(draft: Draft, x: Value) -> Value:
    error = draft.op("Erf", draft.op("Mul", x, 1 / math.sqrt(2)))
    return draft.op("Mul", draft.op("Mul", x, 0.5), draft.op("Add", error, 1.0))


def _tanh_of_cubic(draft: Draft, x: Value) -> Value:
    bent = draft.op("Tanh", _cubic(draft, x, SLOPE))
    return draft.op("Mul", draft.op("Mul", x, 0.5), draft.op("Add", bent, 1.0))


def _sigmoid_of_cubic(draft: Draft, x: Value) -> Value:
    return draft.op("Mul", x, draft.op("Sigmoid", _cubic(draft, x, 2 * SLOPE)))


def _cubic(draft: Draft, x: Value, slope: float) -> Value:
    """Compute slope · x · (1 + 0.044715 x²)."""
    square = draft.op("Mul", draft.op("Mul", x, x), slope * CUBIC)
    return draft.op("Mul", x, draft.op("Add", square, slope))


def _near(site: Site) -> Iterator[Replacement]:
    """Approximate the exact form, as an operator or written out around Erf."""
    for x, root in exact_forms(site):
        for form, error, words in (
            (_sigmoid_of_cubic, TANH_ERROR, "GELU by a cubic in tanh"),
            (_tanh_of_cubic, TANH_ERROR, "GELU by a cubic in tanh"),
            (_quick, SIGMOID_ERROR, "GELU by a sigmoid"),
        ):
            draft = site.draft()
            bound = approximation(error, of=words)
            yield site.to(draft, form(draft, draft.read(x)), bound=bound, root=root)


def _quick(draft: Draft, x: Value) -> Value:
    return draft.op("Mul", x, draft.op("Sigmoid", draft.op("Mul", x, 1.702)))


def exact_forms(site: Site) -> Iterator[tuple[Value, Node]]:
    """Where a site is an exact GELU: what it reads, and the node of its result."""
    first = site.node.inputs[0] if site.node.inputs else None
    if site.node.op_type in NAMES:
        if first is not None and not _is_tanh_form(site) and not site.has(1):
            yield first, site.node
        return
    for pattern in PATTERNS:
        for found in site.matches(pattern):
            yield found.values["x"], found.nodes[-1]


def _fuse(site: Site) -> Iterator[Replacement]:
    for x, root in exact_forms(site):
        if root is not site.node or site.node.op_type not in NAMES:
            draft = site.draft()
            made = draft.op("Gelu", draft.read(x))
            yield site.to(draft, made, bound=EQUAL, root=root)


GELU = Rule(
    name="GELU written out",
    replaces=NAMES,
    advice="Write Gelu out with Erf, Tanh or Sigmoid",
    source="arXiv:1606.08415, section 2",
    draw=_definition,
)
GELU_FUSION = Rule(
    name="GELU fused",
    replaces=frozenset({"Add", "Div", "Erf", "Mul"}),
    advice="Fuse Erf and the operators around it into Gelu",
    source="ONNX standard, Gelu",
    draw=_fuse,
    opset=20,
)
GELU_NEAR = Rule(
    name="GELU without erf",
    replaces=NAMES | {"Erf"},
    advice="Replace the exact GELU by its form with Tanh or Sigmoid",
    source="arXiv:1606.08415, section 2",
    draw=_near,
)

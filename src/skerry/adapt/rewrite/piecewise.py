"""Activation functions in straight pieces, where a processor has no curve.

Linear interpolation between knots h apart is off by at most h²/8 · max|f″| (C. de Boor,
"A Practical Guide to Splines", revised edition, Springer 2001, chapter III). Outside of
the knots the function has gone straight but for `tail`. The pieces are drawn as
y₀ + Σ dᵢ max(x − kᵢ, 0): additions, products with constants, and Relu.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from skerry.adapt.rewrite.bounds import Bound, approximation
from skerry.adapt.rewrite.gelu import exact_forms
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site
from skerry.adapt.rewrite.swish import swishes
from skerry.core.seams import Array
from skerry.graph import Node, Value

PIECES = (8, 12, 16, 24, 32, 48, 64)
"""How many pieces, in the order in which they are tried: few, then exact."""

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A function that goes straight on both sides, flat on the left.

    Attributes:
        function: In float64.
        bend: The largest |f″|.
        reach: The knots lie from −reach to reach.
        slope: Of the line that it goes along on the right.
        tail: The most that f(x) − slope · max(x, 0) still changes beyond the knots.
        words: What the second derivative is, and where it is largest.
    """

    function: Callable[[Array], Array]
    bend: float
    reach: float
    slope: float
    tail: float
    words: str

    def pieces(self, count: int) -> tuple[Array, Array, float]:
        """The knots, the change of slope at each, and the value left of them."""
        knots = np.linspace(-self.reach, self.reach, count + 1)
        values = self.function(knots)
        slopes = [0.0, *np.diff(values) / np.diff(knots), self.slope]
        return knots, np.diff(slopes), float(values[0])

    def error(self, count: int) -> float:
        """The largest distance of that many pieces from the function."""
        step = 2 * self.reach / count
        return max(step**2 / 8 * self.bend, self.tail)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


CURVES = {
    "Sigmoid": Curve(
        function=_sigmoid,
        bend=1 / (6 * math.sqrt(3)),
        reach=8.0,
        slope=0.0,
        tail=1 / (1 + math.exp(8)),
        words="σ″ = σ (1 − σ) (1 − 2σ), largest at σ = ½ ± 1/√12",
    ),
    "Tanh": Curve(
        function=np.tanh,
        bend=4 / (3 * math.sqrt(3)),
        reach=4.0,
        slope=0.0,
        tail=1 - math.tanh(4),
        words="tanh″ = −2 tanh (1 − tanh²), largest at tanh = 1/√3",
    ),
    "Erf": Curve(
        function=_erf,
        bend=4 / math.sqrt(2 * math.pi * math.e),
        reach=3.0,
        slope=0.0,
        tail=1 - math.erf(3),
        words="erf″ = −4x/√π · exp(−x²), largest at x = 1/√2",
    ),
    "Softplus": Curve(
        function=_softplus,
        bend=0.25,
        reach=8.0,
        slope=1.0,
        tail=math.log1p(math.exp(-8)),
        words="σ (1 − σ), largest at 0",
    ),
    "Swish": Curve(
        function=lambda x: x * _sigmoid(x),
        bend=0.5,
        reach=10.0,
        slope=1.0,
        tail=10 / (1 + math.exp(10)),
        words="σ (1 − σ) (2 + x (1 − 2σ)), largest at 0",
    ),
    "Mish": Curve(
        function=lambda x: x * np.tanh(_softplus(x)),
        bend=0.66,
        reach=10.0,
        slope=1.0,
        tail=1e-3,
        words="largest near 0, where it is 0.64",
    ),
    "Gelu": Curve(
        function=lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
        bend=math.sqrt(2 / math.pi),
        reach=4.0,
        slope=1.0,
        tail=4 * 0.5 * math.erfc(4 / math.sqrt(2)),
        words="(2 − x²) φ(x), largest at 0",
    ),
}


def _draw(site: Site) -> Iterator[Replacement]:
    kind = site.node.op_type
    x = site.node.inputs[0]
    if kind == "Sigmoid" or kind not in CURVES:
        for source, beta, root in swishes(site):
            yield from _swish_pieces(site, source, beta, root)
    for source, root in exact_forms(site):
        yield from _pieces(site, source, CURVES["Gelu"], root)
    if x is not None and kind in CURVES and kind not in {"Gelu", "Swish"}:
        yield from _pieces(site, x, CURVES[kind], site.node)


def _swish_pieces(
    site: Site, x: Value, beta: Array, root: Node
) -> Iterator[Replacement]:
    """The pieces of x · σ(x) at βx, by β."""
    curve, least = CURVES["Swish"], float(np.abs(beta).min())
    inverse = (1 / beta.astype(np.float64)).astype(np.float32)
    for count in PIECES:
        draft = site.draft()
        scaled = draft.op("Mul", draft.read(x), draft.constant(beta))
        made = _sum(draft, scaled, curve, count)
        made = draft.op("Mul", made, draft.constant(inverse))
        yield site.to(draft, made, bound=_bound(curve, count, 1 / least), root=root)


def _pieces(site: Site, x: Value, curve: Curve, root: Node) -> Iterator[Replacement]:
    for count in PIECES:
        draft = site.draft()
        made = _sum(draft, draft.read(x), curve, count)
        yield site.to(draft, made, bound=_bound(curve, count, 1.0), root=root)


def _sum(draft: Draft, x: Value, curve: Curve, count: int) -> Value:
    knots, changes, start = curve.pieces(count)
    parts = [
        draft.op("Mul", draft.op("Relu", draft.op("Sub", x, float(knot))), float(d))
        for knot, d in zip(knots, changes, strict=True)
    ]
    return draft.op("Add", draft.sum(parts), start)


def _bound(curve: Curve, count: int, scale: float) -> Bound:
    return approximation(
        curve.error(count) * scale, of=f"{count} pieces, h²/8 · max|f″|"
    )


PIECEWISE = Rule(
    name="curve in straight pieces",
    replaces=frozenset(
        {"Erf", "Gelu", "Mish", "QuickGelu", "SiLU", "Sigmoid", "Silu", "Softplus"}
        | {"Swish", "SwishBeta", "Tanh", "swish"}
    ),
    advice="Replace the activation by straight pieces of Relu, Mul and Add",
    source="de Boor, A Practical Guide to Splines, chapter III",
    draw=_draw,
)

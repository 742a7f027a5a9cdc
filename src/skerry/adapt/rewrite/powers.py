"""Powers and roots: small whole powers as products, roots by way of logarithms.

√x = exp(½ ln x) for x ≥ 0 (ln 0 = −∞, and exp of that is 0): an identity of real
numbers, for processors with Exp and Log as look-up tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.adapt.rewrite.bounds import UNIT_ROUNDOFF, of_result, rounding
from skerry.adapt.rewrite.division import LOGARITHM_ERROR
from skerry.adapt.rewrite.rule import Replacement, Rule, Site
from skerry.graph import anything, op

MOST_FACTORS = 4


def _power(site: Site) -> Iterator[Replacement]:
    exponent = site.constant(1)
    if exponent is None or exponent.size != 1 or site.operator.dtype == "":
        return
    wanted = float(exponent.reshape(()))
    draft = site.draft()
    x = site.read(draft, 0)
    if wanted == 0.5:
        # pow() rounds within a few units in the last place, as Sqrt does.
        bound = rounding(16 * UNIT_ROUNDOFF, of_result)
        yield site.to(draft, draft.op("Sqrt", x), bound=bound)
    elif wanted in range(2, MOST_FACTORS + 1):
        made = x
        for _ in range(int(wanted) - 1):
            made = draft.op("Mul", made, x)
        bound = rounding((16 + wanted) * UNIT_ROUNDOFF, of_result)
        yield site.to(draft, made, bound=bound)


def _root(site: Site) -> Iterator[Replacement]:
    yield from _inverse(site)
    draft = site.draft()
    half = draft.op("Mul", draft.op("Log", site.read(draft, 0)), 0.5)
    bound = rounding(LOGARITHM_ERROR, of_result)
    yield site.to(draft, draft.op("Exp", half), bound=bound)


def _inverse(site: Site) -> Iterator[Replacement]:
    """Divide by the root at once where nothing else reads it."""
    for found in site.matches(op("Div", anything("x"), op("Sqrt", anything("v")))):
        draft = site.draft()
        logarithm = draft.op("Log", draft.read(found.values["v"]))
        inverse = draft.op("Exp", draft.op("Mul", logarithm, -0.5))
        made = draft.op("Mul", draft.read(found.values["x"]), inverse)
        bound = rounding(LOGARITHM_ERROR, of_result)
        yield site.to(draft, made, bound=bound, root=found.nodes[-1])


POWER = Rule(
    name="small power",
    replaces=frozenset({"Pow"}),
    advice="Replace Pow with exponent 2 by Mul of its input with itself (3, 4: more "
    "of them; ½: Sqrt)",
    source="xⁿ = x · x · …",
    draw=_power,
)
ROOT = Rule(
    name="square root by logarithms",
    replaces=frozenset({"Sqrt"}),
    advice="Replace Sqrt, or the division by it, with Log, Mul and Exp",
    source="√x = exp(½ ln x), a / √x = a · exp(−½ ln x)",
    draw=_root,
)

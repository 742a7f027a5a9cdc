"""Softplus and Mish, written out.

ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), which never overflows (N. J. Higham, "Accuracy
and Stability of Numerical Algorithms", section 1.14, on log-sum-exp forms);
Mish(x) = x · tanh(softplus(x)) (D. Misra, "Mish", BMVC 2020, arXiv:1908.08681).
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.adapt.rewrite.bounds import (
    FUNCTION_ERROR,
    of_peak,
    of_peak_squared,
    rounding,
)
from skerry.adapt.rewrite.rule import Replacement, Rule, Site


def _softplus(site: Site) -> Iterator[Replacement]:
    draft = site.draft()
    x = site.read(draft, 0)
    small = draft.op("Exp", draft.negative(draft.op("Abs", x)))
    rest = draft.op("Log", draft.op("Add", small, 1.0))
    made = draft.op("Add", draft.op("Relu", x), rest)
    yield site.to(draft, made, bound=rounding(8 * FUNCTION_ERROR, of_peak))


def _mish(site: Site) -> Iterator[Replacement]:
    draft = site.draft()
    x = site.read(draft, 0)
    made = draft.op("Mul", x, draft.op("Tanh", draft.op("Softplus", x)))
    bound = rounding(8 * FUNCTION_ERROR, of_peak_squared)
    yield site.to(draft, made, bound=bound)


SOFTPLUS = Rule(
    name="Softplus written out",
    replaces=frozenset({"Softplus"}),
    advice="Write Softplus out as Relu, Abs, Exp and Log",
    source="ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|)",
    draw=_softplus,
)
MISH = Rule(
    name="Mish written out",
    replaces=frozenset({"Mish"}),
    advice="Write Mish out as Softplus, Tanh and Mul",
    source="arXiv:1908.08681",
    draw=_mish,
)

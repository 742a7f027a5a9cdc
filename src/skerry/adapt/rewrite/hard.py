"""HardSigmoid and HardSwish, written out.

HardSigmoid(x) = clip(αx + β, 0, 1) and HardSwish(x) = x · clip(x/6 + ½, 0, 1): the ONNX
standard's definitions (A. Howard et al., "Searching for MobileNetV3", ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.adapt.rewrite.bounds import (
    UNIT_ROUNDOFF,
    of_peak,
    of_peak_squared,
    rounding,
)
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site
from skerry.graph import Value


def _sigmoid(site: Site) -> Iterator[Replacement]:
    slope, offset = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    draft = site.draft()
    made = _gate(draft, site.read(draft, 0), slope, offset)
    size = max(abs(slope), abs(offset), 1.0)
    yield site.to(draft, made, bound=rounding(8 * UNIT_ROUNDOFF * size, of_peak))


def _swish(site: Site) -> Iterator[Replacement]:
    draft = site.draft()
    x = site.read(draft, 0)
    gate = draft.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    bound = rounding(16 * UNIT_ROUNDOFF, of_peak_squared)
    yield site.to(draft, draft.op("Mul", x, gate), bound=bound)
    draft = site.draft()
    x = site.read(draft, 0)
    yield site.to(draft, draft.op("Mul", x, _gate(draft, x, 1 / 6, 0.5)), bound=bound)


def _gate(draft: Draft, x: Value, slope: float, offset: float) -> Value:
    ramp = draft.op("Add", draft.op("Mul", x, slope), offset)
    return draft.op("Clip", ramp, 0.0, 1.0)


HARD_SIGMOID = Rule(
    name="HardSigmoid written out",
    replaces=frozenset({"HardSigmoid"}),
    advice="Write HardSigmoid out as Mul, Add and Clip",
    source="ONNX standard, HardSigmoid",
    draw=_sigmoid,
)
HARD_SWISH = Rule(
    name="HardSwish written out",
    replaces=frozenset({"HardSwish"}),
    advice="Write HardSwish out as Mul and HardSigmoid, or as Mul, Add and Clip",
    source="ONNX standard, HardSwish",
    draw=_swish,
)

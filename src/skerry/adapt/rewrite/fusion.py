"""Activations written out, fused into the operators that a processor has.

Exporters write HardSwish as x · clip(x + 3, 0, 6) / 6 (A. Howard et al., "Searching for
MobileNetV3", ICCV 2019, section 5.2) and Clip as a minimum of a maximum; a processor
with the operator itself needs neither Div nor Max.
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.adapt.rewrite.bounds import EXACT, UNIT_ROUNDOFF, of_peak_squared, rounding
from skerry.adapt.rewrite.rule import Replacement, Rule, Site
from skerry.graph import anything, constant, op

X = anything("x")
_RAMP = op("Clip", op("Add", X, constant(3)), constant(0), constant(6))
_HARD_SWISHES = (
    op("Div", op("Mul", X, _RAMP), constant(6)),
    op("Mul", op("Mul", X, _RAMP), constant(1 / 6)),
    op("Mul", X, op("Div", _RAMP, constant(6))),
    op("Mul", X, op("Mul", _RAMP, constant(1 / 6))),
)
_CLIPS = (
    op("Min", op("Max", X, constant(name="low")), constant(name="high")),
    op("Min", op("Relu", X), constant(name="high")),
)


def _hard_swish(site: Site) -> Iterator[Replacement]:
    for pattern in _HARD_SWISHES:
        for found in site.matches(pattern):
            draft = site.draft()
            made = draft.op("HardSwish", draft.read(found.values["x"]))
            bound = rounding(16 * UNIT_ROUNDOFF, of_peak_squared)
            yield site.to(draft, made, bound=bound, root=found.nodes[-1])


def _clip(site: Site) -> Iterator[Replacement]:
    for pattern in _CLIPS:
        for found in site.matches(pattern):
            ends = [site.graph.constant(found.values.get(n)) for n in ("low", "high")]
            numbers = [
                0.0 if one is None else float(one.flat[0])
                for one in ends
                if one is None or one.size == 1
            ]
            if len(numbers) < 2 or numbers[0] > numbers[1]:
                continue
            draft = site.draft()
            made = draft.op("Clip", draft.read(found.values["x"]), *numbers)
            yield site.to(draft, made, bound=EXACT, root=found.nodes[-1])


HARD_SWISH_FUSION = Rule(
    name="HardSwish fused",
    replaces=frozenset({"Add", "Clip", "Div", "Mul"}),
    advice="Fuse Clip and the operators around it into HardSwish",
    source="ONNX standard, HardSwish; arXiv:1905.02244",
    draw=_hard_swish,
    opset=14,
)
CLIP_FUSION = Rule(
    name="Clip fused",
    replaces=frozenset({"Max", "Min"}),
    advice="Fuse Max and Min with constants into Clip",
    source="ONNX standard, Clip",
    draw=_clip,
)

"""Activations made of pieces: PRelu, LeakyRelu, Elu, Selu, Celu, Clip, Relu.

Of max(x, 0) and max(−x, 0) one is always zero, so the two can be added without any
rounding (K. He et al., "Delving Deep into Rectifiers", ICCV 2015, equation 1; D.-A.
Clevert et al., "Fast and Accurate Deep Network Learning by Exponential Linear Units",
ICLR 2016; G. Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017; J.
Barron, "Continuously Differentiable Exponential Linear Units", arXiv:1704.07483).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skerry.adapt.rewrite.bounds import EXACT, FUNCTION_ERROR, of_peak, rounding
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site
from skerry.graph import Value

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""What the ONNX standard takes where the attributes are missing."""


def _sloped(site: Site) -> Iterator[Replacement]:
    slope = site.constant(1)
    if slope is not None and slope.size and (slope == slope.flat[0]).all():
        draft = site.draft()
        alpha = float(slope.flat[0])
        made = draft.op("LeakyRelu", site.read(draft, 0), alpha=alpha)
        yield site.to(draft, made, bound=EXACT)
    draft = site.draft()
    x = site.read(draft, 0)
    made = _two_sided(draft, x, site.read(draft, 1))
    yield site.to(draft, made, bound=EXACT)


def _two_sided(draft: Draft, x: Value, slope: Value | float) -> Value:
    below = draft.op("Mul", draft.op("Relu", draft.negative(x)), slope)
    return draft.op("Sub", draft.op("Relu", x), below)


def _leaky(site: Site) -> Iterator[Replacement]:
    alpha = site.attribute("alpha", 0.01)
    draft = site.draft()
    x = site.read(draft, 0)
    larger = "Max" if alpha <= 1 else "Min"
    made = draft.op(larger, x, draft.op("Mul", x, alpha))
    yield site.to(draft, made, bound=EXACT)
    draft = site.draft()
    x = site.read(draft, 0)
    yield site.to(draft, _two_sided(draft, x, alpha), bound=EXACT)


def _exponential(site: Site) -> Iterator[Replacement]:
    kind = site.node.op_type
    default = SELU_ALPHA if kind == "Selu" else 1.0
    alpha = site.attribute("alpha", default)
    gain = site.attribute("gamma", SELU_GAMMA) if kind == "Selu" else 1.0
    draft = site.draft()
    x = site.read(draft, 0)
    below = draft.negative(draft.op("Relu", draft.negative(x)))
    if kind == "Celu" and alpha != 1:
        below = draft.op("Mul", below, 1 / alpha)
    curve = draft.op("Mul", draft.op("Sub", draft.op("Exp", below), 1.0), gain * alpha)
    above = draft.op("Relu", x)
    above = above if gain == 1 else draft.op("Mul", above, gain)
    error = 4 * FUNCTION_ERROR * max(abs(gain * alpha), abs(gain), 1.0)
    made = draft.op("Add", above, curve)
    yield site.to(draft, made, bound=rounding(error, of_peak))


def _clip(site: Site) -> Iterator[Replacement]:
    ends = [site.constant(1), site.constant(2)]
    if any(site.has(i + 1) and end is None for i, end in enumerate(ends)):
        return
    low, high = (None if end is None else float(end.reshape(())) for end in ends)
    if low == 0:
        draft = site.draft()
        made = draft.op("Relu", site.read(draft, 0))
        made = made if high is None else draft.op("Min", made, high)
        yield site.to(draft, made, bound=EXACT)
    if low == 0 and high is not None and high > 0:
        # max(x, 0) − max(x − high, 0), which rounds.
        draft = site.draft()
        x = site.read(draft, 0)
        over = draft.op("Relu", draft.op("Sub", x, high))
        made = draft.op("Sub", draft.op("Relu", x), over)
        bound = rounding(FUNCTION_ERROR * max(high, 1.0), of_peak)
        yield site.to(draft, made, bound=bound)
    if low is not None or high is not None:
        draft = site.draft()
        made = site.read(draft, 0)
        made = made if low is None else draft.op("Max", made, low)
        made = made if high is None else draft.op("Min", made, high)
        yield site.to(draft, made, bound=EXACT)


def _relu(site: Site) -> Iterator[Replacement]:
    largest = float(np.finfo(np.float32).max)
    for name, more in (("Max", (0.0,)), ("Clip", (0.0, largest))):
        draft = site.draft()
        made = draft.op(name, site.read(draft, 0), *more)
        yield site.to(draft, made, bound=EXACT)


def _absolute(site: Site) -> Iterator[Replacement]:
    draft = site.draft()
    x = site.read(draft, 0)
    above, below = draft.op("Relu", x), draft.op("Relu", draft.negative(x))
    yield site.to(draft, draft.op("Add", above, below), bound=EXACT)
    draft = site.draft()
    x = site.read(draft, 0)
    yield site.to(draft, draft.op("Max", x, draft.negative(x)), bound=EXACT)


def _negative(site: Site) -> Iterator[Replacement]:
    draft = site.draft()
    yield site.to(draft, draft.negative(site.read(draft, 0)), bound=EXACT)


ABSOLUTE = Rule(
    name="Abs in two halves",
    replaces=frozenset({"Abs"}),
    advice="Replace Abs with Relu, Mul and Add, or with Mul and Max",
    source="|x| = max(x, 0) + max(−x, 0) = max(x, −x)",
    draw=_absolute,
)
NEGATIVE = Rule(
    name="Neg as a product",
    replaces=frozenset({"Neg"}),
    advice="Replace Neg with Mul by −1",
    source="−x = −1 · x",
    draw=_negative,
)
PRELU = Rule(
    name="PRelu in two halves",
    replaces=frozenset({"PRelu"}),
    advice="Replace PRelu with LeakyRelu, or with Relu, Mul and Sub",
    source="arXiv:1502.01852, equation 1",
    draw=_sloped,
)
LEAKY_RELU = Rule(
    name="LeakyRelu as a maximum",
    replaces=frozenset({"LeakyRelu"}),
    advice="Replace LeakyRelu with Mul and Max",
    source="max(x, αx) for α ≤ 1",
    draw=_leaky,
)
EXPONENTIAL = Rule(
    name="exponential unit written out",
    replaces=frozenset({"Celu", "Elu", "Selu"}),
    advice="Write Elu, Selu or Celu out with Relu and Exp",
    source="arXiv:1511.07289; arXiv:1706.02515; arXiv:1704.07483",
    draw=_exponential,
)
CLIP = Rule(
    name="Clip as bounds",
    replaces=frozenset({"Clip"}),
    advice="Write Clip as Relu and Min, or as Max and Min",
    source="ONNX standard, Clip",
    draw=_clip,
)
RELU = Rule(
    name="Relu as a maximum",
    replaces=frozenset({"Relu"}),
    advice="Write Relu as Max with zero, or as Clip",
    source="ONNX standard, Relu",
    draw=_relu,
)

"""Layer, group, instance and batch normalization, written out.

(x − μ) / √(σ² + ε) · γ + β with the mean μ and variance σ² of each group: J. Ba et al.,
"Layer Normalization", arXiv:1607.06450; Y. Wu, K. He, "Group Normalization", ECCV 2018;
D. Ulyanov et al., "Instance Normalization", arXiv:1607.08022; S. Ioffe, C. Szegedy,
"Batch Normalization", ICML 2015.

How much floats may round: with κ² = (1 + max x²) / (min σ² + ε), a mean of n numbers
is off by γ(n) max|x|, a variance by γ(n + 2) max x² in the worst of the usual forms
(E[x²] − μ²: T. Chan, G. Golub, R. LeVeque, "Algorithms for Computing the Sample
Variance", The American Statistician 37(3), 1983), which relative to σ² + ε is γ κ².
Each form's result is then off by at most 4 γ(n + 8) κ² (1 + |x̂|) |γ| + 8 u |β|, with
|x̂| ≤ √n; two forms by twice that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from skerry.adapt.rewrite.bounds import (
    FUNCTION_ERROR,
    UNIT_ROUNDOFF,
    Bound,
    Inputs,
    gamma,
    of_peak,
    rounding,
    same_sum,
)
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Shape, Site
from skerry.core.seams import Array
from skerry.graph import Value, sole_use

LARGEST_REDUCED = 4096
"""A group larger than this is laid out in two dimensions, for processors that reduce a
bounded number of elements at once."""


def _layer(site: Site) -> Iterator[Replacement]:
    shape = site.shape()
    scale, shift = site.constant(1), site.constant(2) if site.has(2) else None
    if shape is None or scale is None or (site.has(2) and shift is None):
        return
    first = site.attribute("axis", -1) % len(shape)
    axes = list(range(first, len(shape)))
    draft = site.draft()
    made = _normalize(draft, site.read(draft, 0), axes, site.attribute("epsilon", 1e-5))
    made = draft.op("Mul", made, draft.constant(scale))
    if shift is not None:
        made = draft.op("Add", made, draft.constant(shift))
    size = math.prod(shape[first:])
    bound = _bound(site, scale, shift, size, lambda x: x.reshape(-1, size))
    yield site.to(draft, made, bound=bound)


def _group(site: Site) -> Iterator[Replacement]:
    shape = site.shape()
    groups = site.attribute("num_groups", 1)
    if shape is None or len(shape) < 3 or shape[1] % groups:
        return
    yield from _by_groups(site, shape, groups)


def _instance(site: Site) -> Iterator[Replacement]:
    shape = site.shape()
    if shape is not None and len(shape) >= 3:
        yield from _by_groups(site, shape, shape[1])


def _by_groups(site: Site, shape: Shape, groups: int) -> Iterator[Replacement]:
    """Normalize groups of channels as the rows of [batch, groups, height, width]."""
    scale, shift = site.constant(1), site.constant(2)
    if scale is None or shift is None:
        return
    channels = shape[1]
    if scale.size == groups < channels:  # GroupNormalization of opset 18
        scale, shift = (np.repeat(one, channels // groups) for one in (scale, shift))
    size = math.prod(shape[1:]) // groups
    plane = (channels // groups, math.prod(shape[2:]))
    if groups == channels and len(shape) == 4:
        plane = (shape[2], shape[3])
    rows = (shape[0], groups, *plane)
    per_channel = (1, channels, *(1,) * (len(shape) - 2))
    draft = site.draft()
    x = site.read(draft, 0)
    flat = x if rows == shape else draft.reshape(x, rows)
    made = _normalize(draft, flat, [2, 3], site.attribute("epsilon", 1e-5))
    made = made if rows == shape else draft.reshape(made, shape)
    made = draft.op("Mul", made, draft.constant(scale.reshape(per_channel)))
    made = draft.op("Add", made, draft.constant(shift.reshape(per_channel)))
    bound = _bound(site, scale, shift, size, lambda x: x.reshape(-1, size))
    yield site.to(draft, made, bound=bound)


def _normalize(draft: Draft, x: Value, axes: list[int], epsilon: float) -> Value:
    centred = draft.op("Sub", x, draft.mean(x, axes))
    variance = draft.mean(draft.op("Mul", centred, centred), axes)
    deviation = draft.op("Sqrt", draft.op("Add", variance, epsilon))
    return draft.op("Div", centred, deviation)


def _bound(
    site: Site,
    scale: Array,
    shift: Array | None,
    size: int,
    grouped: Callable[[Array], Array],
) -> Bound:
    epsilon = site.attribute("epsilon", 1e-5)
    gain = float(np.abs(scale).max(initial=0))
    offset = 0.0 if shift is None else float(np.abs(shift).max(initial=0))

    def condition(inputs: Inputs, _result: Array) -> float:
        x = grouped(inputs[0])
        least = float(x.var(axis=1).min(initial=np.inf))
        spread = (1 + math.sqrt(size)) * gain
        squared = (1 + float(np.square(x).max(initial=0))) / (least + epsilon)
        return squared * spread + offset

    return rounding(8 * gamma(size + 8), condition)


def _batch_affine(site: Site) -> tuple[Array, Array] | None:
    """With s = scale / √(variance + ε): s, and shift − s · mean, a channel each."""
    operands = [site.constant(index) for index in range(1, 5)]
    known = [one.astype(np.float64) for one in operands if one is not None]
    if len(known) < 4 or site.attribute("training_mode", 0):
        return None
    scale, shift, mean, variance = known
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + site.attribute("epsilon", 1e-5))
        offset = shift - factor * mean
    is_finite = np.isfinite(factor).all() and np.isfinite(offset).all()
    return (factor, offset) if is_finite else None


def _batch(site: Site) -> Iterator[Replacement]:
    found, shape, mean = _batch_affine(site), site.shape(), site.constant(3)
    if found is None or shape is None or mean is None:
        return
    factor, offset = found
    per_channel = (1, -1, *(1,) * (len(shape) - 2))
    draft = site.draft()
    numbers = [
        draft.constant(one.reshape(per_channel).astype(np.float32))
        for one in (factor, offset)
    ]
    made = draft.op("Mul", site.read(draft, 0), numbers[0])
    made = draft.op("Add", made, numbers[1])
    terms = np.abs(factor) * (1 + 2 * np.abs(mean)) + np.abs(offset)
    error = 16 * UNIT_ROUNDOFF * float(np.max(terms, initial=1.0))
    yield site.to(draft, made, bound=rounding(error, of_peak))


def _batch_in_conv(site: Site) -> Iterator[Replacement]:
    """Let the convolution before it do its work: weights s W, bias s b + offset."""
    found, mean = _batch_affine(site), site.constant(3)
    source = site.node.inputs[0]
    if source is None or sole_use(source) is None or found is None or mean is None:
        return
    conv = source.producer()
    if conv is None or conv.domain or conv.op_type != "Conv":
        return
    conv_site = Site(graph=site.graph, node=conv, operator=site.operator)
    weights, bias = conv_site.constant(1), conv_site.constant(2)
    if weights is None or (conv_site.has(2) and bias is None):
        return
    factor, offset = found
    scaled = weights * factor.reshape(-1, *(1,) * (weights.ndim - 1))
    shifted = offset if bias is None else offset + factor * bias
    draft = site.draft()
    operands = [draft.constant(one.astype(np.float32)) for one in (scaled, shifted)]
    made = draft.like(conv, site.take(draft, conv.inputs[0]), *operands)
    gain = np.abs(scaled).reshape(len(scaled), -1).sum(axis=1) + np.abs(shifted)
    gain = gain + 2 * np.abs(factor * mean) + np.abs(offset)
    terms = int(np.prod(weights.shape[1:]))
    bound = same_sum(terms + 8, float(gain.max(initial=1.0)))
    yield site.to(draft, made, bound=bound)


_SOFTMAX_TERMS = 8


def _log_softmax(site: Site) -> Iterator[Replacement]:
    """Subtract the logarithm of the sum from what is shifted by the maximum."""
    shape = site.shape()
    if shape is None or site.graph.opset < 13:
        return
    axis = site.attribute("axis", -1) % len(shape)
    draft = site.draft()
    x = site.read(draft, 0)
    if draft.graph.opset >= 18:
        top = draft.op("ReduceMax", x, draft.integers(axis), keepdims=1)
    else:
        top = draft.op("ReduceMax", x, axes=[axis], keepdims=1)
    shifted = draft.op("Sub", x, top)
    total = draft.op(
        "ReduceSum", draft.op("Exp", shifted), draft.integers(axis), keepdims=1
    )
    made = draft.op("Sub", shifted, draft.op("Log", total))
    error = _SOFTMAX_TERMS * (FUNCTION_ERROR + gamma(shape[axis]))
    yield site.to(draft, made, bound=rounding(error, of_peak))


LAYER_NORM = Rule(
    name="LayerNormalization written out",
    replaces=frozenset({"LayerNormalization"}),
    advice="Write LayerNormalization out as means, Sub, Mul, Sqrt and Div",
    source="arXiv:1607.06450",
    draw=_layer,
)
GROUP_NORM = Rule(
    name="GroupNormalization written out",
    replaces=frozenset({"GroupNormalization"}),
    advice="Write GroupNormalization out as means, Sub, Mul, Sqrt and Div",
    source="arXiv:1803.08494",
    draw=_group,
)
INSTANCE_NORM = Rule(
    name="InstanceNormalization written out",
    replaces=frozenset({"InstanceNormalization"}),
    advice="Write InstanceNormalization out as means, Sub, Mul, Sqrt and Div",
    source="arXiv:1607.08022",
    draw=_instance,
)
BATCH_NORM_IN_CONV = Rule(
    name="BatchNormalization folded",
    replaces=frozenset({"BatchNormalization"}),
    advice="Fold BatchNormalization into the convolution before it",
    source="arXiv:1712.05877, section 3.2",
    draw=_batch_in_conv,
)
BATCH_NORM = Rule(
    name="BatchNormalization written out",
    replaces=frozenset({"BatchNormalization"}),
    advice="Write BatchNormalization out as Mul and Add",
    source="arXiv:1502.03167",
    draw=_batch,
)
LOG_SOFTMAX = Rule(
    name="LogSoftmax written out",
    replaces=frozenset({"LogSoftmax"}),
    advice="Write LogSoftmax out as Exp, ReduceSum and Log",
    source="ln(eˣ / Σ eˣ) = x − m − ln Σ e^(x − m)",
    draw=_log_softmax,
)

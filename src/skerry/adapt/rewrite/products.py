"""Matrix products and 1×1 convolutions are each other; Einsum is one of them.

A 1×1 convolution is a matrix product at each pixel (M. Lin et al., "Network In
Network", arXiv:1312.4400). An Einsum of two operands sums over the letters that only
they share; letters that the result keeps from both are a batch, so it is Transpose,
Reshape and MatMul. Elements move, and the same products are summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from skerry.adapt.rewrite.bounds import Bound, same_sum
from skerry.adapt.rewrite.rule import Replacement, Rule, Site
from skerry.core.seams import Array
from skerry.graph import Value


def _bound(weights: Array, bias: Array | None = None) -> Bound:
    """Of a product with weights [inputs, outputs]."""
    gain = np.abs(weights).sum(axis=0, dtype=np.float64).max(initial=1.0)
    more = 0.0 if bias is None else float(np.abs(bias).max(initial=0))
    return same_sum(weights.shape[0], float(gain) + more)


def _dense_weights(site: Site) -> tuple[Array, Array | None] | None:
    """The weights [inputs, outputs] and the bias of a MatMul or a plain Gemm."""
    weights = site.constant(1)
    if weights is None or weights.ndim != 2:
        return None
    if site.node.op_type == "MatMul":
        return weights, None
    if site.attribute("transA", 0) or (site.has(2) and site.constant(2) is None):
        return None
    if site.attribute("transB", 0):
        weights = weights.T
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    bias = site.constant(2)
    if bias is not None:
        if bias.size not in {1, weights.shape[1]}:
            return None
        bias = np.broadcast_to(beta * bias.reshape(-1), weights.shape[1:])
        bias = bias.astype(weights.dtype)
    return (alpha * weights).astype(weights.dtype), bias


def _product_as_conv(site: Site) -> Iterator[Replacement]:
    found, shape, result = _dense_weights(site), site.shape(), site.result_shape()
    if found is None or shape is None or result is None or len(shape) < 2:
        return
    weights, bias = found
    kernel = weights.T.reshape(*weights.T.shape, 1, 1)
    draft = site.draft()
    x = site.read(draft, 0)
    rows = math.prod(shape[:-1])
    if rows == 1:
        x = draft.reshape(x, (1, shape[-1], 1, 1))
    else:
        x = draft.reshape(x, (1, rows, 1, shape[-1]))
        x = draft.op("Transpose", x, perm=[0, 3, 1, 2])
    operands = [draft.constant(np.ascontiguousarray(kernel))]
    if bias is not None:
        operands.append(draft.constant(bias))
    x = draft.op("Conv", x, *operands)
    if rows > 1:
        x = draft.op("Transpose", x, perm=[0, 2, 3, 1])
    yield site.to(draft, draft.reshape(x, result), bound=_bound(weights, bias))


def _gemm_as_product(site: Site) -> Iterator[Replacement]:
    found = _dense_weights(site)
    if found is None:
        return
    weights, bias = found
    draft = site.draft()
    made = draft.op("MatMul", site.read(draft, 0), draft.constant(weights))
    if bias is not None:
        made = draft.op("Add", made, draft.constant(bias))
    yield site.to(draft, made, bound=_bound(weights, bias))


def _product_as_gemm(site: Site) -> Iterator[Replacement]:
    found, shape, result = _dense_weights(site), site.shape(), site.result_shape()
    if found is None or shape is None or result is None:
        return
    draft = site.draft()
    x = site.read(draft, 0)
    if len(shape) != 2:
        x = draft.reshape(x, (math.prod(shape[:-1]), shape[-1]))
    made = draft.op("Gemm", x, draft.constant(found[0]))
    made = made if len(result) == 2 else draft.reshape(made, result)
    yield site.to(draft, made, bound=_bound(found[0]))


def _conv_as_product(site: Site) -> Iterator[Replacement]:
    shape, result, weights = site.shape(), site.result_shape(), site.constant(1)
    if shape is None or result is None or weights is None:
        return
    is_plain = (
        set(weights.shape[2:]) == {1}
        and site.attribute("group", 1) == 1
        and set(site.integers("strides", [1])) == {1}
        and not any(site.integers("pads", [0]))
        and (not site.has(2) or site.constant(2) is not None)
    )
    if not is_plain:
        return
    matrix = weights.reshape(weights.shape[:2]).T
    bias = site.constant(2)
    last = len(shape) - 1
    draft = site.draft()
    x = draft.op("Transpose", site.read(draft, 0), perm=[0, *range(2, last + 1), 1])
    x = draft.op("MatMul", x, draft.constant(np.ascontiguousarray(matrix)))
    if bias is not None:
        x = draft.op("Add", x, draft.constant(bias))
    x = draft.op("Transpose", x, perm=[0, last, *range(1, last)])
    yield site.to(draft, x, bound=_bound(matrix, bias))


def _einsum(site: Site) -> Iterator[Replacement]:
    terms = _letters(site)
    shapes = (site.shape(0), site.shape(1))
    result = site.result_shape()
    if terms is None or result is None or None in shapes:
        return
    left, right, out = terms
    sizes: dict[str, int] = {}
    for letters, shape in zip((left, right), shapes, strict=True):
        sizes |= dict(zip(letters, shape or (), strict=True))
    shared = [one for one in left if one in right]
    batch = [one for one in shared if one in out]
    summed = [one for one in shared if one not in out]
    rows = [one for one in left if one not in shared]
    columns = [one for one in right if one not in shared]
    if set(out) != {*batch, *rows, *columns}:
        return  # a letter is summed over in one operand alone

    def size(letters: list[str]) -> int:
        return math.prod(sizes[one] for one in letters)

    draft = site.draft()

    def lay(index: int, letters: str, groups: list[list[str]]) -> Value:
        wanted = [one for group in groups for one in group]
        order = [letters.index(one) for one in wanted]
        x = draft.transpose(site.read(draft, index), order)
        laid = tuple(size(group) for group in groups)
        return (
            x if laid == tuple(sizes[one] for one in wanted) else draft.reshape(x, laid)
        )

    made = draft.op(
        "MatMul",
        lay(0, left, [batch, rows, summed]),
        lay(1, right, [batch, summed, columns]),
    )
    natural = [*batch, *rows, *columns]
    made = draft.reshape(made, tuple(sizes[one] for one in natural))
    made = draft.transpose(made, [natural.index(one) for one in out])
    terms_summed = size(summed)
    bound = same_sum(terms_summed, float(terms_summed), squared=True)
    constants = [site.constant(0), site.constant(1)]
    peak = max(
        (float(np.abs(one).max(initial=1)) for one in constants if one is not None),
        default=1.0,
    )
    if peak > 1:
        bound = same_sum(terms_summed, terms_summed * peak, squared=True)
    yield site.to(draft, made, bound=bound)


def _letters(site: Site) -> tuple[str, str, str] | None:
    equation = site.attribute("equation", "").replace(" ", "")
    if "." in equation or "->" not in equation or equation.count(",") != 1:
        return None
    inputs, out = equation.split("->")
    left, right = inputs.split(",")
    if any(len(set(one)) < len(one) for one in (left, right, out)):
        return None
    return left, right, out


def _general_gemm(site: Site) -> Iterator[Replacement]:
    """Spell out a Gemm whose second operand varies."""
    if site.constant(1) is not None or site.shape(0) is None or site.shape(1) is None:
        return
    draft = site.draft()
    sides = []
    for index, name in ((0, "transA"), (1, "transB")):
        x = site.read(draft, index)
        flip = site.attribute(name, 0)
        sides.append(draft.op("Transpose", x, perm=[1, 0]) if flip else x)
    made = draft.op("MatMul", *sides)
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    made = made if alpha == 1 else draft.op("Mul", made, alpha)
    if site.has(2):
        more = site.read(draft, 2)
        made = draft.op("Add", made, more if beta == 1 else draft.op("Mul", more, beta))
    terms = (site.shape(0) or (1,))[0 if site.attribute("transA", 0) else 1]
    gain = abs(alpha) * terms + abs(beta) * _peak(site.constant(2))
    yield site.to(draft, made, bound=same_sum(terms, gain, squared=True))


def _peak(array: Array | None) -> float:
    return 1.0 if array is None else float(np.abs(array).max(initial=1.0))


PRODUCT_AS_CONV = Rule(
    name="matrix product as 1×1 convolution",
    replaces=frozenset({"Gemm", "MatMul"}),
    advice="Write the product with a constant matrix as a 1×1 Conv",
    source="arXiv:1312.4400, section 3",
    draw=_product_as_conv,
)
CONV_AS_PRODUCT = Rule(
    name="1×1 convolution as matrix product",
    replaces=frozenset({"Conv"}),
    advice="Write the 1×1 Conv as a MatMul between transposes",
    source="arXiv:1312.4400, section 3",
    draw=_conv_as_product,
)
GEMM_AS_PRODUCT = Rule(
    name="Gemm as MatMul and Add",
    replaces=frozenset({"Gemm"}),
    advice="Write Gemm as MatMul and Add",
    source="ONNX standard, Gemm",
    draw=_gemm_as_product,
)
PRODUCT_AS_GEMM = Rule(
    name="MatMul as Gemm",
    replaces=frozenset({"MatMul"}),
    advice="Write MatMul with a constant matrix as Gemm",
    source="ONNX standard, Gemm",
    draw=_product_as_gemm,
)
VARYING_GEMM = Rule(
    name="Gemm of two activations",
    replaces=frozenset({"Gemm"}),
    advice="Write Gemm of two activations as Transpose, MatMul and Add",
    source="ONNX standard, Gemm",
    draw=_general_gemm,
)
EINSUM = Rule(
    name="Einsum as MatMul",
    replaces=frozenset({"Einsum"}),
    advice="Write Einsum as Transpose, Reshape and MatMul",
    source="ONNX standard, Einsum",
    draw=_einsum,
)

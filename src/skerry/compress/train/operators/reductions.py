"""Operators that reduce over axes, normalize along them, or multiply matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from skerry.compress.train.operators.making import (
    Builder,
    Operator,
    ints,
    makes_one,
    same,
)
from skerry.graph import Node, attribute
from skerry.runtimes.torch import Tensor, functional, torch

_Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _product(x: Tensor, axes: tuple[int, ...], keeps: bool) -> Tensor:  # noqa: FBT001 - as torch's own
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keeps)
    return x


_REDUCTIONS: dict[str, _Reduction] = {
    "ReduceL1": lambda x, axes, keeps: x.abs().sum(axes, keeps),
    "ReduceL2": lambda x, axes, keeps: x.square().sum(axes, keeps).sqrt(),
    "ReduceLogSum": lambda x, axes, keeps: x.sum(axes, keeps).log(),
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceMax": torch.amax,
    "ReduceMean": lambda x, axes, keeps: x.mean(axes, keeps),
    "ReduceMin": torch.amin,
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes, keeps: x.sum(axes, keeps, dtype=x.dtype),
    "ReduceSumSquare": lambda x, axes, keeps: x.square().sum(axes, keeps),
}


def _reducing(function: _Reduction) -> Builder:
    def build(node: Node) -> Operator:
        # Axes were an attribute before opset 13 or 18, and are an input since.
        own = attribute(node, "axes", None)
        keeps = bool(attribute(node, "keepdims", 1))
        does_nothing_without = attribute(node, "noop_with_empty_axes", 0)

        def reduce(x: Tensor, axes: Tensor | None = None) -> Tensor:
            given = tuple(own or ()) if axes is None else tuple(ints(axes))
            if not given and does_nothing_without:
                return x
            return function(x, given or tuple(range(x.dim())), keeps)

        return reduce

    return build


def _picking(function: Callable[..., Tensor]) -> Builder:
    def build(node: Node) -> Operator:
        axis, keeps = attribute(node, "axis", 0), attribute(node, "keepdims", 1)
        picks_last = attribute(node, "select_last_index", 0)

        def pick(x: Tensor) -> Tensor:
            if not picks_last:
                return function(x, dim=axis, keepdim=bool(keeps))
            last = x.shape[axis] - 1
            return last - function(x.flip(axis), dim=axis, keepdim=bool(keeps))

        return pick

    return build


def _softmax(node: Node) -> Operator:
    return partial(functional.softmax, dim=attribute(node, "axis", -1))


def _log_softmax(node: Node) -> Operator:
    return partial(functional.log_softmax, dim=attribute(node, "axis", -1))


def _lp_normalization(node: Node) -> Operator:
    axis, p = attribute(node, "axis", -1), attribute(node, "p", 2)
    # A vector of zeros stays one.
    return lambda x: functional.normalize(x, p=float(p), dim=axis, eps=1e-30)


def _layer_norm(node: Node) -> Operator | None:
    if not makes_one(node):
        return None
    axis, epsilon = attribute(node, "axis", -1), attribute(node, "epsilon", 1e-5)

    def normalize(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        sizes = x.shape[axis % x.dim() :]
        plain = functional.layer_norm(x, sizes, eps=epsilon) * scale
        return plain if shift is None else plain + shift

    return normalize


def _instance_norm(node: Node) -> Operator:
    epsilon = attribute(node, "epsilon", 1e-5)
    # A channel is a group; torch's own instance norm refuses a single element.
    return lambda x, scale, shift: torch.group_norm(
        x, x.shape[1], scale, shift, epsilon
    )


def _group_norm(node: Node) -> Operator:
    groups, epsilon = attribute(node, "num_groups", 1), attribute(node, "epsilon", 1e-5)

    def normalize(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        # Before opset 21 there is one scale a group rather than a channel.
        channels = x.shape[1]
        wide = [one.repeat_interleave(channels // len(one)) for one in (scale, shift)]
        return torch.group_norm(x, groups, wide[0], wide[1], epsilon)

    return normalize


def _batch_norm(node: Node) -> Operator | None:
    if not makes_one(node) or attribute(node, "training_mode", 0):
        return None
    epsilon = attribute(node, "epsilon", 1e-5)
    return lambda x, scale, shift, mean, variance: functional.batch_norm(
        x, mean, variance, scale, shift, eps=epsilon
    )


def _local_response(node: Node) -> Operator:
    size = attribute(node, "size", 1)
    alpha, beta = attribute(node, "alpha", 1e-4), attribute(node, "beta", 0.75)
    bias = attribute(node, "bias", 1.0)

    def normalize(x: Tensor) -> Tensor:
        before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
        ends = [0, 0] * (x.dim() - 2) + [before, after]
        squares = functional.pad(x.square(), ends)
        total = squares.unfold(1, size, 1).sum(-1)
        return x / (bias + alpha / size * total) ** beta

    return normalize


def _gemm(node: Node) -> Operator:
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    turns_a, turns_b = attribute(node, "transA", 0), attribute(node, "transB", 0)

    def gemm(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = (a.T if turns_a else a) @ (b.T if turns_b else b)
        if alpha != 1:
            product = product * alpha
        return product if c is None else product + (c if beta == 1 else c * beta)

    return gemm


def _top_k(node: Node) -> Operator:
    axis, largest = attribute(node, "axis", -1), bool(attribute(node, "largest", 1))

    def top(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        # Of two that are equal the one of the lower index comes first.
        found = torch.sort(x, dim=axis, descending=largest, stable=True)
        values, places = (one.narrow(axis, 0, int(k)) for one in found)
        return values, places

    return top


def _cumulative_sum(node: Node) -> Operator:
    excludes, runs_back = attribute(node, "exclusive", 0), attribute(node, "reverse", 0)

    def add_up(x: Tensor, axis: Tensor) -> Tensor:
        place = int(axis)
        turned = x.flip(place) if runs_back else x
        total = torch.cumsum(turned, place, dtype=x.dtype)
        total = total - turned if excludes else total
        return total.flip(place) if runs_back else total

    return add_up


BUILDERS: dict[str, Builder] = {
    **{op_type: _reducing(function) for op_type, function in _REDUCTIONS.items()},
    "ArgMax": _picking(torch.argmax),
    "ArgMin": _picking(torch.argmin),
    "BatchNormalization": _batch_norm,
    "CumSum": _cumulative_sum,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _lp_normalization,
    "MatMul": same(torch.matmul),
    "Softmax": _softmax,
    "TopK": _top_k,
}
"""What computes an operator, by its type."""

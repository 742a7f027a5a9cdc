"""Operators that compute element by element (ONNX operator specification)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

from skerry.compress.train.operators.making import Builder, Operator, makes_one, same
from skerry.graph import Node, attribute
from skerry.runtimes.torch import Tensor, functional, torch

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875

_DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
"""By their numbers in ONNX files (`TensorProto.DataType`)."""

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": functional.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": lambda x: functional.softplus(x, threshold=88.0),
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}


def _div(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


def _pow(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * slope)


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    lowest = x if low is None else torch.maximum(x, low)
    return lowest if high is None else torch.minimum(lowest, high)


def _mean(*tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Builder:
    return same(lambda *tensors: reduce(function, tensors))


def _cast(node: Node) -> Operator | None:
    dtype = _DTYPES.get(attribute(node, "to", 0))
    if dtype is None:
        return None
    return lambda x: x.to(dtype)


def _elu(node: Node) -> Operator:
    return partial(functional.elu, alpha=attribute(node, "alpha", 1.0))


def _celu(node: Node) -> Operator:
    return partial(functional.celu, alpha=attribute(node, "alpha", 1.0))


def _selu(node: Node) -> Operator:
    alpha = attribute(node, "alpha", _SELU_ALPHA)
    gamma = attribute(node, "gamma", _SELU_GAMMA)
    return lambda x: gamma * functional.elu(x, alpha=alpha)


def _leaky_relu(node: Node) -> Operator:
    slope = attribute(node, "alpha", 0.01)
    return partial(functional.leaky_relu, negative_slope=slope)


def _thresholded_relu(node: Node) -> Operator:
    limit = attribute(node, "alpha", 1.0)
    return lambda x: torch.where(x > limit, x, torch.zeros_like(x))


def _hard_sigmoid(node: Node) -> Operator:
    slope, shift = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return lambda x: torch.clamp(x * slope + shift, 0.0, 1.0)


def _gelu(node: Node) -> Operator:
    return partial(functional.gelu, approximate=attribute(node, "approximate", "none"))


def _mod(node: Node) -> Operator:
    # With fmod the sign is the dividend's, as in C; without, the divisor's.
    return torch.fmod if attribute(node, "fmod", 0) else torch.remainder


def _is_inf(node: Node) -> Operator:
    if attribute(node, "detect_negative", 1) and attribute(node, "detect_positive", 1):
        return torch.isinf
    if attribute(node, "detect_negative", 1):
        return torch.isneginf
    return torch.isposinf


def _dropout(node: Node) -> Operator | None:
    if not makes_one(node):
        return None
    # As runtimes compute it: nothing is dropped.
    return lambda x, *_ratio: x


BUILDERS: dict[str, Builder] = {
    **{op_type: same(function) for op_type, function in _UNARY.items()},
    **{op_type: same(function) for op_type, function in _BINARY.items()},
    "Cast": _cast,
    "Celu": _celu,
    "Clip": same(_clip),
    "Div": same(_div),
    "Dropout": _dropout,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "IsInf": _is_inf,
    "LeakyRelu": _leaky_relu,
    "Max": _folded(torch.maximum),
    "Mean": same(_mean),
    "Min": _folded(torch.minimum),
    "Mod": _mod,
    "PRelu": same(_prelu),
    "Pow": same(_pow),
    "Selu": _selu,
    "Sum": _folded(torch.add),
    "ThresholdedRelu": _thresholded_relu,
    "Where": same(_where),
}
"""What computes an operator, by its type."""

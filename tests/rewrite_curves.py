"""Models for the rules of activations, normalizations and arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from tests.rewrite_case import Array, Case, floats, picture, sizes, unary


def _positive(call: str) -> Callable[..., Case]:
    def draw(rng: Generator) -> Case:
        case = unary(call)(rng)
        return Case(text=case.text, shape=case.shape, at=case.at, low=1e-6, high=100.0)

    return draw


def _swish_operator(rng: Generator) -> Case:
    shape = picture(rng)
    beta = floats(rng, *((), (shape[1], 1, 1))[int(rng.integers(2))])
    beta = np.where(np.abs(beta) < 0.1, np.float32(0.7), beta).astype(np.float32)

    def reference(inputs: Sequence[Array]) -> Array:
        x = inputs[0].astype(np.float64)
        return x / (1 + np.exp(-beta.astype(np.float64) * x))

    return Case(
        text="y = com.example.SwishBeta(x, beta)",
        shape=shape,
        at="SwishBeta",
        weights={"beta": beta},
        domains=', "com.example": 1',
        reference=reference,
    )


def _swish_written(rng: Generator) -> Case:
    beta = floats(rng) + np.float32(2)
    return Case(
        text="a = Mul(x, beta) s = Sigmoid(a) y = Mul(x, s)",
        shape=sizes(rng, 3),
        at="Sigmoid",
        weights={"beta": np.asarray(max(float(beta), 0.2), np.float32)},
    )


def _gelu_written(rng: Generator) -> Case:
    forms = (
        "a = Div(x, root) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",
        "a = Div(x, root) e = Erf(a) p = Add(e, one) m = Mul(x, half) y = Mul(m, p)",
        "a = Mul(x, inverse) e = Erf(a) p = Add(e, one) m = Mul(p, half) y = Mul(x, m)",
    )
    numbers = {"root": 2**0.5, "inverse": 2**-0.5, "one": 1, "half": 0.5}
    return Case(
        text=str(rng.choice(forms)),
        shape=sizes(rng, 3),
        at="Erf",
        opset=20,
        weights={name: np.array(n, np.float32) for name, n in numbers.items()},
    )


def _hard_swish_written(rng: Generator) -> Case:
    forms = (
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Div(c, six) y = Mul(x, m)",
    )
    numbers = {"three": 3, "zero": 0, "six": 6}
    return Case(
        text=str(rng.choice(forms)),
        shape=sizes(rng, 3),
        at="Clip",
        weights={name: np.array(n, np.float32) for name, n in numbers.items()},
    )


def _clip_written(rng: Generator) -> Case:
    low, high = sorted(float(one) for one in rng.normal(scale=3, size=2))
    return Case(
        text="a = Max(x, low) y = Min(a, high)",
        shape=sizes(rng, 3),
        at="Min",
        weights={
            "low": np.array(low, np.float32),
            "high": np.array(high, np.float32),
        },
    )


def _hard_sigmoid(rng: Generator) -> Case:
    alpha, beta = rng.uniform(0.05, 1, 2)
    return unary(f"HardSigmoid<alpha = {alpha:.4f}, beta = {beta:.4f}>(x)")(rng)


def _prelu(rng: Generator) -> Case:
    shape = picture(rng)
    shapes = ((1,), (shape[1], 1, 1), shape)
    slope = floats(rng, *shapes[int(rng.integers(3))])
    return Case(text="y = PRelu(x, s)", shape=shape, at="PRelu", weights={"s": slope})


def _leaky(rng: Generator) -> Case:
    return unary(f"LeakyRelu<alpha = {rng.uniform(-1, 2):.4f}>(x)")(rng)


def _exponential(rng: Generator) -> Case:
    kind = rng.choice(["Elu", "Selu", "Celu"])
    return unary(f"{kind}<alpha = {rng.uniform(0.2, 2):.4f}>(x)")(rng)


def _clip(rng: Generator) -> Case:
    low, high = sorted(rng.normal(scale=3, size=2).astype(np.float32))
    low = np.float32(0) if rng.integers(2) else low
    return Case(
        text="y = Clip(x, low, high)",
        shape=sizes(rng, 2),
        at="Clip",
        weights={
            "low": np.array(low, np.float32),
            "high": np.array(max(low, high), np.float32),
        },
    )


def _softmax(rng: Generator) -> Case:
    shape = sizes(rng, 4)
    kind = rng.choice(["Softmax", "LogSoftmax"])
    return Case(
        text=f"y = {kind}<axis = {int(rng.integers(3))}>(x)", shape=shape, at=str(kind)
    )


def _log_softmax(rng: Generator) -> Case:
    axis = int(rng.integers(3))
    return Case(
        text=f"y = LogSoftmax<axis = {axis}>(x)",
        shape=sizes(rng, 3),
        at="LogSoftmax",
        opset=int(rng.choice([13, 18])),
    )


def _layer_norm(rng: Generator) -> Case:
    shape = (*sizes(rng, 2), int(rng.integers(2, 40)))
    return Case(
        text="y = LayerNormalization(x, s, t)",
        shape=shape,
        at="LayerNormalization",
        weights={"s": floats(rng, shape[-1]), "t": floats(rng, shape[-1])},
    )


def _group_norm(rng: Generator) -> Case:
    groups, each = (int(one) for one in rng.integers(1, 4, 2))
    shape = (int(rng.integers(1, 3)), groups * each, *sizes(rng, 2))
    return Case(
        text=f"y = GroupNormalization<num_groups = {groups}>(x, s, t)",
        shape=shape,
        at="GroupNormalization",
        opset=21,
        weights={"s": floats(rng, shape[1]), "t": floats(rng, shape[1])},
    )


def _instance_norm(rng: Generator) -> Case:
    shape = picture(rng)
    return Case(
        text="y = InstanceNormalization(x, s, t)",
        shape=shape,
        at="InstanceNormalization",
        weights={"s": floats(rng, shape[1]), "t": floats(rng, shape[1])},
    )


def _batch_norm(rng: Generator) -> Case:
    shape = picture(rng)
    weights = {name: floats(rng, shape[1]) for name in "stm"}
    return Case(
        text="y = BatchNormalization(x, s, t, m, v)",
        shape=shape,
        at="BatchNormalization",
        weights=weights | {"v": np.abs(floats(rng, shape[1])) + np.float32(0.05)},
    )


def _division(rng: Generator) -> Case:
    shape = sizes(rng, 3)
    divisor = floats(rng, *((), shape[-1:])[int(rng.integers(2))])
    divisor = np.where(np.abs(divisor) < 1e-3, np.float32(2), divisor)
    return Case(
        text="y = Div(x, c)",
        shape=shape,
        at="Div",
        weights={"c": divisor.astype(np.float32)},
    )


def _division_by_positive(rng: Generator) -> Case:
    shape = sizes(rng, 3)
    return Case(
        text="a = Abs(z) p = Add(a, c) y = Div(x, p)",
        shape=shape,
        second=shape,
        at="Div",
        weights={"c": np.array(rng.uniform(1e-3, 2), np.float32)},
    )


def _reciprocal(rng: Generator) -> Case:
    return Case(
        text="a = Exp(x) y = Reciprocal(a)", shape=sizes(rng, 2), at="Reciprocal"
    )


def _power(rng: Generator) -> Case:
    exponent = float(rng.choice([0.5, 2, 3, 4]))
    return Case(
        text="y = Pow(x, e)",
        shape=sizes(rng, 3),
        at="Pow",
        low=0.0 if exponent == 0.5 else -8.0,
        weights={"e": np.array(exponent, np.float32)},
    )


def _root(rng: Generator) -> Case:
    shape = sizes(rng, 2)
    forms = ("y = Sqrt(z)", "r = Sqrt(z) y = Div(x, r)")
    return Case(
        text=str(rng.choice(forms)) if rng.integers(2) else forms[1],
        shape=shape,
        second=shape,
        at="Sqrt",
        low=1e-6,
        high=1e3,
    )


def _quantized_curve(rng: Generator) -> Case:
    chain = rng.choice(["b = Sigmoid(a)", "c = Elu(a) b = Tanh(c)", "b = Mish(a)"])
    return Case(
        text=f"a = DequantizeLinear(x, s, p) {chain} y = QuantizeLinear(b, t, q)",
        shape=sizes(rng, 3),
        at=str(chain).split("= ")[1].split("(")[0],
        opset=19,
        dtype="int8",
        low=-128,
        high=127,
        weights={
            "s": np.array(rng.uniform(0.005, 0.1), np.float32),
            "t": np.array(rng.uniform(0.005, 0.1), np.float32),
            "p": np.array(rng.integers(-20, 20), np.int8),
            "q": np.array(rng.integers(-20, 20), np.int8),
        },
    )


MICROSOFT = ', "com.microsoft": 1'

CASES: dict[str, tuple[Callable[[Generator], Case], ...]] = {
    "HardSwish fused": (_hard_swish_written,),
    "Clip fused": (_clip_written,),
    "GELU fused": (_gelu_written,),
    "look-up table": (_quantized_curve,),
    "Swish-β written out": (
        _swish_operator,
        unary("com.microsoft.QuickGelu<alpha = 1.3>(x)", opset=17, domains=MICROSOFT),
    ),
    "GELU written out": (
        unary("Gelu(x)"),
        unary('Gelu<approximate = "tanh">(x)'),
        unary("com.microsoft.FastGelu(x)", opset=17, domains=MICROSOFT),
    ),
    "Mish written out": (unary("Mish(x)"),),
    "Softplus written out": (unary("Softplus(x)"),),
    "HardSwish written out": (unary("HardSwish(x)"),),
    "HardSigmoid written out": (_hard_sigmoid,),
    "Abs in two halves": (unary("Abs(x)"),),
    "Neg as a product": (unary("Neg(x)"),),
    "PRelu in two halves": (_prelu,),
    "LeakyRelu as a maximum": (_leaky,),
    "exponential unit written out": (_exponential,),
    "Clip as bounds": (_clip,),
    "Relu as a maximum": (unary("Relu(x)"),),
    "softmax over the last axis": (_softmax,),
    "LayerNormalization written out": (_layer_norm,),
    "GroupNormalization written out": (_group_norm,),
    "InstanceNormalization written out": (_instance_norm,),
    "BatchNormalization written out": (_batch_norm,),
    "LogSoftmax written out": (_log_softmax,),
    "division by a constant": (_division,),
    "division by a positive": (_division_by_positive,),
    "reciprocal of a positive": (_reciprocal,),
    "small power": (_power,),
    "square root by logarithms": (_root,),
    "GELU without erf": (unary("Gelu(x)"), _gelu_written),
    "Swish-β, hard form": (_swish_operator, _swish_written),
    "curve in straight pieces": (
        unary("Sigmoid(x)"),
        unary("Tanh(x)"),
        unary("Erf(x)"),
        unary("Softplus(x)"),
        unary("Mish(x)"),
        unary("Gelu(x)"),
        _swish_operator,
        _swish_written,
        _gelu_written,
    ),
}
"""For each rule, by name, the cases that it must draw replacements for."""

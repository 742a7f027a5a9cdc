"""Models for each rewrite rule, drawn by a random generator, and a check of its bound.

A case is a small model in which one operator is to be replaced. The replacements that
the rule draws for it are run by onnxruntime beside the original, without onnxruntime's
own rewrites, and no element may be further off than the rule says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from skerry.adapt.operators import read_workload
from skerry.adapt.rewrite import RULES, Replacement, Rule, Site
from skerry.adapt.rewrite.engine import finish
from skerry.core.target import Limit, OperatorRule, Processor, ProcessorKind, Target
from skerry.graph import Graph, infer_shapes, name_all_nodes, parse_graph
from tests.models import Weights, model_bytes
from tests.running import run

Array = NDArray[np.generic]
Reference = Callable[[Sequence[Array]], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model of which one operator is to be replaced.

    Attributes:
        text: The nodes; inputs are `x` and `z`, the result `y`.
        shape: Of `x`.
        second: Of `z`; None where there is none.
        rank: Of `y`; None where it has the shape of `x`.
        weights: Constants by name.
        opset: Of the standard.
        domains: More opset imports.
        at: The operator to replace; the first of this type.
        low: Least element of the inputs.
        high: Largest element of the inputs.
        dtype: Of `x` and `y`, in ONNX's text form.
        reference: What an operator computes that onnxruntime has not.
    """

    text: str
    shape: tuple[int, ...]
    at: str
    second: tuple[int, ...] | None = None
    rank: int | None = None
    weights: Weights = field(default_factory=dict)
    opset: int = 17
    domains: str = ""
    low: float = -8.0
    high: float = 8.0
    dtype: str = "float"
    reference: Reference | None = None


def floats(rng: Generator, *shape: int, scale: float = 1.0) -> Array:
    """Draw constants."""
    return rng.normal(scale=scale, size=shape).astype(np.float32)


def sizes(rng: Generator, rank: int, most: int = 6) -> tuple[int, ...]:
    """Draw a shape."""
    return tuple(int(one) for one in rng.integers(1, most + 1, rank))


def picture(rng: Generator, most: int = 9) -> tuple[int, int, int, int]:
    """Draw the shape of a few pictures of a few channels."""
    batch, channels = rng.integers(1, 4, 2)
    height, width = rng.integers(2, most + 1, 2)
    return int(batch), int(channels), int(height), int(width)


def _unary(call: str, *, opset: int = 20, domains: str = "") -> Callable[..., Case]:
    op_type = (
        call.split("(", maxsplit=1)[0]
        .split("<", maxsplit=1)[0]
        .rsplit(".", maxsplit=1)[-1]
    )

    def draw(rng: Generator) -> Case:
        return Case(
            text=f"y = {call}",
            shape=sizes(rng, int(rng.integers(1, 5))),
            at=op_type,
            opset=opset,
            domains=domains,
        )

    return draw


def _positive(call: str) -> Callable[..., Case]:
    def draw(rng: Generator) -> Case:
        case = _unary(call)(rng)
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
    return _unary(f"HardSigmoid<alpha = {alpha:.4f}, beta = {beta:.4f}>(x)")(rng)


def _prelu(rng: Generator) -> Case:
    shape = picture(rng)
    shapes = ((1,), (shape[1], 1, 1), shape)
    slope = floats(rng, *shapes[int(rng.integers(3))])
    return Case(text="y = PRelu(x, s)", shape=shape, at="PRelu", weights={"s": slope})


def _leaky(rng: Generator) -> Case:
    return _unary(f"LeakyRelu<alpha = {rng.uniform(-1, 2):.4f}>(x)")(rng)


def _exponential(rng: Generator) -> Case:
    kind = rng.choice(["Elu", "Selu", "Celu"])
    return _unary(f"{kind}<alpha = {rng.uniform(0.2, 2):.4f}>(x)")(rng)


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


def _batch_norm_in_conv(rng: Generator) -> Case:
    conv = _conv(rng, most_kernel=3)
    channels = conv.weights["w"].shape[0]
    weights = {name: floats(rng, channels) for name in "stm"}
    weights["v"] = np.abs(floats(rng, channels)) + np.float32(0.05)
    text = conv.text.replace("y = Conv", "c = Conv")
    return replace(
        conv,
        text=f"{text} y = BatchNormalization(c, s, t, m, v)",
        at="BatchNormalization",
        weights={**conv.weights, **weights},
    )


def _identity(rng: Generator) -> Case:
    return Case(
        text="a = Relu(x) b = Identity(a) y = Neg(b)",
        shape=sizes(rng, 2),
        at="Identity",
    )


def _view(rng: Generator) -> Case:
    shape = (1, *sizes(rng, 2), 1)
    calls = (
        ("Flatten<axis = 2>(x)", 2),
        ("Squeeze(x, axes)", 2),
        ("Unsqueeze(x, axes)", 6),
    )
    call, rank = calls[int(rng.integers(3))]
    return Case(
        text=f"y = {call}",
        shape=shape,
        rank=rank,
        at=call.split("(")[0].split("<")[0],
        weights={"axes": np.array([0, 3], np.int64)},
    )


def _gather(rng: Generator) -> Case:
    shape = sizes(rng, 3)
    axis = int(rng.integers(3))
    first = int(rng.integers(shape[axis]))
    last = int(rng.integers(first, shape[axis]))
    is_one = bool(rng.integers(2))
    places = np.array(first - shape[axis]) if is_one else np.arange(first, last + 1)
    return Case(
        text=f"y = Gather<axis = {axis}>(x, places)",
        shape=shape,
        rank=2 if is_one else 3,
        at="Gather",
        weights={"places": places.astype(np.int64)},
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


def _depth_to_space(rng: Generator) -> Case:
    block = int(rng.integers(2, 4))
    batch, channels, height, width = sizes(rng, 4, 4)
    mode = rng.choice(["DCR", "CRD"])
    return Case(
        rank=4,
        text=f'y = DepthToSpace<blocksize = {block}, mode = "{mode}">(x)',
        shape=(batch, channels * block**2, height, width),
        at="DepthToSpace",
    )


def _space_to_depth(rng: Generator) -> Case:
    block = int(rng.integers(2, 4))
    batch, channels, height, width = sizes(rng, 4, 4)
    return Case(
        rank=4,
        text=f"y = SpaceToDepth<blocksize = {block}>(x)",
        shape=(batch, channels, height * block, width * block),
        at="SpaceToDepth",
    )


def _transpose(rng: Generator) -> Case:
    rank = int(rng.integers(2, 7))
    order = rng.permutation(rank).tolist()
    return Case(
        rank=rank,
        text=f"y = Transpose<perm = {order}>(x)",
        shape=sizes(rng, rank, 4),
        at="Transpose",
    )


def _transpose_pair(rng: Generator) -> Case:
    rank = int(rng.integers(2, 5))
    first, second = (rng.permutation(rank).tolist() for _ in range(2))
    return Case(
        rank=rank,
        text=f"a = Transpose<perm = {first}>(x) r = Relu(a) s = Sigmoid(r) "
        f"y = Transpose<perm = {second}>(s)",
        shape=sizes(rng, rank, 4),
        at="Transpose",
    )


def _strided_slice(rng: Generator) -> Case:
    starts, steps = rng.integers(0, 2, 2), rng.integers(1, 4, 2)
    steps[0] = max(steps[0], 2)
    return Case(
        rank=4,
        text="y = Slice(x, starts, ends, axes, steps)",
        shape=(1, 2, *(int(n) for n in rng.integers(3, 10, 2))),
        at="Slice",
        weights={
            "starts": starts.astype(np.int64),
            "ends": np.array([2**31 - 1, int(rng.integers(3, 10))], np.int64),
            "axes": np.array([2, -1], np.int64),
            "steps": steps.astype(np.int64),
        },
    )


def _many(rng: Generator) -> Case:
    kind = rng.choice(["Sum", "Mean", "Max", "Min"])
    shape = sizes(rng, 3)
    return Case(
        text=f"y = {kind}(x, z, c, x)",
        shape=shape,
        second=shape,
        at=str(kind),
        weights={"c": floats(rng, shape[-1])},
    )


def _nearest(rng: Generator) -> Case:
    pairs = (
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
    )
    coordinates, rounding = pairs[int(rng.integers(3))]
    scales = np.array([1, 1, *rng.integers(1, 5, 2)], np.float32)
    scales[2] = max(scales[2], 2)
    return Case(
        rank=4,
        text=f'y = Resize<mode = "nearest", nearest_mode = "{rounding}", '
        f'coordinate_transformation_mode = "{coordinates}">(x, , scales)',
        shape=picture(rng, 5),
        at="Resize",
        weights={"scales": scales},
    )


def _linear(rng: Generator) -> Case:
    coordinates = rng.choice(["half_pixel", "asymmetric", "pytorch_half_pixel"])
    scales = np.array([1, 1, *rng.integers(1, 6, 2)], np.float32)
    scales[2] = max(scales[2], 2)
    return Case(
        rank=4,
        text='y = Resize<mode = "linear", '
        f'coordinate_transformation_mode = "{coordinates}">(x, , scales)',
        shape=picture(rng, 5),
        at="Resize",
        weights={"scales": scales},
    )


def _mean(rng: Generator) -> Case:
    shape = tuple(int(one) for one in rng.choice([1, 4, 6, 8, 12], 4))
    axes = sorted(rng.choice(4, int(rng.integers(1, 4)), replace=False).tolist())
    keeps = int(rng.integers(2))
    return Case(
        rank=4 if keeps else 4 - len(axes),
        text=f"y = ReduceMean<axes = {axes}, keepdims = {keeps}>(x)",
        shape=shape,
        at="ReduceMean",
    )


def _plane_mean(rng: Generator) -> Case:
    forms = (
        ("GlobalAveragePool(x)", "GlobalAveragePool"),
        ("ReduceMean<axes = [2, 3]>(x)", "ReduceMean"),
        ("ReduceMean<axes = [-1, -2], keepdims = 0>(x)", "ReduceMean"),
    )
    call, kind = forms[int(rng.integers(3))]
    return Case(
        rank=2 if "keepdims" in call else 4,
        text=f"y = {call}",
        shape=picture(rng),
        at=kind,
    )


def _einsum(rng: Generator) -> Case:
    equation = str(
        rng.choice(
            [
                "bij,bjk->bik",
                "bhqd,bhkd->bhqk",
                "nchw,cd->ndhw",
                "ij,kj->ki",
                "bij,bik->bjk",
                "i,j->ij",
            ]
        )
    )
    left, right = equation.split("->", maxsplit=1)[0].split(",")
    length = {one: int(rng.integers(1, 6)) for one in sorted({*left, *right})}
    return Case(
        rank=len(equation.split("->")[1]),
        text=f'y = Einsum<equation = "{equation}">(x, z)',
        shape=tuple(length[one] for one in left),
        second=tuple(length[one] for one in right),
        at="Einsum",
    )


def _matmul(rng: Generator) -> Case:
    shape = (*sizes(rng, int(rng.integers(1, 3))), int(rng.integers(1, 9)))
    weights = {"w": floats(rng, shape[-1], int(rng.integers(1, 9)))}
    return Case(
        rank=len(shape),
        text="y = MatMul(x, w)",
        shape=shape,
        at="MatMul",
        weights=weights,
    )


def _gemm(rng: Generator) -> Case:
    rows, inputs, outputs = sizes(rng, 3, 8)
    flipped = int(rng.integers(2))
    shape = (outputs, inputs) if flipped else (inputs, outputs)
    return Case(
        rank=2,
        text=f"y = Gemm<transB = {flipped}, alpha = 0.5, beta = 2.0>(x, w, b)",
        shape=(rows, inputs),
        at="Gemm",
        weights={"w": floats(rng, *shape), "b": floats(rng, outputs)},
    )


def _varying_gemm(rng: Generator) -> Case:
    rows, inner, columns = sizes(rng, 3)
    first, second = (int(one) for one in rng.integers(0, 2, 2))
    return Case(
        rank=2,
        text=f"y = Gemm<transA = {first}, transB = {second}, alpha = 1.5>(x, z, b)",
        shape=(inner, rows) if first else (rows, inner),
        second=(columns, inner) if second else (inner, columns),
        at="Gemm",
        weights={"b": floats(rng, columns)},
    )


def _conv(rng: Generator, *, dilated: bool = False, most_kernel: int = 7) -> Case:
    group = int(rng.choice([1, 1, 2, 3]))
    read, write = (int(one) for one in rng.integers(1, 4, 2))
    kernel = [int(one) for one in rng.integers(1, most_kernel + 1, 2)]
    dilations = [int(one) for one in rng.integers(1, 4, 2)] if dilated else [1, 1]
    strides = [1, 1] if dilated else [int(one) for one in rng.integers(1, 4, 2)]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [int(one) for one in rng.integers(0, 3, 4)]
    shape = (int(rng.integers(1, 3)), read * group, *(s + 4 for s in spans))
    style = f"pads = {pads}"
    if rng.integers(3) == 0 and not dilated:
        style = f'auto_pad = "{rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])}"'
    return Case(
        rank=4,
        text=f"y = Conv<{style}, strides = {strides}, dilations = {dilations}, "
        f"group = {group}>(x, w, b)",
        shape=shape,
        at="Conv",
        weights={
            "w": floats(rng, write * group, read, *kernel),
            "b": floats(rng, write * group),
        },
    )


def _dilated(rng: Generator) -> Case:
    return _conv(rng, dilated=True, most_kernel=4)


def _pointwise(rng: Generator) -> Case:
    shape = picture(rng)
    filters = int(rng.integers(1, 6))
    return Case(
        rank=4,
        text="y = Conv(x, w, b)",
        shape=shape,
        at="Conv",
        weights={"w": floats(rng, filters, shape[1], 1, 1), "b": floats(rng, filters)},
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
        _unary("com.microsoft.QuickGelu<alpha = 1.3>(x)", opset=17, domains=MICROSOFT),
    ),
    "GELU written out": (
        _unary("Gelu(x)"),
        _unary('Gelu<approximate = "tanh">(x)'),
        _unary("com.microsoft.FastGelu(x)", opset=17, domains=MICROSOFT),
    ),
    "Mish written out": (_unary("Mish(x)"),),
    "Softplus written out": (_unary("Softplus(x)"),),
    "HardSwish written out": (_unary("HardSwish(x)"),),
    "HardSigmoid written out": (_hard_sigmoid,),
    "Abs in two halves": (_unary("Abs(x)"),),
    "Neg as a product": (_unary("Neg(x)"),),
    "PRelu in two halves": (_prelu,),
    "LeakyRelu as a maximum": (_leaky,),
    "exponential unit written out": (_exponential,),
    "Clip as bounds": (_clip,),
    "Relu as a maximum": (_unary("Relu(x)"),),
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
    "DepthToSpace as a transpose": (_depth_to_space,),
    "SpaceToDepth as a transpose": (_space_to_depth,),
    "transposes that cancel": (_transpose_pair,),
    "transpose of few dimensions": (_transpose,),
    "transpose in tiles": (_transpose,),
    "BatchNormalization folded": (_batch_norm_in_conv,),
    "Identity left out": (_identity,),
    "another shape by Reshape": (_view,),
    "Gather of a run as Slice": (_gather,),
    "strided slice as pooling": (_strided_slice,),
    "operands two at a time": (_many,),
    "nearest resize by copies": (_nearest,),
    "linear resize as ConvTranspose": (_linear,),
    "mean as pooling": (_plane_mean,),
    "mean in a batch of one": (_mean,),
    "mean, one dimension at a time": (_mean,),
    "mean in tiles": (_mean,),
    "Einsum as MatMul": (_einsum,),
    "Gemm of two activations": (_varying_gemm,),
    "Gemm as MatMul and Add": (_gemm,),
    "MatMul as Gemm": (_matmul,),
    "matrix product as 1×1 convolution": (_matmul, _gemm),
    "padding apart": (_conv,),
    "dilated kernel with zeros": (_dilated,),
    "dilated convolution by phases": (_dilated,),
    "groups as one kernel": (_conv,),
    "groups side by side": (_conv,),
    "big kernel in blocks": (_conv, _dilated),
    "1×1 convolution as matrix product": (_pointwise,),
    "GELU without erf": (_unary("Gelu(x)"), _gelu_written),
    "Swish-β, hard form": (_swish_operator, _swish_written),
    "curve in straight pieces": (
        _unary("Sigmoid(x)"),
        _unary("Tanh(x)"),
        _unary("Erf(x)"),
        _unary("Softplus(x)"),
        _unary("Mish(x)"),
        _unary("Gelu(x)"),
        _swish_operator,
        _swish_written,
        _gelu_written,
    ),
}
"""For each rule, by name, the cases that it must draw replacements for."""


def rule_named(name: str) -> Rule:
    """Find a rule."""
    return next(rule for rule in RULES if rule.name == name)


def build(case: Case) -> Graph:
    """Make the model of a case, with shapes and names."""
    shape = ", ".join(str(one) for one in case.shape)
    signature = f"{case.dtype}[{shape}] x"
    if case.second is not None:
        more = ", ".join(str(one) for one in case.second)
        signature += f", {case.dtype}[{more}] z"
    sizes_made: tuple[int | str, ...] = case.shape
    if case.rank is not None:
        sizes_made = tuple(f"n{index}" for index in range(case.rank))
    made = ", ".join(str(one) for one in sizes_made)
    content = model_bytes(
        f"net ({signature}) => ({case.dtype}[{made}] y) {{ {case.text} }}",
        case.weights,
        opset=case.opset,
        domains=case.domains,
    )
    return infer_shapes(name_all_nodes(parse_graph(content)))


def site_of(graph: Graph, op_type: str) -> Site:
    """The first operator of a type, as a rule sees it."""
    node = next(node for node in graph.nodes if node.op_type == op_type)
    operators = {one.name: one for one in read_workload(graph).operators}
    return Site(graph=graph, node=node, operator=operators[node.name or ""])


def draw_inputs(case: Case, rng: Generator) -> dict[str, Array]:
    """Draw what the model is given, now and then with an outlier or a zero."""
    found: dict[str, Array] = {}
    for name, shape in (("x", case.shape), ("z", case.second)):
        if shape is None:
            continue
        spread = rng.uniform(0.01, 1)
        middle, half = (case.low + case.high) / 2, (case.high - case.low) / 2
        array = middle + half * spread * rng.uniform(-1, 1, shape)
        if case.dtype == "int8":
            found[name] = np.rint(array).astype(np.int8)
            continue
        if rng.integers(4) == 0 and array.size:
            array.flat[int(rng.integers(array.size))] = case.high
        found[name] = array.astype(np.float32)
    return found


def replacements(name: str, case: Case) -> Iterator[Replacement]:
    """What a rule draws for a case."""
    rule = rule_named(name)
    site = site_of(build(case), case.at)
    assert case.at in rule.replaces
    yield from rule.draw(site)


def excess(case: Case, replacement: Replacement, rng: Generator) -> float:
    """How far the worst element is beyond the bound, in units of what is allowed.

    Returns:
        At most 1 where the bound holds; 0 where nothing differs.
    """
    graph = build(case)
    inputs = draw_inputs(case, rng)
    drawn = replacement.draft.reads
    reads = {inner: value.name or "" for inner, value in drawn.items()}
    root = replacement.root.outputs[0].name or ""
    if case.reference is None:
        wider = graph.copy()
        wider.add_outputs(sorted({root, *reads.values()} - set(inputs)))
        known = inputs | run(infer_shapes(wider), inputs)
        old = known[root]
    else:
        known = inputs
        old = np.asarray(case.reference(list(inputs.values())))
    given = {inner: known[outer] for inner, outer in reads.items()}
    result = replacement.results[0]
    if result.producer() is None:
        new = given[result.name or ""]
    else:
        new = run(finish(replacement), given)[result.name or ""]
    assert new.shape == old.shape
    allowed = replacement.bound.allowed(list(given.values()), old)
    off = np.abs(new.astype(np.float64) - old.astype(np.float64))
    allowed = np.broadcast_to(allowed, off.shape)
    if not off.size or not off.any():
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(off > 0, off / allowed, 0.0)
    return float(np.max(share))


NPU = Path(__file__).parent / "unit" / "adapt" / "npu.toml"
"""The file of a target whose NPU takes integers, as an Ethos-U does."""


def target_of(
    *operators: str,
    dtypes: Sequence[str] = ("float32",),
    limits: Sequence[Limit] = (),
    max_rank: int | None = None,
) -> Target:
    """Hardware whose first processor runs these operators, and whose second any.

    The limits and the rank hold for the first one alone; Reshape always runs.
    """
    kinds = frozenset(dtypes)
    first = OperatorRule(
        operators=frozenset(operators[:1]),
        dtypes=kinds,
        limits=tuple(limits),
        max_rank=max_rank,
    )
    free = OperatorRule(operators=frozenset({*operators[1:], "Reshape"}), dtypes=kinds)
    return Target(
        name="board",
        title="A board",
        processors=(
            Processor(name="npu", kind=ProcessorKind.NPU, rules=(first, free)),
            Processor(name="cpu", kind=ProcessorKind.CPU, runs_everything=True),
        ),
    )

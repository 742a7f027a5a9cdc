"""Models for the rules of layers, and of operators that move numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from tests.rewrite_case import Case, floats, picture, sizes


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


CASES: dict[str, tuple[Callable[[Generator], Case], ...]] = {
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
}
"""For each rule, by name, the cases that it must draw replacements for."""

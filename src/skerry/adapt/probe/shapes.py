"""What is asked of products, reductions, and operators that move bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from skerry.adapt.operators import AttributeValue
from skerry.adapt.probe.cases import Case
from skerry.adapt.probe.sweep import BATCH, Line, Settings, Sweep, word
from skerry.core.seams import Array
from skerry.core.target import Take


def products() -> Iterator[Sweep]:
    """Matrix products, with constant weights and without."""
    batch = Line(parameter="batch", values=(1, 2, 8), quantity="batch")
    yield Sweep(op_type="Gemm", make=_gemm, lines=(batch,), constant_weights=True)
    for is_constant in (True, False):
        yield Sweep(
            op_type="MatMul",
            make=partial(_matmul, is_constant=is_constant),
            lines=(Line(parameter="rank", values=(2, 3, 4, 5), quantity="rank"),),
            constant_weights=is_constant,
        )


def _gemm(settings: Settings, dtype: str) -> Case:
    rows, read, made = int(settings.get("batch", 1)), 64, 32
    return Case(
        op_type="Gemm",
        dtype=dtype,
        shapes=((rows, read),),
        weights=((made, read), (made,)),
        output=(rows, made),
        attributes={"transB": 1},
    )


def _matmul(settings: Settings, dtype: str, *, is_constant: bool) -> Case:
    rank = int(settings.get("rank", 3))
    outer = (1, 2, 2)[3 - (rank - 2) :] if rank > 2 else ()
    first, second = (*outer, 8, 16), (*outer, 16, 24)
    return Case(
        op_type="MatMul",
        dtype=dtype,
        shapes=(first,) if is_constant else (first, second),
        weights=((16, 24),) if is_constant else (),
        output=(*outer, 8, 24),
    )


_SIDES = (1, 4, 16, 64, 128, 255, 256, 257, 512, 1024, 4095, 4096, 5000)


def reductions() -> Iterator[Sweep]:
    """Reductions over height and width, and ArgMax over channels."""
    for op_type in (
        "GlobalAveragePool",
        "GlobalMaxPool",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
    ):
        sides = Line(
            parameter="height",
            values=_SIDES,
            quantity="reduced",
            take=Take.FIRST,
            settings={"width": 1},
        )
        yield Sweep(
            op_type=op_type,
            make=partial(_reduced, op_type=op_type),
            settings={"height": 8, "width": 8},
            lines=(
                sides,
                Line(
                    parameter="width",
                    values=_SIDES,
                    quantity="reduced",
                    settings={"height": 1},
                ),
                Line(
                    parameter="width",
                    values=_SIDES,
                    quantity="reduced",
                    take=Take.PRODUCT,
                    settings={"height": 256},
                ),
                BATCH,
            ),
        )
    depth = Line(
        parameter="depth",
        values=(2, 16, 64, 127, 128, 255, 256, 1024),
        quantity="reduced",
    )
    yield Sweep(op_type="ArgMax", make=_arg_max, lines=(depth, BATCH))


def _reduced(settings: Settings, dtype: str, *, op_type: str) -> Case:
    high, wide = int(settings["height"]), int(settings["width"])
    batch, channels = int(settings.get("batch", 1)), 4
    axes: tuple[Array | None, ...] = (np.array([2, 3], np.int64),)
    is_global = op_type.startswith("Global")
    return Case(
        op_type=op_type,
        dtype=dtype,
        shapes=((batch, channels, high, wide),),
        output=(batch, channels, 1, 1),
        parameters=() if is_global else axes,
        attributes={} if is_global else {"keepdims": 1},
        is_spatial=True,
    )


def _arg_max(settings: Settings, dtype: str) -> Case:
    shape = (int(settings.get("batch", 1)), 4, 4, int(settings.get("depth", 16)))
    return Case(
        op_type="ArgMax",
        dtype=dtype,
        shapes=(shape,),
        output=shape[:-1],
        attributes={"axis": -1, "keepdims": 0},
        made="int64",
    )


_PERMS = ("0231", "0312", "0213", "0132", "0321", "1023", "3210")


def _transpose(settings: Settings, dtype: str) -> Case:
    side = int(settings.get("side", 8))
    shape = (1, side, side, 4)
    perm = tuple(int(digit) for digit in str(settings["perm"]))
    return Case(
        op_type="Transpose",
        dtype=dtype,
        shapes=(shape,),
        output=tuple(shape[place] for place in perm),
        attributes={"perm": perm},
    )


def _move(
    op_type: str,
    output: Callable[[int], tuple[int, ...]],
    *parameters: Callable[[int], list[int]],
    attributes: Mapping[str, AttributeValue] | None = None,
    shape: tuple[int, ...] = (8, 8, 16),
    count: int = 1,
    reads: int = 1,
    is_spatial: bool = False,
) -> Callable[[Settings, str], Case]:
    """A maker of cases that only move bytes; each part is a function of the batch."""

    def make(settings: Settings, dtype: str) -> Case:
        batch = int(settings.get("batch", 1))
        return Case(
            op_type=op_type,
            dtype=dtype,
            shapes=((batch, *shape),) * reads,
            output=output(batch),
            parameters=tuple(np.array(one(batch), np.int64) for one in parameters),
            attributes=attributes or {},
            is_spatial=is_spatial,
            outputs=count,
        )

    return make


_MOVES: Mapping[str, Callable[[Settings, str], Case]] = {
    "Concat": _move("Concat", lambda n: (n, 8, 8, 32), attributes={"axis": 3}, reads=2),
    "DepthToSpace": _move(
        "DepthToSpace",
        lambda n: (n, 4, 16, 16),
        attributes={"blocksize": 2, "mode": "DCR"},
        shape=(16, 8, 8),
        is_spatial=True,
    ),
    "Expand": _move(
        "Expand", lambda n: (n, 8, 8, 16), lambda n: [n, 8, 8, 16], shape=(1, 8, 16)
    ),
    "Flatten": _move("Flatten", lambda n: (n, 1024), attributes={"axis": 1}),
    "Gather": _move(
        "Gather", lambda n: (n, 2, 8, 16), lambda _: [1, 3], attributes={"axis": 1}
    ),
    "Pad": _move("Pad", lambda n: (n, 10, 10, 16), lambda _: [0, 1, 1, 0, 0, 1, 1, 0]),
    "Reshape": _move("Reshape", lambda n: (n, 64, 16), lambda n: [n, 64, 16]),
    "SpaceToDepth": _move(
        "SpaceToDepth",
        lambda n: (n, 64, 4, 4),
        attributes={"blocksize": 2},
        shape=(16, 8, 8),
        is_spatial=True,
    ),
    "Split": _move(
        "Split",
        lambda n: (n, 8, 8, 8),
        attributes={"axis": 3, "num_outputs": 2},
        count=2,
    ),
    "Squeeze": _move("Squeeze", lambda n: (n, 8, 16), lambda _: [1], shape=(1, 8, 16)),
    "Tile": _move("Tile", lambda n: (n, 8, 16, 16), lambda _: [1, 1, 2, 1]),
    "Unsqueeze": _move(
        "Unsqueeze", lambda n: (n, 1, 8, 16), lambda _: [1], shape=(8, 16)
    ),
}


def _slice(settings: Settings, dtype: str) -> Case:
    """Rows 2 to 5, or each second or third of them."""
    step = int(settings.get("stride", 1))
    ends = (lambda _: [2], lambda _: [6], lambda _: [1], lambda _: [step])
    made = _move("Slice", lambda n: (n, len(range(2, 6, step)), 8, 16), *ends)
    return made(settings, dtype)


def moves() -> Iterator[Sweep]:
    """Transposes by permutation, and what else moves bytes."""
    for perm in _PERMS:
        yield Sweep(
            op_type="Transpose",
            make=_transpose,
            settings={"perm": perm},
            lines=(
                Line(
                    parameter="side",
                    values=(8, 64, 128, 256, 300, 512),
                    quantity="plane",
                ),
            ),
            where=(word("permutation", perm),),
        )
    for op_type, make in _MOVES.items():
        is_constant = op_type in {"Expand", "Gather", "Pad", "Tile"}
        yield Sweep(
            op_type=op_type,
            make=make,
            lines=(BATCH,),
            constant_weights=is_constant,
        )
    yield Sweep(
        op_type="Slice",
        make=_slice,
        lines=(
            BATCH,
            Line(parameter="stride", values=(1, 2, 3), quantity="strides"),
        ),
        constant_weights=True,
    )

"""What is asked of a toolchain: operators, and the quantities that are varied.

A sweep is one operator in one situation (padded as `SAME`, say, and depthwise): a case
that most hardware runs, and lines along which one parameter of it grows. What is found
along a line becomes a limit of the operator table, in the words that
`skerry.adapt.placement.quantity` reads from any model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from skerry.adapt.operators import AttributeValue
from skerry.adapt.probe.cases import Case
from skerry.core.seams import Array
from skerry.core.target import Limit, Take

Setting = int | str
Settings = Mapping[str, Setting]

DTYPES = ("int8", "uint8", "int16", "int32", "float16", "float32")
"""What each sweep is tried in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One parameter that is varied while the others stay as they are.

    Attributes:
        parameter: Its name among the sweep's settings.
        values: What it is set to, ascending where they are numbers.
        quantity: What a limit on it is about.
        take: Which part of that quantity.
        settings: What else is set along this line.
    """

    parameter: str
    values: tuple[Setting, ...]
    quantity: str
    take: Take = Take.EACH
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One operator in one situation.

    Attributes:
        op_type: The ONNX operator.
        make: Builds the case of some settings in some dtype.
        settings: The settings to start from.
        lines: What is varied.
        where: What tells the situation from others of the same operator.
        constant_weights: Whether the second input is a constant here.
    """

    op_type: str
    make: Callable[[Settings, str], Case]
    settings: Settings = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    where: tuple[Limit, ...] = ()
    constant_weights: bool = False

    def case(self, dtype: str, **changed: Setting) -> Case:
        """The case of the settings, some of them changed."""
        return self.make({**self.settings, **changed}, dtype)


def all_sweeps() -> tuple[Sweep, ...]:
    """Everything that is asked, in the order in which tables list it."""
    return (
        *_unary(),
        *_binary(),
        *_convolutions(),
        *_transposed_convolutions(),
        *_products(),
        *_pools(),
        *_reductions(),
        *_moves(),
        *_resizes(),
    )


RANK = Line(parameter="rank", values=(1, 2, 3, 4, 5, 6, 7, 8, 9), quantity="rank")
BATCH = Line(parameter="batch", values=(1, 2, 3), quantity="batch")

_UNARY: Mapping[str, Mapping[str, AttributeValue]] = {
    "Abs": {},
    "Ceil": {},
    "Cos": {},
    "Elu": {},
    "Erf": {},
    "Exp": {},
    "Floor": {},
    "Gelu": {},
    "HardSigmoid": {},
    "HardSwish": {},
    "Identity": {},
    "LeakyRelu": {"alpha": 0.1},
    "Log": {},
    "Mish": {},
    "Neg": {},
    "Reciprocal": {},
    "Relu": {},
    "Round": {},
    "Sigmoid": {},
    "Sign": {},
    "Sin": {},
    "Softplus": {},
    "Softsign": {},
    "Sqrt": {},
    "Tanh": {},
}
_BINARY = ("Add", "Div", "Max", "Min", "Mod", "Mul", "Pow", "PRelu", "Sub")


def _shape(settings: Settings, channels: int = 16) -> tuple[int, ...]:
    """A shape of some rank, channels last, all its sizes small."""
    rank = int(settings.get("rank", 4))
    batch = int(settings.get("batch", 1))
    return ((batch, *(1,) * max(0, rank - 4), 8, 8)[: rank - 1] + (channels,))[-rank:]


def _unary() -> Iterator[Sweep]:
    for op_type, attributes in _UNARY.items():

        def make(
            settings: Settings,
            dtype: str,
            op_type: str = op_type,
            attributes: Mapping[str, AttributeValue] = attributes,
        ) -> Case:
            shape = _shape(settings)
            return Case(
                op_type=op_type,
                dtype=dtype,
                shapes=(shape,),
                output=shape,
                attributes=attributes,
            )

        yield Sweep(op_type=op_type, make=make, lines=(RANK, BATCH))
    yield Sweep(op_type="Clip", make=_clip, lines=(RANK, BATCH))
    rows = Line(parameter="size", values=(8, 64, 128, 255, 256, 512), quantity="rows")
    yield Sweep(op_type="Softmax", make=_softmax, lines=(RANK, rows))
    yield Sweep(
        op_type="LogSoftmax",
        make=lambda settings, dtype: replace(
            _softmax(settings, dtype), op_type="LogSoftmax"
        ),
    )


def _clip(settings: Settings, dtype: str) -> Case:
    shape = _shape(settings)
    kind = "float32" if dtype in {"int8", "uint8", "int16"} else dtype
    return Case(
        op_type="Clip",
        dtype=dtype,
        shapes=(shape,),
        output=shape,
        parameters=(np.array(0, kind), np.array(6, kind)),
    )


def _softmax(settings: Settings, dtype: str) -> Case:
    size = int(settings.get("size", 8))
    shape = (1, size, size, 4) if "size" in settings else _shape(settings)
    return Case(
        op_type="Softmax",
        dtype=dtype,
        shapes=(shape,),
        output=shape,
        attributes={"axis": -1},
    )


def _binary() -> Iterator[Sweep]:
    for op_type in _BINARY:
        for is_constant in (False, True):

            def make(
                settings: Settings,
                dtype: str,
                op_type: str = op_type,
                is_constant: bool = is_constant,  # noqa: FBT001 - binds the loop's value
            ) -> Case:
                shape = _shape(settings)
                second = (shape[-1],)
                return Case(
                    op_type=op_type,
                    dtype=dtype,
                    shapes=(shape,) if is_constant else (shape, shape),
                    weights=(second,) if is_constant else (),
                    output=shape,
                )

            yield Sweep(
                op_type=op_type,
                make=make,
                lines=(RANK, BATCH),
                constant_weights=is_constant,
            )


_KERNELS = (1, 2, 3, 5, 8, 9, 16, 31, 32, 33, 64, 65, 96, 128, 256, 257, 300)
_STRIDES = (1, 2, 3, 4, 5, 8)


def _window(settings: Settings, size: int) -> tuple[int, tuple[int, ...]]:
    """The output's size and the paddings of a square window over a square picture."""
    kernel, stride = int(settings.get("kernel", 3)), int(settings.get("stride", 1))
    span = (kernel - 1) * int(settings.get("dilation", 1)) + 1
    if settings.get("padding") == "none":
        return (size - span) // stride + 1, (0, 0, 0, 0)
    made = -(-size // stride)
    total = max(0, (made - 1) * stride + span - size)
    return made, (total // 2, total // 2, total - total // 2, total - total // 2)


def _grown(settings: Settings) -> int:
    """A picture at least as large as the window on it."""
    span = (int(settings.get("kernel", 3)) - 1) * int(settings.get("dilation", 1)) + 1
    return max(int(settings.get("size", 12)), span)


def _conv(settings: Settings, dtype: str) -> Case:
    size, kernel = _grown(settings), int(settings.get("kernel", 3))
    width = int(settings.get("width", kernel))
    channels, filters = (
        int(settings.get("channels", 8)),
        int(settings.get("filters", 8)),
    )
    is_depthwise = settings.get("grouping") == "depthwise"
    high, pads_high = _window({**settings, "kernel": kernel}, size)
    wide, pads_wide = _window({**settings, "kernel": width}, size)
    filters = channels if is_depthwise else filters
    batch, dilation = int(settings.get("batch", 1)), int(settings.get("dilation", 1))
    groups = {"depthwise": channels, "grouped": 2}.get(str(settings.get("grouping")), 1)
    return Case(
        op_type="Conv",
        dtype=dtype,
        shapes=((batch, channels, size, size),),
        weights=((filters, channels // groups, kernel, width), (filters,)),
        output=(batch, filters, high, wide),
        attributes={
            "kernel_shape": (kernel, width),
            "strides": (int(settings.get("stride", 1)),) * 2,
            "dilations": (dilation, dilation),
            "pads": (pads_high[0], pads_wide[1], pads_high[2], pads_wide[3]),
            "group": groups,
        },
        is_spatial=True,
    )


def _convolutions() -> Iterator[Sweep]:
    for grouping in ("one", "depthwise", "grouped"):
        for padding in ("none", "same"):
            for dilation in (1, 2):
                yield Sweep(
                    op_type="Conv",
                    make=_conv,
                    settings={
                        "grouping": grouping,
                        "padding": padding,
                        "dilation": dilation,
                    },
                    lines=_conv_lines(is_dilated=dilation > 1),
                    where=(
                        _word("grouping", grouping),
                        _word("padding", padding),
                        Limit(
                            quantity="dilations",
                            at_least=dilation,
                            at_most=1 if dilation == 1 else None,
                        ),
                    ),
                    constant_weights=True,
                )


def _conv_lines(*, is_dilated: bool) -> tuple[Line, ...]:
    few = {"channels": 2, "filters": 2}
    tall = Line(
        parameter="kernel",
        values=_KERNELS,
        quantity="kernel_span",
        take=Take.FIRST,
        settings={**few, "width": 1},
    )
    wide = Line(
        parameter="width",
        values=_KERNELS,
        quantity="kernel_span",
        take=Take.PRODUCT,
        settings={**few, "kernel": 32 if is_dilated else 64, "size": 560},
    )
    strides = Line(parameter="stride", values=_STRIDES, quantity="strides")
    return (strides, tall, wide, BATCH)


def _word(quantity: str, *words: str) -> Limit:
    return Limit(quantity=quantity, one_of=words)


def _transposed_convolutions() -> Iterator[Sweep]:
    for padding in ("none", "same"):
        yield Sweep(
            op_type="ConvTranspose",
            make=_conv_transpose,
            settings={"padding": padding},
            lines=(
                Line(parameter="stride", values=(1, 2, 3, 4), quantity="strides"),
                Line(
                    parameter="kernel",
                    values=_KERNELS[2:],
                    quantity="kernel_shape",
                    settings={"channels": 2},
                ),
            ),
            where=(_word("padding", padding),),
            constant_weights=True,
        )


def _conv_transpose(settings: Settings, dtype: str) -> Case:
    stride, kernel = int(settings.get("stride", 2)), int(settings.get("kernel", 4))
    kernel = max(kernel, stride)
    channels, size = int(settings.get("channels", 8)), 6
    total = kernel - stride if settings["padding"] == "same" else 0
    made = size * stride + kernel - stride - total
    first = total // 2
    return Case(
        op_type="ConvTranspose",
        dtype=dtype,
        shapes=((1, channels, size, size),),
        weights=((channels, channels, kernel, kernel), (channels,)),
        output=(1, channels, made, made),
        attributes={
            "kernel_shape": (kernel, kernel),
            "strides": (stride, stride),
            "pads": (first, first, total - first, total - first),
        },
        is_spatial=True,
    )


def _products() -> Iterator[Sweep]:
    batch = Line(parameter="batch", values=(1, 2, 8), quantity="batch")
    yield Sweep(op_type="Gemm", make=_gemm, lines=(batch,), constant_weights=True)
    for is_constant in (True, False):

        def make(
            settings: Settings,
            dtype: str,
            is_constant: bool = is_constant,  # noqa: FBT001 - binds the loop's value
        ) -> Case:
            return _matmul(settings, dtype, is_constant=is_constant)

        yield Sweep(
            op_type="MatMul",
            make=make,
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


def _pools() -> Iterator[Sweep]:
    for op_type in ("AveragePool", "MaxPool"):
        for padding in ("none", "same"):

            def make(settings: Settings, dtype: str, op_type: str = op_type) -> Case:
                return _pool(settings, dtype, op_type)

            yield Sweep(
                op_type=op_type,
                make=make,
                settings={"padding": padding, "kernel": 2},
                lines=(
                    Line(parameter="stride", values=_STRIDES, quantity="strides"),
                    Line(
                        parameter="kernel",
                        values=_KERNELS,
                        quantity="kernel_shape",
                        take=Take.FIRST,
                        settings={"width": 1},
                    ),
                    Line(
                        parameter="width",
                        values=_KERNELS,
                        quantity="kernel_shape",
                        settings={"kernel": 1},
                    ),
                    BATCH,
                ),
                where=(_word("padding", padding),),
            )


def _pool(settings: Settings, dtype: str, op_type: str) -> Case:
    kernel = int(settings["kernel"])
    width = int(settings.get("width", kernel))
    size = max(12, kernel, width)
    high, pads_high = _window({**settings, "kernel": kernel}, size)
    wide, pads_wide = _window({**settings, "kernel": width}, size)
    batch, channels = int(settings.get("batch", 1)), 4
    stride = int(settings.get("stride", 1))
    return Case(
        op_type=op_type,
        dtype=dtype,
        shapes=((batch, channels, size, size),),
        output=(batch, channels, high, wide),
        attributes={
            "kernel_shape": (kernel, width),
            "strides": (stride, stride),
            "pads": (pads_high[0], pads_wide[1], pads_high[2], pads_wide[3]),
        },
        is_spatial=True,
    )


_SIDES = (1, 4, 16, 64, 128, 255, 256, 257, 512, 1024, 4095, 4096, 5000)


def _reductions() -> Iterator[Sweep]:
    for op_type in (
        "GlobalAveragePool",
        "GlobalMaxPool",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
    ):

        def make(settings: Settings, dtype: str, op_type: str = op_type) -> Case:
            return _reduced(settings, dtype, op_type)

        sides = Line(
            parameter="height",
            values=_SIDES,
            quantity="reduced",
            settings={"width": 1},
        )
        yield Sweep(
            op_type=op_type,
            make=make,
            settings={"height": 8, "width": 8},
            lines=(
                sides,
                Line(
                    parameter="width",
                    values=_SIDES[:-3],
                    quantity="reduced",
                    take=Take.PRODUCT,
                    settings={"height": 1024},
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


def _reduced(settings: Settings, dtype: str, op_type: str) -> Case:
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


def _moves() -> Iterator[Sweep]:
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
            where=(_word("permutation", perm),),
        )
    for op_type, make in _MOVES.items():
        is_constant = op_type in {"Expand", "Gather", "Pad", "Slice", "Tile"}
        yield Sweep(
            op_type=op_type,
            make=make,
            lines=(BATCH,),
            constant_weights=is_constant,
        )


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
    "Slice": _move(
        "Slice", lambda n: (n, 4, 8, 16), lambda _: [2], lambda _: [6], lambda _: [1]
    ),
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


def _resizes() -> Iterator[Sweep]:
    for mode, ways in {
        "nearest": ("asymmetric", "half_pixel", "align_corners"),
        "linear": ("asymmetric", "half_pixel", "align_corners"),
    }.items():
        for way in ways:
            yield Sweep(
                op_type="Resize",
                make=_resize,
                settings={"mode": mode, "way": way},
                lines=(
                    Line(
                        parameter="scale",
                        values=(1, 2, 3, 4, 5, 6, 8, 16),
                        quantity="scales",
                    ),
                    Line(
                        parameter="ratio",
                        values=("narrow", "square", "wide"),
                        quantity="scale_ratio",
                    ),
                ),
                where=(
                    _word("mode", mode),
                    _word("coordinate_transformation_mode", way),
                ),
            )


def _resize(settings: Settings, dtype: str) -> Case:
    scale = int(settings.get("scale", 2))
    narrow, wide = {"narrow": (2, 1), "wide": (1, 2)}.get(
        str(settings.get("ratio", "square")), (1, 1)
    )
    high, width = 4 * scale * narrow, 4 * scale * wide
    sizes = np.array([1, 8, high, width], np.int64)
    is_nearest = settings["mode"] == "nearest"
    attributes: dict[str, AttributeValue] = {
        "mode": str(settings["mode"]),
        "coordinate_transformation_mode": str(settings["way"]),
    }
    if is_nearest:
        is_half = settings["way"] != "asymmetric"
        attributes["nearest_mode"] = "round_prefer_ceil" if is_half else "floor"
    return Case(
        op_type="Resize",
        dtype=dtype,
        shapes=((1, 8, 4, 4),),
        output=(1, 8, high, width),
        parameters=(None, None, sizes),
        attributes=attributes,
        is_spatial=True,
    )


def work_bytes(case: Case) -> int:
    """Bytes that a case reads and writes, weights included."""
    width = {"int16": 2, "float16": 2, "int32": 4, "float32": 4}.get(case.dtype, 1)
    tensors = (*case.shapes, *case.weights, *(case.output,) * case.outputs)
    return sum(math.prod(shape) for shape in tensors) * width

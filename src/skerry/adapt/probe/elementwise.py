"""What is asked of operators that treat each number alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from skerry.adapt.operators import AttributeValue
from skerry.adapt.probe.cases import Case
from skerry.adapt.probe.sweep import BATCH, RANK, Line, Settings, Sweep

_UNARIES: Mapping[str, Mapping[str, AttributeValue]] = {
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
_BINARIES = ("Add", "Div", "Max", "Min", "Mod", "Mul", "Pow", "PRelu", "Sub")


def _shape(settings: Settings, channels: int = 16) -> tuple[int, ...]:
    """A shape of some rank, channels last, all its sizes small."""
    rank = int(settings.get("rank", 4))
    batch = int(settings.get("batch", 1))
    outer = (batch, *(1,) * max(0, rank - 4), 8, 8)[: rank - 1]
    return (*outer, channels)[-rank:]


def unary() -> Iterator[Sweep]:
    """Operators of one tensor."""
    for op_type in _UNARIES:
        make = partial(_unary, op_type=op_type)
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


def _unary(settings: Settings, dtype: str, *, op_type: str) -> Case:
    shape = _shape(settings)
    return Case(
        op_type=op_type,
        dtype=dtype,
        shapes=(shape,),
        output=shape,
        attributes=_UNARIES[op_type],
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


def binary() -> Iterator[Sweep]:
    """Operators of two tensors."""
    for op_type in _BINARIES:
        for is_constant in (False, True):
            yield Sweep(
                op_type=op_type,
                make=partial(_binary, op_type=op_type, is_constant=is_constant),
                lines=(RANK, BATCH),
                constant_weights=is_constant,
            )


def _binary(settings: Settings, dtype: str, *, op_type: str, is_constant: bool) -> Case:
    shape = _shape(settings)
    return Case(
        op_type=op_type,
        dtype=dtype,
        shapes=(shape,) if is_constant else (shape, shape),
        weights=((shape[-1],),) if is_constant else (),
        output=shape,
    )

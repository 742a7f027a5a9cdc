"""What a TFLite file holds, as plain values: tensors and operators by number.

Between the generated classes of the schema, which `_schema` alone knows, and the
modules that read a net into ONNX and write one from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from skerry.core.seams import Array

LEFT_OUT = -1
"""Stands in `Operator.inputs` for an optional tensor that is not given."""

SAME, VALID = 0, 1
"""How convolutions and pools pad (schema.fbs, `Padding`)."""

ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH")
"""Activations fused into operators, by number (`ActivationFunctionType`)."""

DTYPES = (
    "float32",
    "float16",
    "int32",
    "uint8",
    "int64",
    "string",
    "bool",
    "int16",
    "complex64",
    "int8",
    "float64",
    "complex128",
    "uint64",
    "resource",
    "variant",
    "uint32",
    "uint16",
    "int4",
)
"""Names by number of schema.fbs's `TensorType`."""

Option = int | float | bool | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantization:
    """What codes stand for: `scale · (code − zero_point)`.

    Attributes:
        scale: float32[1], or float32[n] with one number for each place on the axis.
        zero_point: int64 of the same shape.
        axis: The dimension that has a scale for each place; 0 for one scale.
    """

    scale: Array
    zero_point: Array
    axis: int = 0

    def moved(self, by: int) -> Quantization:
        """What the same numbers' codes stand for if all of them are larger by `by`."""
        return replace(self, zero_point=self.zero_point + by)

    def is_like(self, other: Quantization | None) -> bool:
        """Whether codes mean the same in both, as kernels compare scales."""
        return (
            other is not None
            and self.axis == other.axis
            and self.scale.shape == other.scale.shape
            and bool(np.allclose(self.scale, other.scale, rtol=1e-6, atol=0))
            and bool((self.zero_point == other.zero_point).all())
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """One tensor of a net.

    Attributes:
        name: Its name; not always unique.
        dtype: numpy's name, or `string`, `int4`, … where numpy has none.
        shape: Sizes; a free one is what the file takes for it, mostly 1.
        content: What it always holds; None for an input or what an operator makes.
        quantization: What its codes stand for; None where they are plain numbers.
        open_axes: The dimensions of a free size.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: Array | None = None
    quantization: Quantization | None = None
    open_axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of a net.

    Attributes:
        code: Its name in schema.fbs's `BuiltinOperator`; `CUSTOM` for any other.
        inputs: Numbers of tensors; `LEFT_OUT` for one not given.
        outputs: Numbers of tensors.
        options: Its options by name in snake case; those left out are not in it.
        version: Which version of the operator's kernel it asks for.
    """

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """One subgraph: operators stand in the order in which they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

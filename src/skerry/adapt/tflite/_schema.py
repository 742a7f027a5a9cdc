"""The only door to the classes generated from TFLite's schema, and to flatbuffers.

A file comes in as bytes and goes on as a `Net`, or the other way. The generated classes
follow offsets wherever they lead: what they raise on damaged files ends here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skerry.adapt.tflite.net import (
    DTYPES,
    Net,
    Operator,
    Option,
    Quantization,
    Tensor,
)
from skerry.core.errors import MissingExtraError, ModelError
from skerry.core.seams import Array

try:
    import flatbuffers
    import tflite
except ImportError as error:
    raise MissingExtraError(error.name or "tflite", extra="tflite") from error

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"

_ALIGNMENT = 16
"""Of the bytes of each tensor (schema.fbs: `force_align`)."""
_LAST_OLD_CODE = 127
"""Operators beyond it do not fit into the field that old readers know."""
_MOST_RANK = 8

_NAMES = {
    number: name
    for name, number in vars(tflite.BuiltinOperator).items()
    if isinstance(number, int) and not name.startswith("_")
}
_NUMBERS = {name: number for number, name in _NAMES.items()}

_CONV = ("Padding", "StrideW", "StrideH", "FusedActivationFunction")
_DILATED = ("DilationWFactor", "DilationHFactor")
_RESIZE = ("AlignCorners", "HalfPixelCenters")
_FUSED = ("FusedActivationFunction",)
_SLICE = ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask")

_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", _FUSED),
    "ARG_MAX": ("ArgMaxOptions", ("OutputType",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_CONV, "FilterWidth", "FilterHeight")),
    "BATCH_MATMUL": ("BatchMatMulOptions", ("AdjX", "AdjY")),
    "CAST": ("CastOptions", ()),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", *_FUSED)),
    "CONV_2D": ("Conv2DOptions", (*_CONV, *_DILATED)),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        (*_CONV, *_DILATED, "DepthMultiplier"),
    ),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", ("BlockSize",)),
    "DIV": ("DivOptions", _FUSED),
    "EXP": ("ExpOptions", ()),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        (*_FUSED, "WeightsFormat", "KeepNumDims"),
    ),
    "GATHER": ("GatherOptions", ("Axis", "BatchDims")),
    "GELU": ("GeluOptions", ("Approximate",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "MAXIMUM": ("MaximumMinimumOptions", ()),
    "MAX_POOL_2D": ("Pool2DOptions", (*_CONV, "FilterWidth", "FilterHeight")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "MINIMUM": ("MaximumMinimumOptions", ()),
    "MIRROR_PAD": ("MirrorPadOptions", ("Mode",)),
    "MUL": ("MulOptions", _FUSED),
    "PACK": ("PackOptions", ("Axis", "ValuesCount")),
    "QUANTIZE": ("QuantizeOptions", ()),
    "REDUCE_MAX": ("ReducerOptions", ("KeepDims",)),
    "REDUCE_MIN": ("ReducerOptions", ("KeepDims",)),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", _RESIZE),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", _RESIZE),
    "SHAPE": ("ShapeOptions", ("OutType",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", ("BlockSize",)),
    "SPLIT": ("SplitOptions", ("NumSplits",)),
    "SPLIT_V": ("SplitVOptions", ("NumSplits",)),
    "SQUEEZE": ("SqueezeOptions", ("SqueezeDims",)),
    "STRIDED_SLICE": ("StridedSliceOptions", _SLICE),
    "SUB": ("SubOptions", _FUSED),
    "SUM": ("ReducerOptions", ("KeepDims",)),
    "TRANSPOSE": ("TransposeOptions", ()),
    "TRANSPOSE_CONV": ("TransposeConvOptions", _CONV),
    "UNPACK": ("UnpackOptions", ("Num", "Axis")),
}
"""By operator the table of its options, and those of its fields that are used."""

_DAMAGE = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
    struct.error,
)
"""What the generated classes raise where offsets or lengths make no sense."""


def decode(content: bytes, name: str) -> Net:
    """Read the first subgraph of a file.

    Args:
        content: The whole file.
        name: What messages call it.

    Raises:
        ModelError: It is not a TFLite model, is damaged, or keeps tensors in a way
            that is not read (sparse, or in another file).
    """
    if content[4:8] != IDENTIFIER:
        raise ModelError(
            f"{name} is not a TFLite model, or only a part of one",
            hint="Export the model again, or fetch the whole file.",
        )
    try:
        return _decode(content, name)
    except _DAMAGE as error:
        raise damaged(name) from error


def damaged(name: str) -> ModelError:
    """The error of a file in which something does not fit together."""
    return ModelError(
        f"{name} is a damaged TFLite model, or only a part of one",
        hint="Export the model again, or fetch the whole file.",
    )


def _decode(content: bytes, name: str) -> Net:
    model = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    codes = []
    for index in range(_bounded(model.OperatorCodesLength(), content)):
        code = model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        codes.append((_NAMES[number], code.Version()))
    tensors = tuple(
        _decode_tensor(model, graph.Tensors(index), name)
        for index in range(_bounded(graph.TensorsLength(), content))
    )
    operators = []
    for index in range(_bounded(graph.OperatorsLength(), content)):
        one = graph.Operators(index)
        code, version = codes[one.OpcodeIndex()]
        operators.append(
            Operator(
                code=code,
                inputs=_indices(one.InputsAsNumpy(), tensors),
                outputs=_indices(one.OutputsAsNumpy(), tensors),
                options=_decode_options(one, code),
                version=version,
            )
        )
    return Net(
        tensors=tensors,
        operators=tuple(operators),
        inputs=_indices(graph.InputsAsNumpy(), tensors),
        outputs=_indices(graph.OutputsAsNumpy(), tensors),
    )


def _bounded(count: int, content: bytes) -> int:
    """A length, which cannot be larger than the file: each entry takes four bytes."""
    if not 0 <= count <= len(content) // 4:
        raise ValueError(count)
    return count


def _indices(found: Any, tensors: Sequence[Tensor]) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in _array(found))
    if any(not -1 <= number < len(tensors) for number in numbers):
        raise IndexError(numbers)
    return numbers


def _array(found: Any) -> Array:
    """A vector; the generated classes give 0 for one left out."""
    return found if isinstance(found, np.ndarray) else np.zeros(0, np.int64)


def _decode_tensor(model: Any, one: Any, name: str) -> Tensor:
    dtype = DTYPES[one.Type()]
    shape = tuple(int(size) for size in _array(one.ShapeAsNumpy()))
    if len(shape) > _MOST_RANK or min(shape, default=0) < 0:
        raise ValueError(shape)
    called = (one.Name() or b"").decode()
    buffer = model.Buffers(one.Buffer())
    if one.Sparsity() is not None or buffer.Offset() > 1:
        kept = "sparsely" if one.Sparsity() is not None else "behind the file's end"
        raise ModelError(
            f"{name} keeps the tensor {called!r} {kept}, which is not read",
            hint="Convert the model again without that option.",
        )
    raw = buffer.DataAsNumpy()
    content = None
    if isinstance(raw, np.ndarray) and raw.size:
        if dtype == "int4":
            raise ModelError(
                f"{name} keeps the tensor {called!r} in 4 bits, which is not read",
                hint="Convert the model again with 8 bits.",
            )
        content = np.frombuffer(raw.tobytes(), np.dtype(dtype)).reshape(shape)
    return Tensor(
        name=called,
        dtype=dtype,
        shape=shape,
        content=content,
        quantization=_decode_quantization(one.Quantization(), shape),
        open_axes=tuple(
            axis
            for axis, size in enumerate(_array(one.ShapeSignatureAsNumpy()))
            if size < 0
        ),
    )


def _decode_quantization(one: Any, shape: tuple[int, ...]) -> Quantization | None:
    if one is None or not isinstance(one.ScaleAsNumpy(), np.ndarray):
        return None
    scale = one.ScaleAsNumpy().astype(np.float32)
    if not scale.size:
        return None
    zero_point = _array(one.ZeroPointAsNumpy()).astype(np.int64)
    if not zero_point.size:
        zero_point = np.zeros(scale.shape, np.int64)
    axis = one.QuantizedDimension() if scale.size > 1 else 0
    fits = scale.size == 1 or (0 <= axis < len(shape) and shape[axis] == scale.size)
    is_real = bool(np.isfinite(scale).all() and (scale > 0).all())
    if zero_point.size == 1:
        zero_point = np.broadcast_to(zero_point, scale.shape)
    if not fits or not is_real or zero_point.shape != scale.shape:
        raise ValueError(scale)
    return Quantization(scale=scale, zero_point=zero_point, axis=axis)


def _decode_options(one: Any, code: str) -> dict[str, Option]:
    if code not in _OPTIONS or one.BuiltinOptions() is None:
        return {}
    kind, fields = _OPTIONS[code]
    if one.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind):
        return {}
    table = getattr(tflite, kind)()
    table.Init(one.BuiltinOptions().Bytes, one.BuiltinOptions().Pos)
    found: dict[str, Option] = {}
    for name in fields:
        if hasattr(table, f"{name}AsNumpy"):
            vector = _array(getattr(table, f"{name}AsNumpy")())
            found[_snake(name)] = tuple(int(each) for each in vector)
        else:
            found[_snake(name)] = getattr(table, name)()
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def encode(net: Net, description: str) -> bytes:
    """Write a net as a TFLite file; the same net gives the same bytes.

    Args:
        net: What to write; its options are numbers and flags.
        description: What the file says of itself.
    """
    return bytes(_Encoder(net).run(description))


class _Encoder:
    """Writes the tables of a file, from the innermost to the outermost."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._builder: Any = flatbuffers.Builder(1024)
        self._buffers = [self._buffer(b"")]
        self._kept: dict[bytes, int] = {}
        kinds = {(one.code, one.version) for one in net.operators}
        self._codes = {kind: index for index, kind in enumerate(sorted(kinds))}

    def run(self, description: str) -> bytearray:
        """The whole file."""
        build = self._builder
        tensors = self._tables("SubGraph", "Tensors", self._tensor, self._net.tensors)
        operators = self._tables(
            "SubGraph", "Operators", self._operator, self._net.operators
        )
        inputs = self._integers(self._net.inputs)
        outputs = self._integers(self._net.outputs)
        called = build.CreateString("main")
        graph = self._table(
            "SubGraph",
            {
                "Tensors": tensors,
                "Inputs": inputs,
                "Outputs": outputs,
                "Operators": operators,
                "Name": called,
            },
        )
        parts = {
            "Version": SCHEMA_VERSION,
            "OperatorCodes": self._tables(
                "Model", "OperatorCodes", self._code, tuple(self._codes)
            ),
            "Subgraphs": self._tables("Model", "Subgraphs", lambda it: it, (graph,)),
            "Description": build.CreateString(description),
            "Buffers": self._tables("Model", "Buffers", lambda it: it, self._buffers),
        }
        build.Finish(self._table("Model", parts), IDENTIFIER)
        made: bytearray = build.Output()
        return made

    def _table(self, kind: str, fields: Mapping[str, Any]) -> int:
        getattr(tflite, f"{kind}Start")(self._builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(self._builder, value)
        end: int = getattr(tflite, f"{kind}End")(self._builder)
        return end

    def _tables(self, kind: str, name: str, make: Any, items: Sequence[Any]) -> int:
        places = [make(item) for item in items]
        getattr(tflite, f"{kind}Start{name}Vector")(self._builder, len(places))
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        end: int = self._builder.EndVector()
        return end

    def _integers(self, numbers: Sequence[int]) -> int:
        made: int = self._builder.CreateNumpyVector(np.array(numbers, np.int32))
        return made

    def _buffer(self, raw: bytes) -> int:
        if not raw:
            return self._table("Buffer", {})
        build = self._builder
        build.StartVector(1, len(raw), _ALIGNMENT)
        build.head -= len(raw)
        build.Bytes[build.head : build.head + len(raw)] = raw
        return self._table("Buffer", {"Data": build.EndVector()})

    def _tensor(self, one: Tensor) -> int:
        place = 0
        if one.content is not None:
            raw = np.ascontiguousarray(one.content).tobytes()
            if raw not in self._kept:
                self._kept[raw] = len(self._buffers)
                self._buffers.append(self._buffer(raw))
            place = self._kept[raw]
        fields = {
            "Shape": self._integers(one.shape),
            "Type": DTYPES.index(one.dtype),
            "Buffer": place,
            "Name": self._builder.CreateString(one.name),
        }
        if one.quantization is not None:
            fields["Quantization"] = self._quantization(one.quantization)
        return self._table("Tensor", fields)

    def _quantization(self, one: Quantization) -> int:
        scale = self._builder.CreateNumpyVector(one.scale.astype(np.float32))
        zero = self._builder.CreateNumpyVector(one.zero_point.astype(np.int64))
        fields = {"Scale": scale, "ZeroPoint": zero, "QuantizedDimension": one.axis}
        return self._table("QuantizationParameters", fields)

    def _operator(self, one: Operator) -> int:
        inputs, outputs = self._integers(one.inputs), self._integers(one.outputs)
        fields = {
            "OpcodeIndex": self._codes[one.code, one.version],
            "Inputs": inputs,
            "Outputs": outputs,
        }
        if one.code in _OPTIONS:
            kind, known = _OPTIONS[one.code]
            names = {_snake(name): name for name in known}
            options = {names[key]: value for key, value in one.options.items()}
            fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, kind)
            fields["BuiltinOptions"] = self._table(kind, options)
        return self._table("Operator", fields)

    def _code(self, kind: tuple[str, int]) -> int:
        name, version = kind
        number = _NUMBERS[name]
        fields = {
            "DeprecatedBuiltinCode": min(number, _LAST_OLD_CODE),
            "Version": version,
            "BuiltinCode": number,
        }
        return self._table("OperatorCode", fields)

"""Requests and answers of the Open Inference Protocol, version 2, as bytes.

A body is JSON, or JSON followed by the tensors' bytes, little-endian and in row order
(the binary tensor extension, "Binary Data Extension" in Triton's protocol
documentation; `Inference-Header-Content-Length` is the length of the JSON). The binary
form is about a hundred times cheaper: an input is a view of the body, not a copy.

Not carried: strings (`BYTES`), `BF16`, which numpy lacks, and shared memory. JSON has
no NaN and no infinities: an answer in JSON has null in their place.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np

from skerry.core.errors import DataError, StateError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array, Tensors

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""The protocol's name of each dtype that is carried."""

LARGEST_RANK = 16
"""Most dimensions of a tensor."""

_DTYPES = {datatype: np.dtype(dtype) for dtype, datatype in DATATYPES.items()}
_LARGEST_SIZE = 1 << 40
_LONGEST_OPENING = 4096
_SHOWN = 80

if sys.byteorder != "little":  # pragma: no cover
    raise StateError(
        "tensors are carried little-endian, this machine is not",
        hint="Run the gateway on a little-endian machine.",
    )

_Size = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST_SIZE)]


class _TensorParameters(msgspec.Struct, frozen=True):
    tail_bytes: _Size | None = msgspec.field(default=None, name="binary_data_size")
    is_binary: bool | None = msgspec.field(default=None, name="binary_data")


class _Input(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: Annotated[list[_Size], msgspec.Meta(max_length=LARGEST_RANK)]
    parameters: _TensorParameters | None = None
    content: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="data")


class _Output(msgspec.Struct, frozen=True):
    name: str
    parameters: _TensorParameters | None = None


class _Parameters(msgspec.Struct, frozen=True):
    is_binary: bool = msgspec.field(default=False, name="binary_data_output")
    timeout_ms: float | None = None


class _Request(msgspec.Struct, frozen=True):
    inputs: list[_Input]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[_Output] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferRequest:
    """A request whose inputs fit the model.

    Attributes:
        id: The client's name for it, or None.
        inputs: One array an input; views of the body where it was binary.
        outputs: What is asked for, in this order: whether it is to be binary.
        timeout_ms: After how long the answer is of no more use, or None.
    """

    id: str | None
    inputs: dict[str, Array]
    outputs: dict[str, bool]
    timeout_ms: float | None


_decoder = msgspec.json.Decoder(_Request)
_encode = msgspec.json.Encoder().encode


def decode_request(
    body: bytes,
    *,
    head_bytes: int | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> InferRequest:
    """Read a request and check it against a model's signature.

    Args:
        body: All of it.
        head_bytes: The length of the JSON before the tensors' bytes; None where all
            of the body is JSON.
        inputs: The model's inputs.
        outputs: The model's outputs.

    Raises:
        DataError: It is no request, or does not fit the model.
    """
    content = memoryview(body)
    if head_bytes is not None and head_bytes > len(body):
        raise DataError(
            f"the JSON is to have {head_bytes} bytes, the body has {len(body)}",
            hint="Inference-Header-Content-Length is the length of the JSON.",
        )
    try:
        request = _decoder.decode(content[:head_bytes])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(
            f"the body is not a request: {error}",
            hint='Send {"inputs": [{"name", "datatype", "shape", "data"}]}.',
        ) from error
    parameters = request.parameters or _Parameters()
    tail = content[len(body) if head_bytes is None else head_bytes :]
    return InferRequest(
        id=request.id,
        inputs=_read_inputs(request.inputs, inputs, tail),
        outputs=_read_outputs(request.outputs, outputs, parameters),
        timeout_ms=parameters.timeout_ms,
    )


def encode_answer(
    head: Mapping[str, Any], outputs: Tensors, asked: Mapping[str, bool]
) -> tuple[bytes, int | None]:
    """Write an answer.

    Args:
        head: What stands in the JSON before the outputs.
        outputs: What the model gave.
        asked: Which of it to send, in this order, and whether as bytes.

    Returns:
        The body, and the length of the JSON in it, or None where all of it is JSON.
    """
    described: list[dict[str, Any]] = []
    tail: list[memoryview] = []
    for name, is_binary in asked.items():
        flat = np.ascontiguousarray(outputs[name]).reshape(-1)
        entry: dict[str, Any] = {
            "name": name,
            "datatype": DATATYPES[flat.dtype.name],
            "shape": outputs[name].shape,
        }
        if is_binary:
            entry["parameters"] = {"binary_data_size": flat.nbytes}
            tail.append(flat.view(np.uint8).data)
        else:
            entry["data"] = flat.tolist()
        described.append(entry)
    written = _encode({**head, "outputs": described})
    if not tail:
        return written, None
    return b"".join([written, *tail]), len(written)


def describe(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Describe inputs or outputs in the protocol's words; -1 is a size left open."""
    return [
        {
            "name": spec.name,
            "datatype": DATATYPES.get(spec.dtype, "BYTES"),
            "shape": [size if isinstance(size, int) else -1 for size in spec.shape],
        }
        for spec in specs
    ]


def _read_inputs(
    given: Sequence[_Input], specs: Sequence[TensorSpec], tail: memoryview
) -> dict[str, Array]:
    known = {spec.name: spec for spec in specs}
    found: dict[str, Array] = {}
    start = 0
    for entry in given:
        spec = known.get(entry.name)
        if spec is None or entry.name in found:
            raise DataError(
                f"the model has no input {entry.name[:_SHOWN]!r}"
                if spec is None
                else f"the input {entry.name!r} is given twice",
                hint=did_you_mean(entry.name[:_SHOWN], known),
            )
        dtype = _check_fit(entry, spec)
        size_bytes = entry.parameters.tail_bytes if entry.parameters else None
        if size_bytes is None:
            found[entry.name] = _read_json(entry, dtype)
        else:
            piece = tail[start : start + size_bytes]
            found[entry.name] = _read_bytes(entry, dtype, piece, size_bytes)
            start += size_bytes
    for spec in specs:
        if spec.name not in found:
            raise DataError(
                f"the input {spec.name!r} is missing", hint=f"The model takes {spec}."
            )
    if start != len(tail):
        raise DataError(
            f"{len(tail) - start} bytes of the body belong to no input",
            hint="Name the size of each input: parameters.binary_data_size.",
        )
    return found


def _check_fit(entry: _Input, spec: TensorSpec) -> np.dtype[Any]:
    """Compare what a client says of an input with the signature."""
    expected = DATATYPES.get(spec.dtype)
    if expected is None or entry.datatype != expected:
        raise DataError(
            f"input {spec.name!r} is {entry.datatype[:_SHOWN]}, expected "
            f"{expected or spec.dtype}",
            hint=f"Carried are {', '.join(_DTYPES)}.",
        )
    # Nothing times a million is no bytes in, and may be gigabytes out.
    if not spec.accepts(tuple(entry.shape)) or 0 in entry.shape:
        raise DataError(
            f"input {spec.name!r} has shape {entry.shape}, expected {spec}",
            hint="Check the layout, and that the batch axis is there.",
        )
    return _DTYPES[expected]


def _read_bytes(
    entry: _Input, dtype: np.dtype[Any], piece: memoryview, size_bytes: int
) -> Array:
    expected = math.prod(entry.shape) * dtype.itemsize
    if size_bytes != expected or len(piece) != expected:
        raise DataError(
            f"input {entry.name!r} has {min(size_bytes, len(piece))} bytes, expected "
            f"{expected} for {entry.datatype}{entry.shape}",
            hint="The tensors' bytes follow the JSON in the order of the inputs.",
        )
    if dtype == np.bool_:  # any other byte than 0 is true, but 1 is how numpy says it
        truth: Array = np.frombuffer(piece, np.uint8) != 0
        return truth.reshape(entry.shape)
    array: Array = np.frombuffer(piece, dtype).reshape(entry.shape)
    return array if array.flags.aligned else array.copy()


def _read_json(entry: _Input, dtype: np.dtype[Any]) -> Array:
    """Read numbers in one flat list, or in lists nested as the shape says."""
    if not memoryview(entry.content):
        raise DataError(
            f"input {entry.name!r} has no data",
            hint='Give "data", or parameters.binary_data_size and the bytes.',
        )
    depth = _count_openings(memoryview(entry.content))
    if depth not in {1, len(entry.shape)}:
        raise _misshapen(entry, f"lists nested {depth} deep")
    try:
        values = _values_decoder(dtype.kind, depth).decode(entry.content)
        # A number beyond the dtype becomes infinite or is refused, as IEEE 754 and
        # numpy have it; neither is worth a warning.
        with np.errstate(all="ignore"):
            array = _to_array(values, dtype)
    except (
        msgspec.DecodeError,
        OverflowError,
        RecursionError,
        UnicodeDecodeError,
        ValueError,
    ) as error:
        raise _misshapen(entry, f"data that cannot be read: {error}") from error
    shape = tuple(entry.shape)
    if array.shape != shape and (depth != 1 or array.size != math.prod(shape)):
        raise _misshapen(entry, f"numbers of shape {list(array.shape)}")
    return array.reshape(shape)


def _misshapen(entry: _Input, got: str) -> DataError:
    return DataError(
        f"input {entry.name!r} has {got}, expected {entry.datatype}{entry.shape}",
        hint="Give one flat list, or lists nested as the shape says.",
    )


def _to_array(values: Any, dtype: np.dtype[Any]) -> Array:
    if dtype.kind not in "iu":
        return np.array(values, dtype)
    wide = np.array(values, np.uint64 if dtype.kind == "u" else np.int64)
    limits = np.iinfo(dtype)
    if wide.size and (wide.max() > limits.max or wide.min() < limits.min):
        raise OverflowError(f"a number outside {limits.min} to {limits.max}")
    return wide.astype(dtype)


def _count_openings(content: memoryview) -> int:
    depth = 0
    for byte in content[:_LONGEST_OPENING].tobytes():
        if byte == ord("["):
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


@lru_cache(maxsize=256)
def _values_decoder(kind: str, depth: int) -> msgspec.json.Decoder[Any]:
    values: Any = {"b": bool, "f": float}.get(kind, int)
    for _ in range(depth):
        values = list[values]
    return msgspec.json.Decoder(values)


def _read_outputs(
    given: Sequence[_Output] | None,
    specs: Sequence[TensorSpec],
    parameters: _Parameters,
) -> dict[str, bool]:
    known = {spec.name: spec for spec in specs}
    asked: dict[str, bool] = {}
    for entry in [_Output(name) for name in known] if given is None else given:
        spec = known.get(entry.name)
        if spec is None:
            raise DataError(
                f"the model has no output {entry.name[:_SHOWN]!r}",
                hint=did_you_mean(entry.name[:_SHOWN], known),
            )
        if spec.dtype not in DATATYPES:
            raise DataError(
                f"output {spec.name!r} is {spec.dtype}, which is not carried",
                hint=f"Ask for outputs that are {', '.join(_DTYPES)}.",
            )
        own = entry.parameters.is_binary if entry.parameters else None
        asked[entry.name] = parameters.is_binary if own is None else own
    return asked

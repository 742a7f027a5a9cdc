"""Requests and answers of the Open Inference Protocol, version 2, as bytes.

A body is JSON, or JSON followed by the tensors' bytes, little-endian and in row order
(the binary tensor extension, "Binary Tensor Data Extension" in Triton's protocol
documentation; `Inference-Header-Content-Length` is the length of the JSON). The binary
form is about a hundred times cheaper: an input is a view of the body, not a copy. An
input or output may also lie in shared memory that the client has registered (the
system shared-memory extension).

JSON has no NaN and no infinities: an answer in JSON has null in their place. Numbers
of `FP16` and `BF16` go as bytes or as JSON's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array, Tensors
from skerry.edge.protocol.datatypes import (
    DATATYPES,
    SHOWN,
    check_fit,
    datatype_of,
    read_tensor,
    write_tensor,
)
from skerry.edge.protocol.regions import Place, Regions

LARGEST_RANK = 16
"""Most dimensions of a tensor."""

_LARGEST_SIZE = 1 << 40
_LONGEST_OPENING = 4096
_Size = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST_SIZE)]


class _TensorParameters(msgspec.Struct, frozen=True):
    tail_bytes: _Size | None = msgspec.field(default=None, name="binary_data_size")
    is_binary: bool | None = msgspec.field(default=None, name="binary_data")
    region: str | None = msgspec.field(default=None, name="shared_memory_region")
    region_offset: _Size = msgspec.field(default=0, name="shared_memory_offset")
    region_bytes: _Size | None = msgspec.field(
        default=None, name="shared_memory_byte_size"
    )
    classes: int = msgspec.field(default=0, name="classification")

    def place(self) -> Place | None:
        """Where in shared memory the tensor lies, or None."""
        if self.region is None:
            return None
        return Place(
            region=self.region, offset=self.region_offset, size_bytes=self.region_bytes
        )


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
    timeout_us: float | None = msgspec.field(default=None, name="timeout")
    level: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = msgspec.field(
        default=0, name="priority"
    )


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
        inputs: One array an input; views of the body or of shared memory where they
            came as bytes.
        outputs: What is asked for, in this order: whether it is to be binary.
        timeout_ms: After how long the answer is of no more use, or None.
        priority: Higher goes first; 0 unless the request says otherwise.
        places: Where in shared memory outputs are to be put, by name.
        tail_bytes: How many bytes of the body were tensors.
    """

    id: str | None
    inputs: dict[str, Array]
    outputs: dict[str, bool]
    timeout_ms: float | None
    priority: int = 0
    places: Mapping[str, Place] = field(default_factory=dict)
    tail_bytes: int = 0


_decoder = msgspec.json.Decoder(_Request)
_encode = msgspec.json.Encoder().encode


def decode_request(
    body: bytes | bytearray | memoryview,
    *,
    head_bytes: int | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    regions: Regions | None = None,
    tail: memoryview | None = None,
) -> InferRequest:
    """Read a request and check it against a model's signature.

    Args:
        body: All of it; the inputs may be views of it.
        head_bytes: The length of the JSON before the tensors' bytes; None where all
            of the body is JSON.
        inputs: The model's inputs.
        outputs: The model's outputs.
        regions: The shared memory that this client may name; None: none.
        tail: Where the tensors' bytes lie, if not in the body; there may be more.

    Raises:
        DataError: It is no request, or does not fit the model.
    """
    content = memoryview(body)
    if head_bytes is not None and head_bytes > len(content):
        raise DataError(
            f"the JSON is to have {head_bytes} bytes, the body has {len(content)}",
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
    end = len(content) if head_bytes is None else head_bytes
    given = content[end:] if tail is None else tail
    asked, places = _read_outputs(request.outputs, outputs, parameters, regions)
    found, tail_bytes = _read_inputs(request.inputs, inputs, given, regions)
    if tail is None and tail_bytes != len(given):
        raise DataError(
            f"{len(given) - tail_bytes} bytes of the body belong to no input",
            hint="Name the size of each input: parameters.binary_data_size.",
        )
    return InferRequest(
        id=request.id,
        inputs=found,
        outputs=asked,
        timeout_ms=to_timeout_ms(parameters.timeout_ms, parameters.timeout_us),
        priority=to_priority(parameters.level),
        places=places,
        tail_bytes=tail_bytes,
    )


def to_timeout_ms(timeout_ms: float | None, timeout_us: float | None) -> float | None:
    """Join our timeout with Triton's, which is in microseconds; its 0 is none."""
    if timeout_ms is None and timeout_us:
        return timeout_us / 1000
    return timeout_ms


def to_priority(level: int) -> int:
    """Turn Triton's priority level into ours, where higher goes first.

    Its level 1 goes first and 2 after that; 0 is the default. Here 1 is above the
    default, 2 is the default, and what is beyond is background.
    """
    return max(-1, 2 - level) if level else 0


def encode_answer(
    head: Mapping[str, Any],
    outputs: Tensors,
    asked: Mapping[str, bool],
    *,
    places: Mapping[str, Place] | None = None,
    regions: Regions | None = None,
) -> tuple[bytes, int | None]:
    """Write an answer.

    Args:
        head: What stands in the JSON before the outputs.
        outputs: What the model gave.
        asked: Which of it to send, in this order, and whether as bytes.
        places: Where in shared memory outputs are put instead of the answer.
        regions: The shared memory that they name.

    Returns:
        The body, and the length of the JSON in it, or None where all of it is JSON.

    Raises:
        DataError: An output does not fit into its place in shared memory.
    """
    written, tail = write_answer(head, outputs, asked, places=places, regions=regions)
    if not tail:
        return written, None
    return b"".join([written, *tail]), len(written)


def write_answer(
    head: Mapping[str, Any],
    outputs: Tensors,
    asked: Mapping[str, bool],
    *,
    places: Mapping[str, Place] | None = None,
    regions: Regions | None = None,
) -> tuple[bytes, list[memoryview]]:
    """Write an answer as its JSON and the tensors' bytes, which are not copied.

    Args:
        head: What stands in the JSON before the outputs.
        outputs: What the model gave.
        asked: Which of it to send, in this order, and whether as bytes.
        places: Where in shared memory outputs are put instead of the answer.
        regions: The shared memory that they name.

    Raises:
        DataError: An output does not fit into its place in shared memory.
    """
    described: list[dict[str, Any]] = []
    tail: list[memoryview] = []
    for name, is_binary in asked.items():
        array = outputs[name]
        entry: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array.dtype),
            "shape": array.shape,
        }
        place = places.get(name) if places else None
        if place is not None and regions is not None:
            size_bytes = regions.write(place, write_tensor(array), name=name)
            entry["parameters"] = {
                "shared_memory_region": place.region,
                "shared_memory_offset": place.offset,
                "shared_memory_byte_size": size_bytes,
            }
        elif is_binary:
            written = write_tensor(array)
            entry["parameters"] = {"binary_data_size": written.nbytes}
            tail.append(written)
        else:
            entry["data"] = _to_json(array)
        described.append(entry)
    return _encode({**head, "outputs": described}), tail


def _to_json(array: Array) -> list[Any]:
    """The numbers or texts of an array, in one flat list."""
    flat = array.reshape(-1)
    if array.dtype.name == "bfloat16":  # whose numbers are of no kind that JSON knows
        flat = flat.astype(np.float32)
    values: list[Any] = flat.tolist()
    if array.dtype != np.object_:
        return values
    return [
        str(value, "utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in values
    ]


def _read_inputs(
    given: Sequence[_Input],
    specs: Sequence[TensorSpec],
    tail: memoryview,
    regions: Regions | None,
) -> tuple[dict[str, Array], int]:
    known = {spec.name: spec for spec in specs}
    found: dict[str, Array] = {}
    start = 0
    for entry in given:
        spec = known.get(entry.name)
        if spec is None or entry.name in found:
            raise no_input(entry.name, known)
        dtype = check_fit(entry.datatype, entry.shape, spec)
        parameters = entry.parameters
        place = parameters.place() if parameters else None
        size_bytes = parameters.tail_bytes if parameters else None
        if place is not None:
            piece = place.of(regions)
            found[entry.name] = read_tensor(piece, dtype, entry.shape, name=entry.name)
        elif size_bytes is None:
            found[entry.name] = _read_json(entry, dtype)
        else:
            piece = tail[start : start + size_bytes]
            if len(piece) != size_bytes:
                raise _misshapen(entry, f"{len(piece)} of {size_bytes} bytes")
            found[entry.name] = read_tensor(piece, dtype, entry.shape, name=entry.name)
            start += size_bytes
    check_complete(found, specs)
    return found, start


def no_input(name: str, known: Mapping[str, TensorSpec]) -> DataError:
    """The error of an input that the model has not, or not twice."""
    return DataError(
        f"the input {name!r} is given twice"
        if name in known
        else f"the model has no input {name[:SHOWN]!r}",
        hint=did_you_mean(name[:SHOWN], known),
    )


def check_complete(found: Tensors, specs: Sequence[TensorSpec]) -> None:
    """Check that each input is there.

    Raises:
        DataError: One is missing.
    """
    for spec in specs:
        if spec.name not in found:
            raise DataError(
                f"the input {spec.name!r} is missing", hint=f"The model takes {spec}."
            )


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
        values = _values_decoder(_kind_of(dtype), depth).decode(entry.content)
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


def _kind_of(dtype: np.dtype[Any]) -> str:
    return "f" if dtype.name == "bfloat16" else dtype.kind


def _misshapen(entry: _Input, got: str) -> DataError:
    return DataError(
        f"input {entry.name!r} has {got}, expected {entry.datatype}{entry.shape}",
        hint="Give one flat list, or lists nested as the shape says.",
    )


def _to_array(values: Any, dtype: np.dtype[Any]) -> Array:
    if dtype.kind not in "iu":
        array: Array = np.array(values, dtype)
        return array
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
    values: Any = {"b": bool, "f": float, "O": str}.get(kind, int)
    for _ in range(depth):
        values = list[values]
    return msgspec.json.Decoder(values)


def _read_outputs(
    given: Sequence[_Output] | None,
    specs: Sequence[TensorSpec],
    parameters: _Parameters,
    regions: Regions | None,
) -> tuple[dict[str, bool], dict[str, Place]]:
    known = {spec.name: spec for spec in specs}
    asked: dict[str, bool] = {}
    places: dict[str, Place] = {}
    # An empty list asks for all of them, as none does.
    for entry in given or [_Output(name) for name in known]:
        check_output(entry.name, known)
        own = entry.parameters
        if own is not None and own.classes:
            raise no_classes(entry.name)
        place = own.place() if own else None
        if place is not None:
            place.of(regions)
            places[entry.name] = place
        is_binary = own.is_binary if own else None
        asked[entry.name] = parameters.is_binary if is_binary is None else is_binary
    return asked, places


def check_output(name: str, known: Mapping[str, TensorSpec]) -> None:
    """Check that an output that is asked for is there and can be carried.

    Raises:
        DataError: It is not.
    """
    spec = known.get(name)
    if spec is None:
        raise DataError(
            f"the model has no output {name[:SHOWN]!r}",
            hint=did_you_mean(name[:SHOWN], known),
        )
    if spec.dtype not in DATATYPES:
        raise DataError(
            f"output {spec.name!r} is {spec.dtype}, which is not carried",
            hint=f"Ask for outputs that are {', '.join(DATATYPES.values())}.",
        )


def no_classes(name: str) -> DataError:
    """The error of asking for classes (the classification extension)."""
    return DataError(
        f"output {name!r} is asked for as classes, which is not offered",
        hint="Ask for the numbers.",
    )

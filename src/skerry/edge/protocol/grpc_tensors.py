"""Requests and answers of the protocol's gRPC service, as bytes.

Tensors come as `raw_input_contents`, one an input in their order, or as numbers in the
input itself; they go as `raw_output_contents`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.edge.engine import Answer
from skerry.edge.installed import Installed
from skerry.edge.protocol.datatypes import (
    SHOWN,
    check_fit,
    datatype_of,
    read_tensor,
    write_tensor,
)
from skerry.edge.protocol.grpc_messages import INFER_RESPONSE
from skerry.edge.protocol.protobuf import Values, encode_message
from skerry.edge.protocol.regions import Place, Regions
from skerry.edge.protocol.tensors import (
    LARGEST_RANK,
    InferRequest,
    check_complete,
    check_output,
    no_classes,
    no_input,
    to_priority,
    to_timeout_ms,
)

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def read_infer(
    message: Values, installed: Installed, regions: Regions | None
) -> InferRequest:
    """Check a request against a model's signature.

    Args:
        message: A `ModelInferRequest`.
        installed: The release that is to answer.
        regions: The shared memory that this client may name; None: none.

    Raises:
        DataError: It does not fit the model.
    """
    parameters = _parameters(message)
    asked, places = _read_outputs(message, installed.outputs, regions)
    raw = message.get("raw_input_contents", [])
    level = _number(parameters, "priority") or 0
    return InferRequest(
        id=message.get("id") or None,
        inputs=_read_inputs(message, installed.inputs, raw, regions),
        outputs=asked,
        timeout_ms=to_timeout_ms(
            _number(parameters, "timeout_ms"), _number(parameters, "timeout")
        ),
        priority=to_priority(max(0, int(level))),
        places=places,
        tail_bytes=sum(map(len, raw)),
    )


def write_infer(
    answer: Answer, request: InferRequest, regions: Regions | None
) -> Values:
    """Put an answer together, as a `ModelInferResponse`.

    Raises:
        DataError: An output does not fit into its place in shared memory.
    """
    outputs: list[Values] = []
    raw: list[memoryview] = []
    for name in request.outputs:
        array = answer.outputs[name]
        written = write_tensor(array)
        entry: Values = {
            "name": name,
            "datatype": datatype_of(array.dtype),
            "shape": array.shape,
        }
        place = request.places.get(name)
        if place is not None and regions is not None:
            size_bytes = regions.write(place, written, name=name)
            entry["parameters"] = {
                "shared_memory_region": {"string_param": place.region},
                "shared_memory_offset": {"int64_param": place.offset},
                "shared_memory_byte_size": {"int64_param": size_bytes},
            }
            written = memoryview(b"")  # its turn among the bytes stays
        raw.append(written)
        outputs.append(entry)
    return {
        "model_name": answer.release.name,
        "model_version": str(answer.release.version),
        "id": request.id,
        "parameters": {
            "release": {"string_param": str(answer.release)},
            "blob": {"string_param": answer.blob},
        },
        "outputs": outputs,
        "raw_output_contents": raw,
    }


def encode_infer(values: Values) -> bytes:
    """Write a `ModelInferResponse`."""
    return encode_message(values, INFER_RESPONSE)


def _read_inputs(
    message: Values,
    specs: Sequence[TensorSpec],
    raw: Sequence[memoryview],
    regions: Regions | None,
) -> dict[str, Array]:
    known = {spec.name: spec for spec in specs}
    found: dict[str, Array] = {}
    pieces = iter(raw)
    for entry in message.get("inputs", []):
        name = entry.get("name", "")
        spec = known.get(name)
        if spec is None or name in found:
            raise no_input(name, known)
        datatype, shape = entry.get("datatype", ""), entry.get("shape", [])
        if len(shape) > LARGEST_RANK:
            raise DataError(
                f"input {name!r} has {len(shape)} dimensions, expected at most "
                f"{LARGEST_RANK}",
                hint=f"The model takes {spec}.",
            )
        dtype = check_fit(datatype, shape, spec)
        place = _place(_parameters(entry))
        piece = place.of(regions) if place else None
        if piece is None and raw:
            piece = next(pieces, None)
        found[name] = (
            _read_numbers(entry, dtype, shape)
            if piece is None
            else read_tensor(piece, dtype, shape, name=name)
        )
    check_complete(found, specs)
    if (left := sum(1 for _ in pieces)) > 0:
        raise DataError(
            f"{left} of {len(raw)} raw_input_contents belong to no input",
            hint="Send one for each input that is not in shared memory, in order.",
        )
    return found


def _read_numbers(entry: Values, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """Read numbers that stand in the input itself."""
    name, datatype = entry["name"], entry["datatype"]
    values = entry.get("contents", {}).get(_CONTENTS.get(datatype, ""), [])
    if len(values) != math.prod(shape):
        raise DataError(
            f"input {name!r} has {len(values)} numbers, expected {math.prod(shape)} "
            f"for {datatype[:SHOWN]}{list(shape)}",
            hint="Send its bytes in raw_input_contents.",
        )
    try:
        if datatype == "BYTES":
            values = [str(value, "utf-8") for value in values]
        with np.errstate(all="ignore"):
            array: Array = np.array(values, dtype).reshape(shape)
    except (OverflowError, UnicodeDecodeError, ValueError) as error:
        raise DataError(
            f"input {name!r} has numbers that are no {datatype}: {error}",
            hint="Send its bytes in raw_input_contents.",
        ) from error
    return array


def _read_outputs(
    message: Values, specs: Sequence[TensorSpec], regions: Regions | None
) -> tuple[dict[str, bool], dict[str, Place]]:
    known = {spec.name: spec for spec in specs}
    asked: dict[str, bool] = {}
    places: dict[str, Place] = {}
    for entry in message.get("outputs") or [{"name": name} for name in known]:
        name, parameters = entry.get("name", ""), _parameters(entry)
        check_output(name, known)
        if _number(parameters, "classification"):
            raise no_classes(name)
        place = _place(parameters)
        if place is not None:
            place.of(regions)
            places[name] = place
        asked[name] = True
    return asked, places


def _parameters(entry: Values) -> Mapping[str, object]:
    """The parameters of a message, each by its one value."""
    given: Mapping[str, Values] = entry.get("parameters", {})
    return {key: next(iter(value.values()), None) for key, value in given.items()}


def _number(parameters: Mapping[str, object], name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise DataError(
            f"the parameter {name} is {str(value)[:SHOWN]!r}, expected a number",
            hint="Send it as int64_param.",
        )
    return value


def _place(parameters: Mapping[str, object]) -> Place | None:
    region = parameters.get("shared_memory_region")
    if not isinstance(region, str):
        return None
    size_bytes = _number(parameters, "shared_memory_byte_size")
    return Place(
        region=region,
        offset=int(_number(parameters, "shared_memory_offset") or 0),
        size_bytes=int(size_bytes) if size_bytes is not None else None,
    )

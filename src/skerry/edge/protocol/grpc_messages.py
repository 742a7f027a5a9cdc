"""The messages of the protocol's gRPC service, as tables.

The numbers are those of `grpc_service.proto` and `model_config.proto` of the Open
Inference Protocol and of Triton's extensions; what is not spoken here is left out.
"""

from __future__ import annotations

from skerry.edge.protocol.protobuf import Field, Kind, Message

SERVICE = "inference.GRPCInferenceService"
"""The full name of the service."""

TYPE_NUMBERS = {
    "INVALID": 0,
    "BOOL": 1,
    "UINT8": 2,
    "UINT16": 3,
    "UINT32": 4,
    "UINT64": 5,
    "INT8": 6,
    "INT16": 7,
    "INT32": 8,
    "INT64": 9,
    "FP16": 10,
    "FP32": 11,
    "FP64": 12,
    "STRING": 13,
    "BF16": 14,
}
"""The numbers of the enum `DataType` of a model configuration."""


def _one(name: str, kind: Kind = "string") -> Field:
    return Field(name=name, kind=kind)


def _many(name: str, kind: Kind = "string") -> Field:
    return Field(name=name, kind=kind, is_repeated=True)


def _inner(name: str, message: Message) -> Field:
    return Field(name=name, message=message)


def _inners(name: str, message: Message) -> Field:
    return Field(name=name, message=message, is_repeated=True)


def _map(name: str, message: Message) -> Field:
    entry = {1: _one("key"), 2: _inner("value", message)}
    return Field(name=name, message=entry, is_map=True)


EMPTY: Message = {}
LIVE: Message = {1: _one("live", "bool")}
READY: Message = {1: _one("ready", "bool")}
NAMED: Message = {1: _one("name"), 2: _one("version")}
SERVER: Message = {1: _one("name"), 2: _one("version"), 3: _many("extensions")}
_DESCRIBED: Message = {
    1: _one("name"),
    2: _one("datatype"),
    3: _many("shape", "int64"),
}
MODEL: Message = {
    1: _one("name"),
    2: _many("versions"),
    3: _one("platform"),
    4: _inners("inputs", _DESCRIBED),
    5: _inners("outputs", _DESCRIBED),
}

PARAMETER: Message = {
    1: _one("bool_param", "bool"),
    2: _one("int64_param", "int64"),
    3: _one("string_param"),
    4: _one("double_param", "double"),
    5: _one("uint64_param", "uint64"),
}
_PARAMETERS = _map("parameters", PARAMETER)
CONTENTS: Message = {
    1: _many("bool_contents", "bool"),
    2: _many("int_contents", "int32"),
    3: _many("int64_contents", "int64"),
    4: _many("uint_contents", "uint32"),
    5: _many("uint64_contents", "uint64"),
    6: _many("fp32_contents", "float"),
    7: _many("fp64_contents", "double"),
    8: _many("bytes_contents", "bytes"),
}
_TENSOR: Message = {
    1: _one("name"),
    2: _one("datatype"),
    3: _many("shape", "int64"),
    4: _PARAMETERS,
    5: _inner("contents", CONTENTS),
}
INFER_REQUEST: Message = {
    1: _one("model_name"),
    2: _one("model_version"),
    3: _one("id"),
    4: _PARAMETERS,
    5: _inners("inputs", _TENSOR),
    6: _inners("outputs", {1: _one("name"), 2: _PARAMETERS}),
    7: _many("raw_input_contents", "bytes"),
}
INFER_RESPONSE: Message = {
    1: _one("model_name"),
    2: _one("model_version"),
    3: _one("id"),
    4: _PARAMETERS,
    5: _inners("outputs", _TENSOR),
    6: _many("raw_output_contents", "bytes"),
}
STREAM_RESPONSE: Message = {
    1: _one("error_message"),
    2: _inner("infer_response", INFER_RESPONSE),
}

_CONFIG: Message = {
    1: _one("name"),
    2: _one("platform"),
    17: _one("backend"),
    4: _one("max_batch_size", "int32"),
    5: _inners(
        "input", {1: _one("name"), 2: _one("type", "int32"), 4: _many("dims", "int64")}
    ),
    6: _inners(
        "output", {1: _one("name"), 2: _one("type", "int32"), 3: _many("dims", "int64")}
    ),
}
CONFIG: Message = {1: _inner("config", _CONFIG)}

_DURATION: Message = {1: _one("count", "uint64"), 2: _one("ns", "uint64")}
STATISTICS: Message = {
    1: _inners(
        "model_stats",
        {
            1: _one("name"),
            2: _one("version"),
            3: _one("last_inference", "uint64"),
            4: _one("inference_count", "uint64"),
            5: _one("execution_count", "uint64"),
            6: _inner(
                "inference_stats",
                {1: _inner("success", _DURATION), 2: _inner("fail", _DURATION)},
            ),
        },
    )
}

INDEX_REQUEST: Message = {1: _one("repository_name"), 2: _one("ready", "bool")}
INDEX: Message = {
    1: _inners(
        "models",
        {1: _one("name"), 2: _one("version"), 3: _one("state"), 4: _one("reason")},
    )
}
LOAD_REQUEST: Message = {
    1: _one("repository_name"),
    2: _one("model_name"),
    3: _map("parameters", {3: _one("string_param")}),
}

REGION: Message = {
    1: _one("name"),
    2: _one("key"),
    3: _one("offset", "uint64"),
    4: _one("byte_size", "uint64"),
}
REGIONS: Message = {1: _map("regions", REGION)}

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as reference

from skerry.core.errors import DataError
from skerry.edge.protocol import grpc_messages as messages
from skerry.edge.protocol.protobuf import (
    LARGEST_PACKED_BYTES,
    MOST_FIELDS,
    Message,
    decode_message,
    encode_message,
)


def _request() -> Any:
    told = reference.ModelInferRequest(model_name="meter", id="süß")
    told.parameters["priority"].uint64_param = 2
    told.parameters["timeout"].int64_param = -5
    told.parameters["binary"].bool_param = False
    told.parameters["gain"].double_param = 0.5
    tensor = told.inputs.add(name="x", datatype="FP32", shape=[1, 1 << 40, -1])
    tensor.contents.fp32_contents.extend([1.5, -2])
    tensor.contents.int_contents.extend([-1, 0, 1 << 30])
    tensor.contents.uint64_contents.extend([1 << 63, 127, 128])
    tensor.contents.bool_contents.extend([True, False])
    tensor.contents.bytes_contents.extend([b"", b"\xff"])
    told.raw_input_contents.extend([b"abc", b""])
    return told


def test_it_reads_what_the_library_writes() -> None:
    """Each kind of field, packed numbers and maps."""
    got = decode_message(_request().SerializeToString(), messages.INFER_REQUEST)
    assert (got["model_name"], got["id"]) == ("meter", "süß")
    assert got["parameters"] == {
        "priority": {"uint64_param": 2},
        "timeout": {"int64_param": -5},
        "binary": {"bool_param": False},
        "gain": {"double_param": 0.5},
    }
    tensor = got["inputs"][0]
    assert tensor["shape"] == [1, 1 << 40, -1]
    contents = tensor["contents"]
    assert contents["fp32_contents"] == [1.5, -2]
    assert contents["int_contents"] == [-1, 0, 1 << 30]
    assert contents["uint64_contents"] == [1 << 63, 127, 128]
    assert contents["bool_contents"] == [True, False]
    assert [bytes(each) for each in contents["bytes_contents"]] == [b"", b"\xff"]
    assert [bytes(each) for each in got["raw_input_contents"]] == [b"abc", b""]


def test_the_library_reads_what_it_writes() -> None:
    """And it comes out as it was read."""
    written = _request().SerializeToString()
    values = decode_message(written, messages.INFER_REQUEST)
    again = encode_message(values, messages.INFER_REQUEST)
    assert reference.ModelInferRequest.FromString(again) == _request()


def test_bytes_are_views_of_the_message() -> None:
    """A tensor is not copied."""
    content = reference.ModelInferRequest(raw_input_contents=[bytes(99)])
    written = content.SerializeToString()
    got = decode_message(written, messages.INFER_REQUEST)["raw_input_contents"][0]
    whole = np.frombuffer(written, np.uint8)
    assert np.shares_memory(np.frombuffer(got, np.uint8), whole)


def test_unknown_fields_are_passed_over_and_the_last_one_counts() -> None:
    """As the format has it: a newer client may say more."""
    content = reference.ModelInferRequest(model_name="a", id="7").SerializeToString()
    only: Message = {3: messages.INFER_REQUEST[3]}
    again = reference.ModelInferRequest(id="8").SerializeToString()
    assert decode_message(content + again, only) == {"id": "8"}
    fixed = b"\x09" + bytes(8) + b"\x15" + bytes(4)
    assert decode_message(fixed, messages.EMPTY) == {}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x0a\x05ab", "cut off"),
        (b"\x0a", "cut off"),
        (b"\x0a" + b"\xff" * 11, "longer than ten"),
        (b"\x0a\x01\xff", "utf-8"),
        (b"\x08\x01", "wire type 0, expected 2"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x00", "number 0"),
        (b"\x2d" + bytes(4), "is no message"),
        (b"\x2a\x02\x1a\x80", "cut off"),
        (b"\x2a\x04\x1a\x02\x01\x80", "packed number is cut off"),
        (b"\x2a\x0e\x1a\x0c" + b"\xff" * 11 + b"\x01", "longer than ten"),
        (b"\x2a\x06\x2a\x04\x32\x02ab", "multiple of element"),
    ],
)
def test_what_is_no_message_is_refused(content: bytes, what: str) -> None:
    """With an error of our tree."""
    with pytest.raises(DataError, match=what):
        decode_message(content, messages.INFER_REQUEST)


def test_a_message_is_bounded() -> None:
    """In its fields and in its packed numbers: both cost time on the event loop."""
    with pytest.raises(DataError, match=f"more than {MOST_FIELDS} fields"):
        decode_message(b"\x3a\x00" * (MOST_FIELDS + 1), messages.INFER_REQUEST)
    tensor = reference.InferTensorContents(bool_contents=[True] * 9)
    assert decode_message(tensor.SerializeToString(), messages.CONTENTS)
    wide = reference.InferTensorContents(fp64_contents=[0.0]).SerializeToString()
    large = wide[:1] + _varint(LARGEST_PACKED_BYTES + 8)
    with pytest.raises(DataError, match="raw_input_contents"):
        decode_message(large + bytes(LARGEST_PACKED_BYTES + 8), messages.CONTENTS)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def test_the_tables_are_those_of_the_protocol() -> None:
    """Each field has the number and the name that the client's library knows."""
    for table, name in (
        (messages.INFER_REQUEST, "ModelInferRequest"),
        (messages.INFER_RESPONSE, "ModelInferResponse"),
        (messages.CONTENTS, "InferTensorContents"),
        (messages.PARAMETER, "InferParameter"),
        (messages.STREAM_RESPONSE, "ModelStreamInferResponse"),
        (messages.SERVER, "ServerMetadataResponse"),
        (messages.MODEL, "ModelMetadataResponse"),
        (messages.STATISTICS, "ModelStatisticsResponse"),
        (messages.INDEX, "RepositoryIndexResponse"),
        (messages.LOAD_REQUEST, "RepositoryModelLoadRequest"),
        (messages.REGION, "SystemSharedMemoryRegisterRequest"),
        (messages.REGIONS, "SystemSharedMemoryStatusResponse"),
    ):
        _compare(table, getattr(reference, name).DESCRIPTOR)


def _compare(table: Message, descriptor: Any) -> None:
    for number, field in table.items():
        known = descriptor.fields_by_number[number]
        assert known.name == field.name
        assert known.is_repeated == (field.is_repeated or field.is_map)
        if field.message is not None:
            _compare(field.message, known.message_type)

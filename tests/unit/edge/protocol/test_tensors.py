from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.edge.protocol.datatypes import DATATYPES, describe
from skerry.edge.protocol.tensors import InferRequest, decode_request, encode_answer

ROW = TensorSpec(name="x", dtype="float32", shape=(None, 3))
SPECS = (ROW,)
OUTPUTS = (
    TensorSpec(name="y", dtype="float32", shape=("N", 2)),
    TensorSpec(name="text", dtype="complex64", shape=(1,)),
)


def _decode(
    body: object, tail: bytes = b"", *, dtype: str = "float32", head: int | None = -1
) -> InferRequest:
    written = json.dumps(body).encode() if not isinstance(body, bytes) else body
    spec = TensorSpec(name="x", dtype=dtype, shape=(None, 3))
    return decode_request(
        written + tail,
        head_bytes=len(written) if head == -1 else head,
        inputs=(spec,),
        outputs=OUTPUTS[:1],
    )


def _input(**changed: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    tensor |= changed
    return {name: value for name, value in tensor.items() if value is not None}


def _tail(size_bytes: int, **changed: Any) -> dict[str, Any]:
    return _input(data=None, parameters={"binary_data_size": size_bytes}, **changed)


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4.0, 5, 6]]])
def test_json_may_be_flat_or_nested(values: list[Any]) -> None:
    """Both give the same array, of the signature's dtype."""
    request = _decode({"inputs": [_input(shape=[2, 3], data=values)]}, head=None)
    x = request.inputs["x"]
    assert x.dtype == np.float32
    assert x.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert request.outputs == {"y": False}


def test_a_binary_input_is_a_view_of_the_body() -> None:
    """Nothing is copied where the bytes lie as numpy wants them."""
    head = json.dumps({"inputs": [_tail(12)]}).encode()
    head += b" " * (-len(head) % 16)
    content = head + np.arange(3, dtype=np.float32).tobytes()
    request = decode_request(
        content, head_bytes=len(head), inputs=SPECS, outputs=OUTPUTS[:1]
    )
    x = request.inputs["x"]
    assert x.tolist() == [[0, 1, 2]]
    assert np.shares_memory(x, np.frombuffer(content, np.uint8))
    assert not x.flags.writeable


def test_bytes_that_lie_askew_are_copied() -> None:
    """A runtime never sees an array that is not aligned."""
    tail = np.arange(3, dtype=np.float32).tobytes()
    for padding in range(4):
        body = json.dumps({"inputs": [_tail(12)]}).encode() + b" " * padding
        x = _decode(body, tail).inputs["x"]
        assert x.flags.aligned
        assert x.tolist() == [[0, 1, 2]]


def test_any_byte_but_zero_is_true() -> None:
    """A bool of a client's is one of numpy's afterwards."""
    body = {"inputs": [_tail(3, datatype="BOOL")]}
    x = _decode(body, b"\x00\x01\xff", dtype="bool").inputs["x"]
    assert x.view(np.uint8).tolist() == [[0, 1, 1]]


def test_the_request_says_which_outputs_and_how() -> None:
    """Each output's own wish goes before that of the request."""
    outputs = [{"name": "y", "parameters": {"binary_data": False}}]
    body = {
        "id": "7",
        "inputs": [_input()],
        "outputs": outputs,
        "parameters": {"binary_data_output": True, "timeout_ms": 5},
    }
    request = _decode(body, head=None)
    assert (request.id, request.timeout_ms, request.outputs) == ("7", 5, {"y": False})
    del body["outputs"]
    assert _decode(body, head=None).outputs == {"y": True}


BIG = 1 << 70


@pytest.mark.parametrize(
    ("body", "tail", "dtype", "what"),
    [
        (b"", b"", "float32", "not a request"),
        (b"[]", b"", "float32", "Expected `object`, got `array`"),
        (b'{"inputs": ' + b"[" * 9999, b"", "float32", "not a request"),
        (b'{"inputs": [], "id": "\xff"}', b"", "float32", "not a request"),
        ({"inputs": []}, b"", "float32", "'x' is missing"),
        ({"inputs": [_input(name="z")]}, b"", "float32", "no input 'z'"),
        ({"inputs": [_input(), _input()]}, b"", "float32", "given twice"),
        ({"inputs": [_input(datatype="FP16")]}, b"", "float32", "FP16, expected FP32"),
        ({"inputs": [_input(datatype="BYTES")]}, b"", "complex64", "expected complex"),
        ({"inputs": [_input(datatype="BYTES")]}, b"", "object", "cannot be read"),
        ({"inputs": [_input(shape=[3])]}, b"", "float32", r"shape \[3\], expected x"),
        ({"inputs": [_input(shape=[-1, 3])]}, b"", "float32", "not a request"),
        ({"inputs": [_input(shape=[BIG, 3])]}, b"", "float32", "not a request"),
        ({"inputs": [_input(shape=[1] * 99)]}, b"", "float32", "not a request"),
        ({"inputs": [_input(shape=[2, 3])]}, b"", "float32", r"shape \[3\], expected"),
        ({"inputs": [_input(data=None)]}, b"", "float32", "has no data"),
        ({"inputs": [_input(data=[1, 2])]}, b"", "float32", r"shape \[2\], expected"),
        ({"inputs": [_input(data=[[1, 2], [3]])]}, b"", "float32", "inhomogeneous"),
        ({"inputs": [_input(data=[[[1, 2, 3]]])]}, b"", "float32", "nested 3 deep"),
        ({"inputs": [_input(data=7)]}, b"", "float32", "nested 0 deep"),
        ({"inputs": [_input(data=[1, 2, "3"])]}, b"", "float32", "got `str`"),
        ({"inputs": [_input(data=[1, 2, True])]}, b"", "float32", "got `bool`"),
        (
            {"inputs": [_input(data=[1, 2, 256], datatype="UINT8")]},
            b"",
            "uint8",
            "outside 0 to 255",
        ),
        (
            {"inputs": [_input(data=[1, 2, -1], datatype="UINT64")]},
            b"",
            "uint64",
            "input 'x' has",
        ),
        (
            {"inputs": [_input(data=[1, 2, BIG], datatype="INT64")]},
            b"",
            "int64",
            "input 'x' has",
        ),
        ({"inputs": [_tail(12)]}, bytes(11), "float32", "has 11 of 12 bytes"),
        ({"inputs": [_tail(8)]}, bytes(8), "float32", "has 8 bytes, expected 12"),
        ({"inputs": [_tail(12)]}, bytes(13), "float32", "1 bytes of the body belong"),
        ({"inputs": [_tail(-1)]}, b"", "float32", "not a request"),
        ({"inputs": [_input()], "outputs": [{"name": "z"}]}, b"", "float32", "put 'z'"),
    ],
)
def test_what_does_not_fit_is_refused(
    body: object, tail: bytes, dtype: str, what: str
) -> None:
    """With what was got and what was expected, in one line."""
    with pytest.raises(DataError, match=what) as caught:
        _decode(body, tail, dtype=dtype)
    assert len(caught.value.what) < 400


def test_a_head_longer_than_the_body_is_refused() -> None:
    """The length of the JSON is a client's word."""
    with pytest.raises(DataError, match="99 bytes, the body has 2"):
        _decode(b"{}", head=99)


def test_outputs_that_are_no_numbers_are_not_carried() -> None:
    """It is said before anything is run."""
    body = json.dumps({"inputs": [_input()]}).encode()
    with pytest.raises(DataError, match="'text' is complex64"):
        decode_request(body, head_bytes=None, inputs=SPECS, outputs=OUTPUTS)


def test_numbers_beyond_a_float_become_infinite() -> None:
    """As IEEE 754 rounds them; no warning."""
    body = {"inputs": [_input(data=[1e300, -1e300, 0])]}
    assert _decode(body, head=None).inputs["x"].tolist() == [[np.inf, -np.inf, 0]]


def test_an_answer_may_mix_json_and_bytes() -> None:
    """What is not finite is null in JSON, and itself in bytes."""
    outputs: dict[str, Array] = {
        "a": np.array([[1, np.nan]], np.float32),
        "b": np.array(3, np.int64),
        "c": np.zeros((0, 2), np.float16),
        "d": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
    }
    asked = {"a": False, "b": True, "c": True, "d": True}
    written, head_bytes = encode_answer({"model_name": "m"}, outputs, asked)
    assert head_bytes is not None
    head = json.loads(written[:head_bytes])
    assert head["model_name"] == "m"
    assert head["outputs"][0] == {
        "name": "a",
        "datatype": "FP32",
        "shape": [1, 2],
        "data": [1.0, None],
    }
    sizes = [entry["parameters"]["binary_data_size"] for entry in head["outputs"][1:]]
    shapes = [entry["shape"] for entry in head["outputs"][1:]]
    assert (sizes, shapes) == ([8, 0, 6], [[], [0, 2], [3, 2]])
    assert written[head_bytes:] == outputs["b"].tobytes() + bytes([0, 3, 1, 4, 2, 5])


def test_a_signature_is_described_in_the_protocols_words() -> None:
    """Sizes left open are -1; what is not carried is BYTES."""
    assert describe((ROW, OUTPUTS[1])) == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "text", "datatype": "complex64", "shape": [1]},
    ]
    assert len(set(DATATYPES.values())) == len(DATATYPES)


def test_nothing_times_a_million_is_refused() -> None:
    """A shape of no bytes may stand for gigabytes of answer."""
    spec = TensorSpec(name="x", dtype="float32", shape=(None, None))
    for shape, content in (([1 << 40, 0], []), ([0, 0], [])):
        body = json.dumps({"inputs": [_input(shape=shape, data=content)]}).encode()
        with pytest.raises(DataError, match="has shape"):
            decode_request(body, head_bytes=None, inputs=(spec,), outputs=OUTPUTS[:1])

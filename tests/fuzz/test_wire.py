"""Whatever a server says, a client of ours reads it or says why not."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from skerry.app.serving import wire
from skerry.app.serving.wire import Reply
from skerry.core.errors import SkerryError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)
    ),
    max_leaves=8,
)
TENSOR = st.fixed_dictionaries(
    {"name": st.just("y") | JSON},
    optional={
        "datatype": st.sampled_from(["FP32", "BYTES", "BF16", "INT8"]) | JSON,
        "shape": st.lists(st.integers(-2, 9), max_size=4) | JSON,
        "data": JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": JSON}) | JSON,
    },
)
TOLD = st.fixed_dictionaries(
    {},
    optional={
        "outputs": st.lists(TENSOR, max_size=3) | JSON,
        "inputs": st.lists(TENSOR, max_size=3) | JSON,
        "parameters": JSON,
        "error": JSON,
        "code": st.sampled_from(["BusyError", "RefusedError", "struct"]) | JSON,
    },
)


@given(TOLD | JSON, st.binary(max_size=40), st.none() | st.integers(-5, 200))
def test_answers(told: object, tail: bytes, length: int | None) -> None:
    """Outputs are read, or the error is one of the tree."""
    head = json.dumps(told).encode()
    headers = {}
    if length is not None:
        headers[wire_header()] = str(len(head) if length > 100 else length)
    reply = Reply(status=200, headers=headers, body=head + tail)
    with suppress(SkerryError):
        wire.read_outputs(reply)
    assert isinstance(wire.error_of(reply), SkerryError)
    assert wire.failure_of(reply)


@given(TOLD)
def test_metadata(told: dict[str, object]) -> None:
    """Specs are read, or the error is one of the tree."""
    with suppress(SkerryError):
        for spec in wire.read_specs(told.get("inputs")):
            assert all(size is None or size >= 0 for size in spec.shape)


@given(st.binary(max_size=200))
def test_heads(head: bytes) -> None:
    """The head of an answer is one, or the error says that it is none."""
    with suppress(SkerryError):
        wire.read_head(b"HTTP/1.1 " + head)
        wire.read_head(head)


def wire_header() -> str:
    """The header that says how long the JSON is."""
    return "inference-header-content-length"

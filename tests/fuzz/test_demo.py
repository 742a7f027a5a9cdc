"""Whatever comes back from a gateway is read or refused by an error of ours."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from skerry.app.demo.infer import read_answer
from skerry.app.serving.wire import read_head
from skerry.core.errors import DataError

WHOLE = (
    b'{"parameters":{"release":"m/1","blob":"a"},"outputs":[{"name":"y",'
    b'"parameters":{"binary_data_size":8}}]}' + bytes(8)
)


@given(st.binary(max_size=300))
def test_any_head(head: bytes) -> None:
    """Any bytes as the head of an answer."""
    with suppress(DataError):
        read_head(head)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_answer(body: bytes, head_bytes: int) -> None:
    """Any bytes as a body."""
    with suppress(DataError):
        read_answer(head_bytes, body, "y")


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_one_changed_byte(place: int, value: int) -> None:
    """An answer with one byte changed."""
    body = bytearray(WHOLE)
    body[place] = value
    with suppress(DataError):
        assert len(read_answer(len(WHOLE) - 8, bytes(body), "y").outputs) <= 2

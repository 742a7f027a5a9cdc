"""No request, however odd, is more than the client's fault; tensors come back whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.edge.engine import Engine
from skerry.edge.protocol.datatypes import DATATYPES
from skerry.edge.protocol.http import make_app
from skerry.edge.protocol.tensors import decode_request, encode_answer
from tests.serving import Response, ScriptedRuntime, ask, binary_body, install

GOOD, HEADERS = binary_body()
LENGTH = "inference-header-content-length"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "datatype", "shape", "data", "parameters", "binary_data_size"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {"name": st.just("x") | st.text(max_size=3)},
    optional={
        "datatype": st.just("FP32") | st.sampled_from(sorted(DATATYPES.values())),
        "shape": st.just([1, 4]) | st.lists(st.integers(-2, 9), max_size=4),
        "data": JSON | st.lists(st.floats(width=32), min_size=4, max_size=4),
        "parameters": JSON
        | st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40)}),
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | JSON},
    optional={"id": JSON, "outputs": JSON, "parameters": JSON},
)
PATHS = st.sampled_from(
    [
        "/v2/models/meter/infer",
        "/v2/models/meter/versions/1/infer",
        "/v2/models/meter",
        "/v2",
        "",
    ]
) | st.text(max_size=20).map(lambda text: f"/v2/models/{text}")
HEADER = st.sampled_from(
    [LENGTH, "content-length", "content-encoding", "skerry-timeout-ms", "authorization"]
)
TEXT = st.text(st.characters(max_codepoint=255), max_size=12)
NUMBER = st.integers(-3, 300).map(str)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Take a good request and overwrite, insert or cut off some of it."""
    content = bytearray(GOOD)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=6))
        end = draw(st.sampled_from([start, start + len(piece), len(content)]))
        content[start:end] = piece
    return bytes(content)


def _ask_all(requests: list[tuple[str, str, bytes, dict[str, str]]]) -> list[Response]:
    async def whole() -> list[Response]:
        with TemporaryDirectory() as folder:
            engine = Engine(clock=SystemClock(), runtimes=lambda _: ScriptedRuntime())
            engine.switch(engine.prepare(install(Path(folder))))
            app = make_app(engine, largest_body_bytes=4096)
            answers = [await ask(app, *request, pieces=2) for request in requests]
            # The service outlives whatever came before.
            path = "/v2/models/meter/infer"
            answers.append(await ask(app, "POST", path, GOOD, HEADERS))
            engine.close()
            return answers

    return asyncio.run(whole())


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.just("POST") | st.sampled_from(["GET", "HEAD", "PUT", ""]),
            PATHS,
            damaged()
            | st.binary(max_size=60)
            | REQUESTS.map(lambda request: json.dumps(request).encode()),
            st.just(HEADERS)
            | st.just({})
            | st.dictionaries(HEADER, TEXT | NUMBER, max_size=3),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_request_breaks_the_service(
    requests: list[tuple[str, str, bytes, dict[str, str]]],
) -> None:
    """Each gets an answer below 500, or too late; the next client is served."""
    *answers, last = _ask_all(requests)
    for answer in answers:
        assert 200 <= answer.status < 500 or answer.status in {503, 504}
        assert b"Traceback" not in answer.body
        if answer.status >= 400 and answer.body:
            assert set(answer.json) == {"error", "code", "hint"}
    assert last.status == 200


@given(damaged(), st.none() | st.integers(0, 200))
def test_a_damaged_body_is_read_or_refused(body: bytes, head_bytes: int | None) -> None:
    """The decoder gives arrays that fit the signature, or an error of our tree."""
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 4))
    try:
        request = decode_request(
            body, head_bytes=head_bytes, inputs=(spec,), outputs=(spec,)
        )
    except SkerryError as error:
        assert error.hint  # noqa: PT017 (the error is one of two right answers)
        return
    assert request.inputs["x"].dtype == np.float32
    assert spec.accepts(request.inputs["x"].shape)


def _arrays(dtype: str) -> st.SearchStrategy[Array]:
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)
    if dtype == "bfloat16":
        numbers = arrays.arrays("float32", shapes)
        return numbers.map(lambda array: array.astype(ml_dtypes.bfloat16))
    words = st.text(st.characters(codec="utf-8")) if dtype == "object" else None
    return arrays.arrays(dtype, shapes, elements=words)


@given(st.sampled_from(sorted(DATATYPES)).flatmap(_arrays), st.booleans())
def test_tensors_come_back_whole(array: Array, is_binary: bool) -> None:  # noqa: FBT001
    """What an answer carries, a request carries back, in either form."""
    spec = TensorSpec(
        name="x", dtype=array.dtype.name, shape=tuple([None] * array.ndim)
    )
    if not is_binary and array.dtype.name == "bfloat16":
        array = np.ones_like(array)
    if not is_binary and array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=0, posinf=1, neginf=-1)
    if not is_binary and array.ndim == 0:
        array = array.reshape(1)
        spec = TensorSpec(name="x", dtype=spec.dtype, shape=(None,))
    written, head_bytes = encode_answer({}, {"x": array}, {"x": is_binary})
    head: dict[str, Any] = json.loads(written[:head_bytes])
    body = json.dumps({"inputs": head["outputs"]}).encode()
    tail = written[head_bytes:] if head_bytes is not None else b""
    request = decode_request(
        body + tail,
        head_bytes=len(body) if is_binary else None,
        inputs=(spec,),
        outputs=(),
    )
    back = request.inputs["x"]
    assert back.dtype == array.dtype
    if array.dtype.name == "bfloat16":  # numpy takes its NaNs for unequal
        back, array = back.astype(np.float32), array.astype(np.float32)
    np.testing.assert_array_equal(back, array)

"""Every decoder of the inference protocol's faces reads or refuses, whatever comes."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as reference

from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.edge.engine import Engine
from skerry.edge.protocol import grpc_messages as messages
from skerry.edge.protocol.client import _read_told
from skerry.edge.protocol.datatypes import unpack_strings
from skerry.edge.protocol.grpc_tensors import read_infer
from skerry.edge.protocol.http import make_app
from skerry.edge.protocol.local import _Client, _read_hello
from skerry.edge.protocol.protobuf import decode_message, encode_message
from skerry.edge.protocol.regions import Place, Region, Regions
from skerry.edge.protocol.routes import find_route
from skerry.edge.protocol.service import InferenceService
from tests.serving import Response, ScriptedRuntime, X, ask, binary_body, install

GOOD = reference.ModelInferRequest(
    model_name="meter",
    id="7",
    inputs=[{"name": "x", "datatype": "FP32", "shape": X.shape}],
    outputs=[{"name": "y"}],
    raw_input_contents=[X.tobytes()],
)
GOOD.parameters["timeout"].int64_param = 9_000_000
WRITTEN = GOOD.SerializeToString()
WORDS = st.sampled_from(
    [
        *("v2", "models", "meter", "versions", "1", "infer", "stats", "config"),
        *("repository", "index", "load", "unload", "predict", "metrics", "", ".."),
        *("systemsharedmemory", "cudasharedmemory", "region", "r", "status"),
        *("register", "unregister", "health", "live", "ready"),
    ]
)
PATHS = st.lists(WORDS | st.text(max_size=5), max_size=7).map("/".join)


@st.composite
def damaged(draw: st.DrawFn, good: bytes = WRITTEN) -> bytes:
    """Take something good and overwrite, insert or cut off some of it."""
    content = bytearray(good)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=6))
        end = draw(st.sampled_from([start, start + len(piece), len(content)]))
        content[start:end] = piece
    return bytes(content)


@given(st.binary(max_size=60) | damaged())
def test_a_message_is_read_or_refused(content: bytes) -> None:
    """And what was read can be written, and is read alike again."""
    try:
        got = decode_message(content, messages.INFER_REQUEST)
    except SkerryError as error:
        assert error.hint  # noqa: PT017 (one of two right answers)
        return
    written = encode_message(got, messages.INFER_REQUEST)
    assert _plain(decode_message(written, messages.INFER_REQUEST)) == _plain(got)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value != value:  # noqa: PLR0124 (it is NaN)
        return "NaN"
    return bytes(value) if isinstance(value, memoryview) else value


@given(damaged())
def test_it_reads_as_the_library_does(content: bytes) -> None:
    """Where both read it, they read the same names and bytes."""
    try:
        got = decode_message(content, messages.INFER_REQUEST)
        known = reference.ModelInferRequest.FromString(content)
    except Exception:  # noqa: BLE001 (either may refuse what the other lets pass)
        return
    assert got.get("model_name", "") == known.model_name
    raw = [bytes(each) for each in got.get("raw_input_contents", [])]
    assert raw == list(known.raw_input_contents)
    shapes = [entry.get("shape", []) for entry in got.get("inputs", [])]
    assert shapes == [list(entry.shape) for entry in known.inputs]


@settings(max_examples=60)
@given(st.lists(damaged(), min_size=1, max_size=8))
def test_a_request_fits_or_is_refused(contents: list[bytes]) -> None:
    """Its arrays have the signature's dtype and a shape that it accepts."""
    with TemporaryDirectory() as folder:
        installed = install(Path(folder))
        spec = installed.model.inputs[0]
        for content in contents:
            try:
                message = decode_message(content, messages.INFER_REQUEST)
                request = read_infer(message, installed, Regions())
            except SkerryError as error:
                assert error.hint  # noqa: PT017 (one of two right answers)
                continue
            assert request.inputs["x"].dtype == np.float32
            assert spec.accepts(request.inputs["x"].shape)


@given(PATHS | st.text(max_size=40))
def test_a_path_leads_somewhere_or_nowhere(path: str) -> None:
    """And never to a name that is empty where one is needed."""
    route = find_route(path)
    if route is not None and route.kind in {"infer", "model", "load"}:
        assert route.name


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "POST", "HEAD"]),
            PATHS.map(lambda path: f"/v2/{path}"),
            st.binary(max_size=40)
            | damaged(b'{"key": "/k", "offset": 0, "byte_size": 16}')
            | damaged(zlib.compress(binary_body()[0])),
            st.dictionaries(
                st.sampled_from(
                    ["content-encoding", "accept-encoding", "skerry-priority"]
                ),
                st.sampled_from(["gzip", "deflate", "br", "1", "-1", "9999", "x"]),
                max_size=2,
            ),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_no_command_breaks_the_service(
    requests: list[tuple[str, str, bytes, dict[str, str]]],
) -> None:
    """Each gets an answer below 500, and the next client is served."""

    async def whole() -> list[Response]:
        with TemporaryDirectory() as folder:
            engine = Engine(clock=SystemClock(), runtimes=lambda _: ScriptedRuntime())
            engine.switch(engine.prepare(install(Path(folder))))
            regions = Regions(folder=Path(folder))
            app = make_app(engine, largest_body_bytes=4096, regions=regions)
            answers = [await ask(app, *request) for request in requests]
            body, headers = binary_body()
            answers.append(
                await ask(app, "POST", "/v2/models/meter/infer", body, headers)
            )
            engine.close()
            return answers

    *answers, last = asyncio.run(whole())
    for answer in answers:
        assert 200 <= answer.status < 500
    assert last.status == 200


NUMBER = st.integers(-(1 << 40), 1 << 40) | st.integers(-9, 40)
TEXT = st.text(max_size=4) | st.sampled_from(["k", "/k", "../k", "r"])


REGIONS = st.builds(Region, name=TEXT, key=TEXT, offset=NUMBER, size_bytes=NUMBER)


@given(REGIONS, NUMBER, st.none() | NUMBER)
def test_a_place_is_within_its_object_or_refused(
    region: Region, at: int, length: int | None
) -> None:
    """No view reaches beyond the bytes that are there."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "k"
        path.write_bytes(bytes(range(16)))
        regions = Regions(folder=Path(folder))
        try:
            regions.register(region)
            view = regions.view(Place(region=region.name, offset=at, size_bytes=length))
        except SkerryError as error:
            assert error.hint  # noqa: PT017 (one of two right answers)
            return
        finally:
            regions.unregister()
        assert (
            bytes(view)
            == path.read_bytes()[region.offset :][: region.size_bytes][at:][: len(view)]
        )
        assert length in {None, len(view)}


@given(st.binary(max_size=60), st.lists(st.integers(0, 5), max_size=3))
def test_strings_are_read_or_refused(content: bytes, shape: list[int]) -> None:
    """As many as the shape says, each whole."""
    try:
        array = unpack_strings(memoryview(content), shape, name="x")
    except SkerryError:
        return
    assert array.shape == tuple(shape)


class _Wire:
    """A connection that keeps what is sent."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.sent: list[bytes] = []

    def send(self, packet: bytes) -> int:
        self.sent.append(packet)
        return len(packet)


PACKET = (
    b'{"model_name": "meter", "inputs": [{"name": "x", "datatype": "FP32", '
    b'"shape": [1, 4], "parameters": {"binary_data_size": 16}}]}'
)


@settings(max_examples=60)
@given(st.lists(damaged(PACKET) | st.binary(max_size=40), min_size=1, max_size=6))
def test_a_packet_is_answered_or_refused(packets: list[bytes]) -> None:
    """By an answer or one of our errors, which the client can read."""

    async def whole() -> list[bytes]:
        with TemporaryDirectory() as folder:
            engine = Engine(clock=SystemClock(), runtimes=lambda _: ScriptedRuntime())
            engine.switch(engine.prepare(install(Path(folder))))
            service = InferenceService(engine)
            client = _Client.__new__(_Client)
            client._service = service
            told = []
            for packet in packets:
                wire = _Wire(packet)
                client._connection = wire  # type: ignore[assignment]
                client._clients = {client}
                await client._answer(packet, memoryview(bytearray(64)))
                told += wire.sent
            engine.close()
            return told

    for told in asyncio.run(whole()):
        read = _read_told(told)
        assert read.error or read.outputs


@given(st.binary(max_size=50) | damaged(b'{"protocol": 1, "slot_bytes": 64}'))
def test_a_hello_is_read_or_refused(packet: bytes) -> None:
    """By the errors that the service turns into a refusal."""
    try:
        hello = _read_hello(packet)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert isinstance(hello.slot_bytes, int)

"""The client's end of the protocol: what is odd is an error of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from skerry.app.serving.bench import BenchPlan, run_bench
from skerry.app.serving.load import LoadPlan
from skerry.app.serving.wire import (
    Connection,
    Reply,
    Request,
    ask_json,
    choose_model,
    describe_model,
    error_of,
    failure_of,
    infer_request,
    model_path,
    read_outputs,
)
from skerry.comms.asgi import serve
from skerry.core.clock import SystemClock
from skerry.core.errors import (
    BusyError,
    DataError,
    LinkError,
    StateError,
    UsageError,
)
from skerry.edge.engine import Engine
from skerry.edge.protocol.http import make_http
from skerry.edge.protocol.service import InferenceService
from tests.serving import ScriptedRuntime, X, install

T = TypeVar("T")


def _with_service(folder: Path, use: Callable[[str], Awaitable[T]], **script: int) -> T:
    """Ask a service that doubles four numbers, and wants the token `open`."""

    async def run() -> T:
        engine = Engine(clock=SystemClock(), runtimes=lambda _: ScriptedRuntime())
        engine.switch(engine.prepare(install(folder, **script)))
        service = InferenceService(engine, token="open")  # noqa: S106
        async with serve(make_http(service)) as server:
            try:
                return await use(server.address)
            finally:
                engine.close()

    return asyncio.run(run())


def test_a_model_is_described_and_asked(tmp_path: Path) -> None:
    """Tensors go and come as bytes over one connection, and the answer says whose."""

    async def use(address: str) -> tuple[str, float]:
        connection = Connection(f"{address}/", token="open")  # noqa: S106
        model = await describe_model(connection, "meter")
        assert [str(spec) for spec in model.inputs] == ["x float32[?×4]"]
        for timeout_ms in (None, 5000.0):
            request = infer_request("meter", {"x": X}, timeout_ms=timeout_ms)
            release, outputs = read_outputs(await connection.ask(request))
        with pytest.raises(
            UsageError, match="nothing is served under the name 'metre'"
        ):
            await describe_model(connection, "metre")
        with pytest.raises(UsageError, match="no repository"):
            await choose_model(connection)
        connection.close()
        return release, float(np.abs(outputs["y"] - X * 2).max())

    assert _with_service(tmp_path, use) == ("meter/1", 0.0)


def test_a_wrong_token_is_an_error_of_use(tmp_path: Path) -> None:
    """The server's own words are shown."""

    async def use(address: str) -> None:
        connection = Connection(address)
        with pytest.raises(UsageError, match="token"):
            await ask_json(connection, "/v2")
        connection.close()

    _with_service(tmp_path, use)


def test_the_first_refusal_ends_a_bench(tmp_path: Path) -> None:
    """A load that can only fail is not begun: the server's error is the result."""

    async def use(address: str) -> None:
        plan = BenchPlan(
            url=address,
            model="meter",
            token="open",  # noqa: S106
            shapes={"x": (1, 4)},
            load=LoadPlan(clients=1, duration_s=0.1),
        )
        found = await run_bench(plan, target="here")
        assert found.count > 0
        assert found.cpu_ms_per_request is None  # it says no process
        for wrong, kind in (
            ({"model": "metre"}, UsageError),
            ({"shapes": {"x": (1, 5)}}, UsageError),
            ({"face": "grpc"}, UsageError),
            ({"face": "local"}, UsageError),
            ({"input_file": tmp_path / "none.png"}, DataError),
        ):
            fields = {name: getattr(plan, name) for name in plan.__slots__} | wrong
            with pytest.raises(kind):
                await run_bench(BenchPlan(**fields), target="here")

    _with_service(tmp_path, use)


def _answer_with(content: bytes) -> str | None:
    """Ask a server that says these bytes; gives the error, or nothing."""

    async def run() -> str | None:
        async def say(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            asked = await reader.readuntil(b"\r\n\r\n")
            # With the port, where it is not that of the scheme (RFC 9110, 7.2).
            assert f"\r\nHost: 127.0.0.1:{port}\r\n".encode() in asked
            writer.write(content)
            writer.close()

        server = await asyncio.start_server(say, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connection = Connection(f"http://127.0.0.1:{port}")
        try:
            await ask_json(connection, "/v2")
        except (DataError, LinkError, StateError) as error:
            return type(error).__name__
        finally:
            connection.close()
            server.close()
            await server.wait_closed()
        return None

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", None),
        (b"", "LinkError"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "DataError"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "DataError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n{}", "DataError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "DataError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "LinkError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7", "DataError"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "StateError"),
        (b"HTTP/1.1 " + b"x" * 200_000, "LinkError"),
    ],
)
def test_a_server_of_another_kind(said: bytes, error: str | None) -> None:
    """Whatever comes over the wire is an answer or an error of the tree."""
    assert _answer_with(said) == error


@pytest.mark.parametrize(
    "url",
    ["ftp://host", "http://", "http://[::1", "http://host:port", "http://h:99999"],
)
def test_what_is_no_url(url: str) -> None:
    """It is an error of use before anybody is asked."""
    with pytest.raises(UsageError, match="no URL"):
        Connection(url)


def _reply(status: int, **fields: str) -> Reply:
    return Reply(status=status, headers={}, body=json.dumps(fields).encode())


def test_an_error_comes_back_as_what_it_was() -> None:
    """The kind that the server names, if it is one; else by the status."""
    busy = error_of(_reply(429, error="full", code="BusyError", hint="Wait."))
    assert isinstance(busy, BusyError)
    assert (busy.what, busy.hint) == ("full", "Wait.")
    for code in ("MissingExtraError", "RefusedError", "SkerryError", "annotations", ""):
        assert type(error_of(_reply(404, error="no", code=code))) is UsageError
        assert type(error_of(_reply(500, error="no", code=code))) is StateError
    assert failure_of(_reply(504, code="LateError")) == "LateError"
    assert failure_of(Reply(status=502, headers={}, body=b"<html>")) == "status 502"


def test_names_are_quoted() -> None:
    """No name leads to another path."""
    assert model_path("a/../b", 3, "infer") == "/v2/models/a%2F..%2Fb/versions/3/infer"


def test_json_tensors_are_understood() -> None:
    """Servers that do not know the binary extension answer in JSON."""
    body = json.dumps(
        {
            "model_name": "m",
            "model_version": "7",
            "outputs": [
                {"name": "y", "datatype": "INT64", "shape": [2], "data": [3, 4]}
            ],
        }
    ).encode()
    release, outputs = read_outputs(Reply(status=200, headers={}, body=body))
    assert release == "m/7"
    assert outputs["y"].tolist() == [3, 4]


def test_nobody_listens() -> None:
    """It is an error of the network, with the address."""

    async def run() -> None:
        request = Request(path="/", headers={}, body=b"")
        with pytest.raises(LinkError, match="no answer from"):
            await Connection("http://127.0.0.1:9").ask(request, timeout_s=5)

    asyncio.run(run())

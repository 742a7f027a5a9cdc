"""The demo's client: the gateways' own words, over a real socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from skerry.app.demo.infer import Client, read_answer, write_request
from skerry.app.serving.wire import read_head
from skerry.core.errors import DataError, LinkError
from skerry.core.model import TensorSpec
from skerry.edge.protocol.tensors import decode_request, encode_answer

INPUT = TensorSpec(name="picture", dtype="float32", shape=("batch", 1, 2, 2))
OUTPUT = TensorSpec(name="logits", dtype="float32", shape=("batch", 3))
OTHER = TensorSpec(name="embedding", dtype="float32", shape=("batch", 5))
PICTURE = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
LOGITS = np.array([[1, 2, 3]], np.float32)
HEAD = {"parameters": {"release": "meter/1", "blob": "a" * 64}}


def answer(*, names: tuple[str, ...] = ("logits",)) -> tuple[bytes, int]:
    """What a gateway writes."""
    outputs = {"logits": LOGITS, "embedding": np.zeros((1, 5), np.float32)}
    body, head_bytes = encode_answer(HEAD, outputs, dict.fromkeys(names, True))
    assert head_bytes is not None
    return body, head_bytes


def test_a_gateway_reads_what_is_written() -> None:
    """The request has the picture in it and asks for one output, binary."""
    head_bytes, body = write_request("picture", PICTURE, "logits")
    request = decode_request(
        body, head_bytes=head_bytes, inputs=[INPUT], outputs=[OUTPUT, OTHER]
    )
    np.testing.assert_array_equal(request.inputs["picture"], PICTURE)
    assert request.outputs == {"logits": True}


def test_what_a_gateway_writes_is_read() -> None:
    """Also where another output stands before the one that was asked for."""
    body, head_bytes = answer(names=("embedding", "logits"))
    found = read_answer(head_bytes, body, "logits")
    np.testing.assert_array_equal(found.outputs, LOGITS[0])
    assert (found.release, found.blob) == ("meter/1", "a" * 64)


@pytest.mark.parametrize(
    ("body", "head_bytes"),
    [
        (b"", 0),
        (b"[]", 2),
        (b"{}", 2),
        (b'{"parameters": {}, "outputs": [3]}', 33),
        (answer(names=("embedding",))),
        (answer()[0][:-4], answer()[1]),
    ],
)
def test_a_damaged_answer_is_told(body: bytes, head_bytes: int) -> None:
    """Nothing, no object, no outputs, another output, one cut short."""
    with pytest.raises(DataError):
        read_answer(head_bytes, body, "logits")


def test_heads_of_answers() -> None:
    """The status and the headers; what is none is told."""
    status, headers = read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
    assert (status, headers) == (200, {"content-length": "3"})
    with pytest.raises(DataError, match="no HTTP answer"):
        read_head(b"SSH-2.0\r\n\r\n")


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ask(talk: Talk, times: int = 1) -> list[object]:
    """Ask a server of one's own; gives answers and errors in order."""

    async def case() -> list[object]:
        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            try:
                await talk(reader, writer)
            except asyncio.IncompleteReadError:
                pass  # the client has left
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}", model="meter", output="logits")
        found: list[object] = []
        for _ in range(times):
            try:
                found.append(await client.infer("picture", PICTURE))
            except (LinkError, DataError) as error:
                found.append(error)
        client.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)
        return found

    return asyncio.run(case())


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, headers = read_head(head.replace(b"POST", b"HTTP/1.1 200", 1))
    return head + await reader.readexactly(int(headers["content-length"]))


def respond(body: bytes, head_bytes: int, status: str = "200 OK") -> bytes:
    """Write an HTTP answer."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {head_bytes}\r\n\r\n"
    ).encode() + body


def test_one_connection_serves_many_requests() -> None:
    """It is kept from request to request."""
    connections = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        while True:
            request = await read_request(reader)
            assert request.startswith(b"POST /v2/models/meter/infer HTTP/1.1")
            writer.write(respond(*answer()))

    assert not any(isinstance(found, Exception) for found in ask(talk, 3))
    assert len(connections) == 1


def test_a_refusal_and_a_broken_connection_are_told() -> None:
    """A status that is not 200; an answer that breaks off."""

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await read_request(reader)
        writer.write(respond(b'{"error": "busy"}', 0, "429 Too Many Requests"))

    async def break_off(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await read_request(reader)
        writer.write(respond(*answer())[:-5])

    for talk, words in ((refuse, "status 429.*busy"), (break_off, "no answer")):
        (found,) = ask(talk)
        assert isinstance(found, LinkError)
        assert re.search(words, found.what)


def test_nobody_there_is_a_link_error() -> None:
    """As while a naive server is restarted."""

    async def case() -> None:
        client = Client("http://127.0.0.1:9", model="meter", output="logits")
        with pytest.raises(LinkError, match="no answer from"):
            await client.infer("picture", PICTURE)

    asyncio.run(case())

"""A client of the gateways: the Open Inference Protocol with binary tensors.

The wire is HTTP/1.1 on a connection that is kept; a request and its answer are a JSON
header followed by raw little-endian tensors, as the protocol's binary tensor extension
has it (Open Inference Protocol v2, "Binary tensor data extension").
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.documents import parse_object
from skerry.core.errors import DataError, LinkError

LARGEST_HEAD_BYTES = 16 * 1024
LARGEST_ANSWER_BYTES = 1 << 20
TIMEOUT_S = 5.0

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a gateway said.

    Attributes:
        release: `NAME/VERSION` of what computed it.
        blob: SHA-256 of the model file that computed it.
        outputs: float32 of the output that was asked for, flat.
    """

    release: str
    blob: str
    outputs: Floats


class Client:
    """One connection to a gateway, opened with the first request.

    Args:
        address: The gateway's URL.
        model: The name of the model.
        output: The output that is wanted.
    """

    def __init__(self, address: str, *, model: str, output: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._path = f"/v2/models/{model}/infer"
        self._output = output
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def infer(self, name: str, array: Floats) -> Answer:
        """Ask for one inference.

        Args:
            name: The input's name.
            array: float32 with a batch axis of 1.

        Raises:
            LinkError: No connection, no answer in time, or a status other than 200.
            DataError: The answer is not one of the protocol.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                head, body = await self._exchange(
                    write_request(name, array, self._output)
                )
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
            self.close()
            raise LinkError(
                f"no answer from {self._host}:{self._port}: "
                f"{str(e) or type(e).__name__}",
                hint="Is it running?",
            ) from e
        except BaseException:
            self.close()
            raise
        return read_answer(head, body, self._output)

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, request: tuple[int, bytes]) -> tuple[int, bytes]:
        header_bytes, body = request
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(
            (
                f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
                "Content-Type: application/octet-stream\r\n"
                f"Inference-Header-Content-Length: {header_bytes}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode()
            + body
        )
        await writer.drain()
        status, headers = read_head(await reader.readuntil(b"\r\n\r\n"))
        size = _number(headers, "content-length")
        if size > LARGEST_ANSWER_BYTES:
            raise DataError(f"an answer of {size} bytes", hint="Is it a gateway?")
        content = await reader.readexactly(size)
        if status != 200:
            said = content[:200].decode("utf-8", "replace")
            raise LinkError(f"status {status}: {said}", hint="Look at its log.")
        return _number(headers, "inference-header-content-length"), content


def write_request(name: str, array: Floats, output: str) -> tuple[int, bytes]:
    """Write a request: the length of its JSON header, and header plus tensor."""
    tensor = array.astype("<f4").tobytes()
    header = msgspec.json.encode(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": array.shape,
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(tensor)},
                }
            ],
            "outputs": [{"name": output, "parameters": {"binary_data": True}}],
        }
    )
    return len(header), header + tensor


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Read the status and the headers of an HTTP answer.

    Raises:
        DataError: It is not one.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    is_http = len(words) > 1 and words[0].startswith("HTTP/1.")
    if not is_http or not (words[1].isascii() and words[1].isdigit()):
        raise DataError(f"{first[:80]!r} is no HTTP answer", hint="Is it a gateway?")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return int(words[1][:3]), {
        name.strip().lower(): value.strip() for name, _, value in pairs
    }


def read_answer(header_bytes: int, body: bytes, output: str) -> Answer:
    """Read an answer of the protocol.

    Args:
        header_bytes: How long its JSON header is.
        body: All of it.
        output: The output that was asked for.

    Raises:
        DataError: It is damaged, or the output or the release is not in it.
    """
    header = parse_object(body[:header_bytes], name="the answer")
    parameters = header.get("parameters")
    tensors = header.get("outputs")
    if not isinstance(parameters, dict) or not isinstance(tensors, list):
        raise DataError(
            "the answer names no release or no outputs", hint="Is it a gateway?"
        )
    rest = body[header_bytes:]
    for tensor in tensors:
        if not isinstance(tensor, dict):
            break
        told = tensor.get("parameters")
        size = told.get("binary_data_size") if isinstance(told, dict) else None
        if not isinstance(size, int) or size < 0 or size % 4 or size > len(rest):
            break
        if tensor.get("name") == output:
            return Answer(
                release=str(parameters.get("release", "")),
                blob=str(parameters.get("blob", "")),
                outputs=np.frombuffer(rest[:size], "<f4").astype(np.float32),
            )
        rest = rest[size:]
    raise DataError(
        f"the answer holds no binary float output {output!r}",
        hint="Is it a gateway?",
    )


def _number(headers: dict[str, str], name: str) -> int:
    text = headers.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise DataError(f"the answer has {name} {text!r}", hint="Is it a gateway?")
    return int(text)

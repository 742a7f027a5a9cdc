"""A client of the gateways: the Open Inference Protocol with binary tensors.

The wire is HTTP/1.1 on a connection that is kept; a request and its answer are a JSON
header followed by raw little-endian tensors, as the protocol's binary tensor extension
has it (Open Inference Protocol v2, "Binary tensor data extension").
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.app.serving.wire import Connection, Reply, Request, model_path
from skerry.core.documents import parse_object
from skerry.core.errors import DataError, LinkError

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
        self._connection = Connection(
            address, largest_answer_bytes=LARGEST_ANSWER_BYTES
        )
        self._path = model_path(model, verb="infer")
        self._output = output

    async def infer(self, name: str, array: Floats) -> Answer:
        """Ask for one inference.

        Args:
            name: The input's name.
            array: float32 with a batch axis of 1.

        Raises:
            LinkError: No connection, no answer in time, or a status other than 200.
            DataError: The answer is not one of the protocol.
        """
        header_bytes, body = write_request(name, array, self._output)
        request = Request(
            path=self._path,
            headers={
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(header_bytes),
            },
            body=body,
        )
        reply = await self._connection.ask(request, timeout_s=TIMEOUT_S)
        if reply.status != 200:
            self.close()
            said = reply.body[:200].decode("utf-8", "replace")
            raise LinkError(f"status {reply.status}: {said}", hint="Look at its log.")
        return read_answer(_header_bytes(reply), reply.body, self._output)

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        self._connection.close()


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


def _header_bytes(reply: Reply) -> int:
    text = reply.headers.get("inference-header-content-length", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise DataError(
            f"the answer has a JSON header of {text!r} bytes", hint="Is it a gateway?"
        )
    return int(text)

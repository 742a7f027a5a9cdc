"""The same swap done naively: a server that is stopped and started with the new file.

It is what a service file and a copied model come to. The wire, the runtime and the
model files are those of the gateways; all that differs is the swap.

`python -m skerry.app.demo.naive MANIFEST MODEL PORT TOLD` serves a model file and
writes `{"address", "pid"}` to the file TOLD. Like a gateway it imports no onnx: what
the restart takes is not made longer than it need be.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from skerry.comms.asgi import serve
from skerry.core.durable import write_file
from skerry.core.errors import SkerryError
from skerry.core.model import Model, ModelFormat
from skerry.core.release import ANY_TARGET, Manifest, read_manifest
from skerry.core.seams import LoadOptions, Session
from skerry.edge.protocol.tensors import decode_request, encode_answer
from skerry.runtimes import get_runtime

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HEAD_LENGTH = b"inference-header-content-length"


class NaiveServer:
    """An ASGI application that serves one model and knows no other.

    Args:
        manifest: The release that its answers say they are from.
        session: Its model, loaded.
    """

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self._manifest = manifest
        self._session = session

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            length = int(dict(scope["headers"]).get(_HEAD_LENGTH, b"0"))
            content, head_bytes = self._answer(body, length)
            status = 200
        except (SkerryError, ValueError) as error:
            content = msgspec.json.encode({"error": str(error)})
            head_bytes, status = len(content), 400
        headers = [
            (b"content-length", b"%d" % len(content)),
            (_HEAD_LENGTH, b"%d" % head_bytes),
        ]
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": content})

    def _answer(self, body: bytes, length: int) -> tuple[bytes, int]:
        request = decode_request(
            body,
            head_bytes=length,
            inputs=self._session.inputs,
            outputs=self._session.outputs,
        )
        outputs = self._session.run(request.inputs)
        release, model = self._manifest.id, self._manifest.models[0]
        told = {"release": str(release), "blob": model.blob.sha256}
        content, head_bytes = encode_answer(
            {"model_name": release.name, "parameters": told},
            outputs,
            request.outputs,
        )
        return content, head_bytes or len(content)


async def run(release: Manifest, model: Path, port: int, told: Path) -> None:
    """Load, then serve until told to stop.

    Args:
        release: What the model is of.
        model: Its file.
        port: Where to serve; 0 takes a free one.
        told: The file that says where it serves.
    """
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    chosen = release.model_for(ANY_TARGET) or release.models[0]
    file = Model(
        path=model,
        format=ModelFormat.ONNX,
        inputs=chosen.inputs,
        outputs=chosen.outputs,
        sha256=chosen.blob.sha256,
        size_bytes=chosen.blob.size_bytes,
    )
    session = get_runtime(chosen.runtime).load(file, LoadOptions(threads=1))
    async with serve(NaiveServer(release, session), port=port) as server:
        fields = {"address": server.address, "pid": os.getpid()}
        write_file(told, msgspec.json.encode(fields))
        await ending.wait()
    session.close()


if __name__ == "__main__":
    manifest_file, model_file, port_text, told_file = sys.argv[1:]
    content = Path(manifest_file).read_bytes()
    asyncio.run(
        run(read_manifest(content), Path(model_file), int(port_text), Path(told_file))
    )

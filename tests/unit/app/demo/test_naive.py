"""The naive peer answers as a gateway does, for as long as nobody swaps its model."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import numpy as np

from skerry.app.demo.infer import read_answer, write_request
from skerry.app.demo.naive import NaiveServer
from skerry.core.model import TensorSpec
from skerry.core.release import Blob, Manifest, ReleaseModel
from skerry.core.seams import Array, Tensors

INPUT = TensorSpec(name="picture", dtype="float32", shape=("batch", 2))
OUTPUT = TensorSpec(name="logits", dtype="float32", shape=("batch", 2))
BLOB = Blob(sha256="a" * 64, size_bytes=1)
MANIFEST = Manifest(
    name="meter",
    version=2,
    created_at_ms=0,
    models=(
        ReleaseModel(
            target="any",
            runtime="null",
            blob=BLOB,
            inputs=(INPUT,),
            outputs=(OUTPUT,),
        ),
    ),
    golden=BLOB,
    task=BLOB,
)


class Doubling:
    """A session that doubles."""

    inputs = (INPUT,)
    outputs = (OUTPUT,)

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Double what comes in."""
        return {"logits": inputs["picture"] * 2}

    def close(self) -> None:
        """Nothing is held."""


def post(body: bytes, head_bytes: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Post a body in two pieces; gives status, headers and body of the answer."""
    sent: list[MutableMapping[str, Any]] = []
    pieces = [
        {"type": "http.request", "body": body[:5], "more_body": True},
        {"type": "http.request", "body": body[5:], "more_body": False},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return pieces.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "headers": [(b"inference-header-content-length", head_bytes)],
    }
    asyncio.run(NaiveServer(MANIFEST, Doubling())(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_it_answers_and_names_its_release() -> None:
    """With the output that was asked for, the release and the blob."""
    head_bytes, body = write_request(
        "picture", np.array([[1, 2]], np.float32), "logits"
    )
    status, headers, answer = post(body, b"%d" % head_bytes)
    length = int(headers[b"inference-header-content-length"])
    found = read_answer(length, answer, "logits")
    assert status == 200
    assert found.outputs.tolist() == [2, 4]
    assert (found.release, found.blob) == ("meter/2", BLOB.sha256)


def test_nonsense_is_refused() -> None:
    """A body that is no request, a length that is no number."""
    assert post(b"{}.......", b"2")[0] == 400
    assert post(b"{}.......", b"x")[0] == 400

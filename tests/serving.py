"""Releases to serve without a model, a runtime that obeys them, and an HTTP client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from skerry.core.budget import Budget
from skerry.core.errors import ModelError, RuntimeFailure
from skerry.core.model import Model, TensorSpec
from skerry.core.release import Blob, Manifest, ReleaseModel
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.edge.installed import Installed
from skerry.edge.protocol.http import App
from skerry.runtimes.null import NullRuntime, NullSession
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes

INPUTS = (TensorSpec(name="x", dtype="float32", shape=("N", 4)),)
OUTPUTS = (TensorSpec(name="y", dtype="float32", shape=("N", 4)),)
X = np.arange(1, 5, dtype=np.float32).reshape(1, 4)


class ScriptedRuntime(NullRuntime):
    """Runs files that say what is to happen, as JSON.

    `gain` multiplies x to y; `load_s` and `run_s` take that long, `cpu_s` of it in
    work; `refuse` and `raise` name what fails: `load` or `run`; `ballast_bytes` are
    held while it is loaded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[ScriptedSession] = []

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        super().load(model, options)
        script = json.loads(model.path.read_bytes())
        time.sleep(script.get("load_s", 0))
        _obey(script, "load", ModelError("it is broken", hint="Mend it."))
        session = ScriptedSession(model, script)
        self.sessions.append(session)
        return session


class ScriptedSession(NullSession):
    """One of those files, loaded."""

    def __init__(self, model: Model, script: Mapping[str, Any]) -> None:
        super().__init__(model, self._multiply)
        self.is_closed = False
        self._script = script
        self._ballast = np.ones(script.get("ballast_bytes", 0), np.uint8)

    def close(self) -> None:
        self.is_closed = True
        super().close()

    def _multiply(self, inputs: Tensors) -> dict[str, Array]:
        time.sleep(self._script.get("run_s", 0))
        end_s = time.thread_time() + self._script.get("cpu_s", 0)
        while time.thread_time() < end_s:
            pass
        _obey(self._script, "run", RuntimeFailure("it stumbled", hint="Wait."))
        dtype = self._script.get("dtype", "float32")
        gain = np.float32(self._script.get("gain", 2))
        return {"y": (inputs["x"] * gain).astype(dtype)}


def _obey(script: Mapping[str, Any], verb: str, refusal: Exception) -> None:
    if script.get("refuse") == verb:
        raise refusal
    if script.get("raise") == verb:
        raise ZeroDivisionError("a secret of the runtime's")


def golden_bytes(
    gain: float = 2, *, x: Array = X, y: Array | None = None, name: str = "x"
) -> bytes:
    """Golden samples of a model that multiplies."""
    outputs = {"y": x * np.float32(gain) if y is None else y}
    sample = GoldenSample(name="s0", inputs={name: x}, outputs=outputs)
    return golden_to_bytes(Golden(samples=(sample,), tolerance=0.01))


def install(
    folder: Path,
    version: int = 1,
    *,
    name: str = "meter",
    golden: bytes | None = None,
    budget: Budget | None = None,
    runtime: str = "null",
    **script: Any,
) -> Installed:
    """Put a scripted release in a folder, as an agent would have done."""
    content = json.dumps(script).encode()
    if golden is None:
        golden = golden_bytes(script.get("gain", 2))
    return install_files(
        folder / f"{name}-{version}",
        {"model": content, "golden": golden},
        ReleaseModel(
            target="any",
            runtime=runtime,
            blob=_blob(content),
            inputs=INPUTS,
            outputs=OUTPUTS,
        ),
        version=version,
        name=name,
        budget=budget,
    )


def install_files(
    folder: Path,
    contents: Mapping[str, bytes],
    model: ReleaseModel,
    *,
    version: int,
    name: str = "meter",
    budget: Budget | None = None,
) -> Installed:
    """Put the files of a release in a folder."""
    folder.mkdir()
    for role, content in contents.items():
        (folder / role).write_bytes(content)
    manifest = Manifest(
        name=name,
        version=version,
        created_at_ms=0,
        models=(model,),
        golden=_blob(contents["golden"]),
        task=_blob(b"task"),
        budget=budget or Budget(),
    )
    files = {role: folder / role for role in contents}
    return Installed(manifest=manifest, model=model, files=files)


def _blob(content: bytes) -> Blob:
    return Blob(sha256=sha256(content).hexdigest(), size_bytes=len(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What an application answered; a status of 0 is no answer at all."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body, or the JSON before the tensors."""
        length = self.headers.get("inference-header-content-length")
        return json.loads(self.body[: int(length)] if length else self.body)


async def ask(
    app: App,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    pieces: int = 1,
    is_cut: bool = False,
    is_stuck: bool = False,
) -> Response:
    """Send one request to an application, with no server between.

    Args:
        app: The application.
        method: Of HTTP.
        path: Of the address.
        body: What is sent.
        headers: By name, in lower case.
        pieces: In how many messages the body comes.
        is_cut: Whether the client leaves before the last of them.
        is_stuck: Whether the last of them never comes.
    """
    step = max(1, -(-len(body) // pieces))
    parts = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]
    if is_cut or is_stuck:
        waiting.pop()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not waiting and is_stuck:
            await asyncio.Event().wait()
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), text.encode("latin-1")) for name, text in _items(headers)]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    await app(scope, receive, send)
    if not sent:
        return Response()
    return Response(
        status=sent[0]["status"],
        headers={name.decode(): text.decode() for name, text in sent[0]["headers"]},
        body=b"".join(message["body"] for message in sent[1:]),
    )


def _items(headers: Mapping[str, str] | None) -> list[tuple[str, str]]:
    return list((headers or {}).items())


def json_body(x: Array = X, **more: Any) -> bytes:
    """A request whose tensor is JSON."""
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape, "data": x.tolist()}
    return json.dumps({"inputs": [tensor], **more}).encode()


def binary_body(x: Array = X, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    """A request whose tensor follows the JSON, and its headers."""
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": x.shape,
        "parameters": {"binary_data_size": x.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return head + x.tobytes(), {"inference-header-content-length": str(len(head))}

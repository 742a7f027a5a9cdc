"""A service in a process of its own, for clients that others wrote.

`python -m tests.service_process FOLDER` serves scripted releases over HTTP, gRPC and a
local socket, says where in FOLDER/addresses.json, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from skerry.comms.asgi import serve
from skerry.core.clock import SystemClock
from skerry.core.errors import UsageError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.release import Blob, ReleaseModel
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.edge.engine import Engine, Findings, Prepared
from skerry.edge.installed import Installed
from skerry.edge.protocol.grpc import serve_grpc
from skerry.edge.protocol.http import make_http
from skerry.edge.protocol.local import serve_local
from skerry.edge.protocol.regions import Regions
from skerry.edge.protocol.service import InferenceService
from skerry.runtimes.null import NullRuntime
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes
from tests.serving import ScriptedRuntime, install, install_files

HALF = (
    (TensorSpec(name="x", dtype="float16", shape=(1, 2)),),
    (TensorSpec(name="y", dtype="float16", shape=(1, 2)),),
)
STILL = (
    (TensorSpec(name="x", dtype="float32", shape=(1, 3, 160, 160)),),
    (TensorSpec(name="y", dtype="float32", shape=(1, 8)),),
)
LOUD = (
    (TensorSpec(name="words", dtype="object", shape=("N",)),),
    (TensorSpec(name="loud", dtype="object", shape=("N",)),),
)


class Shelf:
    """Releases that may be loaded."""

    def __init__(self, *releases: Installed) -> None:
        self._releases = {installed.id.name: installed for installed in releases}

    def index(self) -> tuple[Installed, ...]:
        return tuple(self._releases.values())

    def find(self, name: str, version: int | None = None) -> Installed:
        if name not in self._releases or version is not None:
            raise UsageError(f"no {name!r} lies here", hint="Ask for another.")
        return self._releases[name]


class Runtimes:
    """One runtime by the name of each kind of scripted model."""

    def __init__(self) -> None:
        self._known = {
            "null": ScriptedRuntime(),
            "same": NullRuntime(lambda inputs: {"y": inputs["x"]}),
            "zeros": NullRuntime(),
        }

    def __call__(self, name: str) -> NullRuntime:
        return self._known[name]


def _shout(inputs: Tensors) -> dict[str, Array]:
    words = inputs["words"]
    loud = np.array([word.upper() for word in words.ravel()], np.object_)
    return {"loud": loud.reshape(words.shape)}


def releases(folder: Path) -> tuple[Installed, ...]:
    """Put a release of each kind in a folder."""
    numbers = np.ones((1, 2), np.float16)
    picture = np.zeros((1, 3, 160, 160), np.float32)
    scores = np.zeros((1, 8), np.float32)
    return (
        install(folder, 1, gain=2),
        install(folder, 1, name="slow", gain=3, run_s=0.4),
        install(folder, 1, name="spare", gain=5),
        _other(folder / "half", HALF, {"x": numbers}, {"y": numbers}, "same"),
        _other(folder / "still", STILL, {"x": picture}, {"y": scores}),
    )


def _other(
    path: Path,
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    given: Mapping[str, Array],
    told: Mapping[str, Array],
    runtime: str = "zeros",
) -> Installed:
    sample = GoldenSample(name="s", inputs=dict(given), outputs=dict(told))
    golden = golden_to_bytes(Golden(samples=(sample,), tolerance=0.01))
    contents = {"model": b"{}", "golden": golden}
    model = ReleaseModel(
        target="any",
        runtime=runtime,
        blob=Blob.of(b"{}"),
        inputs=specs[0],
        outputs=specs[1],
    )
    return install_files(path, contents, model, version=1, name=path.name)


def _loud(path: Path) -> Prepared:
    """A release of strings, unchecked: golden samples hold none."""
    path.mkdir()
    (path / "model").write_bytes(b"{}")
    numbers = {"x": np.zeros(1)}
    installed = _other(path / "loud", LOUD, numbers, numbers, "loud")
    model = Model(
        path=path / "model",
        format=ModelFormat.ONNX,
        inputs=LOUD[0],
        outputs=LOUD[1],
        sha256=installed.model.blob.sha256,
        size_bytes=2,
    )
    session = NullRuntime(_shout).load(model, LoadOptions())
    findings = Findings(
        golden_error=0, size_bytes=2, latency_ms=None, memory_bytes=None
    )
    return Prepared(installed=installed, session=session, findings=findings)


async def _main(folder: Path) -> None:
    engine = Engine(clock=SystemClock(), runtimes=Runtimes())
    shelf = Shelf(*releases(folder))
    for installed in shelf.index():
        if installed.id.name != "spare":
            engine.switch(engine.prepare(installed))
    engine.switch(_loud(folder / "loud"))
    service = InferenceService(engine, repository=shelf, regions=Regions())
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    async with (
        serve(make_http(service)) as http,
        serve_grpc(service) as grpc,
        serve_local(service, folder / "s") as local,
    ):
        told = {"http": http.address, "grpc": grpc, "local": str(local)}
        print(json.dumps(told), flush=True)  # noqa: T201 (whoever started it reads it)
        await ended.wait()
    engine.close()


@contextlib.contextmanager
def running_service(folder: Path) -> Iterator[dict[str, str]]:
    """Run it for as long as the context is open; gives its addresses and its PID."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.service_process", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            told: dict[str, str] = json.loads(child.stdout.readline())
            yield {**told, "pid": str(child.pid)}
        finally:
            child.stdin.close()
            child.wait(timeout=30)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))

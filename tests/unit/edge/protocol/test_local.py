from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skerry.edge
from skerry.core.clock import SystemClock
from skerry.core.errors import (
    BusyError,
    DataError,
    LateError,
    LinkError,
    RuntimeFailure,
    SkerryError,
    StateError,
    UsageError,
)
from skerry.edge import EmbeddedEngine, LocalClient
from skerry.edge.engine import Engine
from skerry.edge.protocol.local import serve_local
from skerry.edge.protocol.service import InferenceService
from tests.serving import ScriptedRuntime, X, install


def _engine(folder: Path, **script: Any) -> Engine:
    runtime = ScriptedRuntime()
    engine = Engine(clock=SystemClock(), runtimes=lambda _: runtime, max_waiting=1)
    engine.switch(engine.prepare(install(folder, gain=2, **script)))
    return engine


def _serve(
    folder: Path,
    story: Callable[[Path], None],
    *,
    most_clients: int = 64,
    script: dict[str, Any] | None = None,
    **settings: Any,
) -> InferenceService:
    """Run a client's story in a thread, beside the service."""
    engine = _engine(folder, **(script or {}))
    service = InferenceService(engine, **settings)

    async def whole() -> None:
        path = folder / "s"
        async with serve_local(service, path, most_clients=most_clients):
            await asyncio.to_thread(story, path)
        engine.close()

    asyncio.run(whole())
    return service


def test_an_inference_through_shared_memory(tmp_path: Path) -> None:
    """The answer names the release, and its arrays are the caller's own."""

    def story(path: Path) -> None:
        with LocalClient(path) as client:
            first = client.infer("meter", {"x": X}, timeout_s=5, priority=1)
            second = client.infer("meter", {"x": X * 3}, version=1, outputs=["y"])
        assert first.release == "meter/1"
        assert len(first.blob) == 64
        assert first.outputs["y"].tolist() == (X * 2).tolist()
        assert second.outputs["y"].tolist() == (X * 6).tolist()

    service = _serve(tmp_path, story)
    ((release, counted),) = service.metrics.counts()
    assert (str(release), counted.answered, counted.json_requests) == ("meter/1", 2, 0)
    assert counted.binary_bytes == 2 * X.nbytes
    assert not (tmp_path / "s").exists()


def test_errors_are_those_of_the_service(tmp_path: Path) -> None:
    """Each of its own kind; the connection goes on after it."""

    def story(path: Path) -> None:
        with LocalClient(path, slot_bytes=64) as client:
            for kind, what, ask in (
                (UsageError, "other", lambda: client.infer("other", {"x": X})),
                (DataError, "shape", lambda: client.infer("meter", {"x": X[:, :2]})),
                (
                    DataError,
                    "no output",
                    lambda: client.infer("meter", {"x": X}, outputs=["z"]),
                ),
                (
                    UsageError,
                    "version 9",
                    lambda: client.infer("meter", {"x": X}, version=9),
                ),
                (
                    DataError,
                    "timeout",
                    lambda: client.infer("meter", {"x": X}, timeout_s=-1),
                ),
                (
                    DataError,
                    "the slot's",
                    lambda: client.infer("meter", {"x": np.ones((9, 4), np.float32)}),
                ),
                (
                    DataError,
                    "not carried",
                    lambda: client.infer("meter", {"x": X.astype(np.complex64)}),
                ),
            ):
                with pytest.raises(kind, match=what):
                    ask()
            assert client.infer("meter", {"x": X}).outputs["y"][0, 0] == 2

    _serve(tmp_path, story)


def test_a_deadline_is_kept(tmp_path: Path) -> None:
    """The client hears of it, and may ask again."""

    def story(path: Path) -> None:
        with LocalClient(path) as client:
            with pytest.raises(LateError, match="deadline"):
                client.infer("meter", {"x": X}, timeout_s=0.02)
            assert client.infer("meter", {"x": X}, timeout_s=30).outputs["y"][0, 0] == 2

    _serve(tmp_path, story, script={"run_s": 0.2})


def test_a_model_that_fails_says_so(tmp_path: Path) -> None:
    """Not more than that."""

    def story(path: Path) -> None:
        with LocalClient(path) as client, pytest.raises(RuntimeFailure, match="cannot"):
            client.infer("meter", {"x": np.full_like(X, -7)})

    service_folder = tmp_path
    engine = _engine(service_folder)
    loaded = engine._pick(engine._place("meter"), None)
    loaded._session._script = {"raise": "run"}  # type: ignore[attr-defined]
    service = InferenceService(engine)

    async def whole() -> None:
        async with serve_local(service, tmp_path / "s") as path:
            await asyncio.to_thread(story, path)
        engine.close()

    asyncio.run(whole())


def test_clients_are_bounded(tmp_path: Path) -> None:
    """One too many is turned away; a place that is free again is given."""

    def story(path: Path) -> None:
        with LocalClient(path), pytest.raises(LinkError, match="does not answer"):
            LocalClient(path)
        for _ in range(200):
            try:
                LocalClient(path).close()
            except LinkError:
                continue
            return
        pytest.fail("nobody is let in any more")

    _serve(tmp_path, story, most_clients=1)


def test_a_slot_is_bounded_and_sealed(tmp_path: Path) -> None:
    """Who could cut it short could end the service."""

    def story(path: Path) -> None:
        for size_bytes in (0, -1, 1001):
            with pytest.raises(DataError, match="expected at most 1000"):
                LocalClient(path, slot_bytes=size_bytes)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(str(path))
            peer.send(b'{"protocol": 1, "slot_bytes": 999}')
            told, (descriptor,), _, _ = socket.recv_fds(peer, 1000, 1)
            assert json.loads(told) == {"slot_bytes": 999}
            for size_bytes in (0, 4000):
                with pytest.raises(OSError, match="not permitted"):
                    os.ftruncate(descriptor, size_bytes)
            os.close(descriptor)

    _serve(tmp_path, story, largest_body_bytes=1000)


@contextmanager
def _peer(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(30)
        peer.connect(str(path))
        yield peer


@pytest.mark.parametrize(
    "packet", [b"x", b"{}", b'{"protocol": 9, "slot_bytes": 9}', b"[" * 60_000]
)
def test_who_cannot_say_hello_is_told_so(packet: bytes, tmp_path: Path) -> None:
    """With one of our errors, or by the end of the connection."""

    def story(path: Path) -> None:
        with _peer(path) as peer:
            peer.send(packet)
            assert json.loads(peer.recv(9999))["code"] == "DataError"

    _serve(tmp_path, story)


def test_two_requests_at_once_end_the_connection(tmp_path: Path) -> None:
    """There is one slot: the second would overwrite the first one's tensors."""

    def story(path: Path) -> None:
        with _peer(path) as peer:
            peer.send(b'{"protocol": 1, "slot_bytes": 64}')
            _, (descriptor,), _, _ = socket.recv_fds(peer, 1000, 1)
            os.close(descriptor)
            tensor = {
                "name": "x",
                "datatype": "FP32",
                "shape": X.shape,
                "parameters": {"binary_data_size": X.nbytes},
            }
            packet = json.dumps({"model_name": "meter", "inputs": [tensor]}).encode()
            peer.send(packet)
            peer.send(packet)
            assert peer.recv(9999) == b""

    _serve(tmp_path, story, script={"run_s": 0.2})


def test_who_goes_is_forgotten(tmp_path: Path) -> None:
    """Also in the middle of an inference: its descriptors are closed."""

    def story(path: Path) -> None:
        client = LocalClient(path, timeout_s=0.03)
        with pytest.raises(LinkError, match="not answer"):
            client.infer("meter", {"x": X})
        with pytest.raises(LinkError, match="is closed"):
            client.infer("meter", {"x": X})
        with LocalClient(path) as client:
            assert client.infer("meter", {"x": X}).outputs["y"][0, 0] == 2

    _serve(tmp_path, story, script={"run_s": 0.1})


def test_a_socket_is_only_its_users(tmp_path: Path) -> None:
    """And only one service's; one that was left behind is replaced."""
    path = tmp_path / "s"

    def twice(at: Path) -> None:
        assert at.stat().st_mode & 0o777 == 0o600

        async def second() -> None:
            async with serve_local(InferenceService(None), at):  # type: ignore[arg-type]
                pass

        with pytest.raises(StateError, match="another service listens"):
            asyncio.run(second())

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    _serve(tmp_path, twice)
    path.write_text("a file")
    for at, kind in ((path, UsageError), (tmp_path / ("x" * 120), UsageError)):

        async def third(at: Path = at) -> None:
            async with serve_local(InferenceService(None), at):  # type: ignore[arg-type]
                pass

        with pytest.raises(kind):
            asyncio.run(third())


def test_nobody_there_is_said_so(tmp_path: Path) -> None:
    """With the path, and what to do."""
    with pytest.raises(LinkError, match="does not answer") as caught:
        LocalClient(tmp_path / "s")
    assert "same user" in caught.value.hint


def test_a_client_needs_no_engine() -> None:
    """Nor a runtime: a script that asks starts quickly."""
    code = "import skerry.edge.protocol.client, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "skerry.edge.protocol.client" in loaded
    assert loaded.isdisjoint({"skerry.edge.engine", "asyncio", "onnxruntime"})


def test_the_engine_in_a_script(tmp_path: Path) -> None:
    """Loaded, asked from any thread, and closed."""
    runtime = ScriptedRuntime()
    engine = Engine(clock=SystemClock(), runtimes=lambda _: runtime, max_waiting=0)
    with EmbeddedEngine(engine) as service:
        service.load(install(tmp_path, gain=2, run_s=0.05))
        answer = service.infer("meter", {"x": X}, timeout_s=30, version=1)
        assert answer.outputs["y"].tolist() == (X * 2).tolist()
        waiting = [service.submit("meter", {"x": X}) for _ in range(3)]
        errors = [each.exception(timeout=30) for each in waiting]
        assert any(isinstance(error, BusyError) for error in errors)
        with pytest.raises(UsageError):
            service.infer("other", {"x": X})
    service.close()


def test_the_examples_run(tmp_path: Path) -> None:
    """Those of the package's own documentation, as they stand there."""
    examples = re.findall(r"```python\n(.*?)```", skerry.edge.__doc__ or "", re.DOTALL)
    assert len(examples) == 2
    engine = Engine(clock=SystemClock(), runtimes=lambda _: ScriptedRuntime())
    installed = install(tmp_path, gain=2)
    names = {"x": X, "installed": installed}

    def story(path: Path) -> None:
        exec(examples[0], {**names, "path": path})  # noqa: S102

    (tmp_path / "served").mkdir()
    _serve(tmp_path / "served", story)
    code = examples[1].replace("EmbeddedEngine()", "EmbeddedEngine(engine)")
    exec(code, {**names, "engine": engine})  # noqa: S102


def test_an_unknown_error_is_one_of_ours() -> None:
    """A service of another version may know other kinds."""
    from skerry.edge.protocol.client import _error_of

    for code in ("NoSuchError", "MissingExtraError", "annotations", "ClassVar"):
        assert type(_error_of("what", code, "hint")) is StateError
    assert isinstance(_error_of("what", "LateError", "hint"), LateError)
    assert issubclass(LateError, SkerryError)

"""The servers that ours is compared with, each in an environment of its own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks._serving_load import Check, Connection, Reply, post
from benchmarks._serving_models import Served
from benchmarks._serving_service import Program
from skerry.app.toolchains import find_python, find_toolchain, list_installed
from skerry.core.errors import SkerryError, StateError
from skerry.core.seams import Array

SCRIPTS = Path(__file__).parent / "peers"
START_S = 90.0
_BOUNDARY = "----8d0c3b1e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers.

    Attributes:
        pid: The root of its processes.
        address: Its URL.
        requests: One a sample.
        check: What is wrong with an answer.
    """

    pid: int
    address: str
    requests: tuple[bytes, ...] = field(repr=False)
    check: Check = field(repr=False)


def _raw(array: Array) -> bytes:
    kind = "Content-Type: application/octet-stream"
    return post("/inference", array.tobytes(), [kind])


def _form(array: Array) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="x"; filename="x"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    body = head + array.tobytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return post(
        "/predict", body, [f"Content-Type: multipart/form-data; boundary={_BOUNDARY}"]
    )


PEERS: Mapping[str, Callable[[Array], bytes]] = {"mosec": _raw, "litserve": _form}
"""The peers by the name of their toolchain, and how each is asked."""


def title_of(peer: str) -> str:
    """A peer's name and version, or that it is missing."""
    try:
        find_python(find_toolchain(peer))
    except SkerryError:
        return f"{peer} (missing)"
    versions = {one.name: one.versions for one in list_installed()}
    return " ".join(versions[peer].split()[:2])


@contextmanager
def running_peer(peer: str, served: Served, folder: Path) -> Iterator[Running]:
    """Run a peer's server for as long as the context is open.

    Raises:
        SkerryError: It is not installed, or does not start, or answers nonsense.
    """
    python = find_python(find_toolchain(peer))
    spec = served.inputs[0]
    arrays = [sample[spec.name] for sample in served.samples]
    port = _free_port()
    settings = folder / f"{peer}.json"
    settings.write_bytes(
        msgspec.json.encode(
            {
                "onnx": str(served.onnx or ""),
                "name": spec.name,
                "dtype": spec.dtype,
                "shape": arrays[0].shape,
                "port": port,
            }
        )
    )
    environment = {**os.environ, "SERVING_SETTINGS": str(settings)}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    script = str(SCRIPTS / f"{peer}_serving.py")
    program = Program([str(python), script], environment)
    running = Running(
        pid=0,
        address=f"http://127.0.0.1:{port}",
        requests=tuple(PEERS[peer](array) for array in arrays),
        check=_checking(served),
    )
    program.start()
    try:
        _await(program, running, peer)
        yield Running(
            pid=program.pid,
            address=running.address,
            requests=running.requests,
            check=running.check,
        )
    finally:
        program.stop()


def _await(program: Program, running: Running, peer: str) -> None:
    until_s = time.monotonic() + START_S
    fault = "nothing"
    while time.monotonic() < until_s and not program.has_ended:
        with Connection(running.address) as connection:
            fault = running.check(0, connection.ask(running.requests[0]))
        if not fault:
            return
        time.sleep(0.3)
    raise StateError(
        f"{peer} does not answer as it should: {fault[:200]}",
        hint=program.last_words()[-300:],
    )


def _checking(served: Served) -> Check:
    """Check the bytes of all outputs in their order."""
    wanted = [
        b"".join(array.tobytes() for array in answer.values())
        for answer in served.answers
    ]

    def check(index: int, reply: Reply) -> str:
        if reply.status != 200:
            return f"{reply.status}: {reply.body[:200].decode('utf-8', 'replace')}"
        # Another build of onnxruntime may round otherwise: sizes alone are compared.
        if len(reply.body) != len(wanted[index]):
            return f"{len(reply.body)} bytes, expected {len(wanted[index])}"
        return ""

    return check


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port

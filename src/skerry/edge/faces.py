"""What serves models, opened and closed in order: an engine, and a service's faces.

A gateway and `skerry serve` are made of the same parts: one engine, whose models run
in processes of their own or as threads, one service, and over it HTTP, and gRPC and
the local socket where they are asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skerry.comms.asgi import AsgiApp, serve
from skerry.core.clock import Clock
from skerry.core.errors import UsageError
from skerry.core.seams import Runtime
from skerry.edge.engine import Engine
from skerry.edge.protocol.http import make_http
from skerry.edge.protocol.service import InferenceService
from skerry.edge.turns import usable_cpus
from skerry.edge.vault import Lend, LendingRuntime, as_they_are
from skerry.edge.workers import IsolatedRuntimes, Limits, WorkerPool
from skerry.runtimes import get_runtime
from skerry.runtimes.preferred import preferring

Isolation = Literal["process", "thread"]
"""Where models run: each in a process of its own, or as threads of the server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """Where a service is to be reached.

    Attributes:
        host: Only this machine unless told otherwise.
        port: Of HTTP, or 0 for any free one.
        grpc_port: Of gRPC, 0 for any free one; None: not over gRPC, and grpcio is not
            needed.
        local: The socket for programs of this user; None: there is none.
    """

    host: str = "127.0.0.1"
    port: int = 0
    grpc_port: int | None = None
    local: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a service is reached.

    Attributes:
        http: Its URL.
        others: The address of gRPC (`grpc`) and the path of the socket (`local`), where
            they were asked for.
    """

    http: str
    others: dict[str, str]


@contextlib.contextmanager
def open_engine(
    *,
    clock: Clock,
    threads: int,
    isolation: Isolation,
    limits: Limits | None = None,
    providers: tuple[str, ...] = (),
    lend: Lend = as_they_are,
) -> Iterator[Engine]:
    """Make an engine of this machine's runtimes, and close it in the end.

    Args:
        clock: What measures time.
        threads: How many inferences of one release run at once.
        isolation: Where models run.
        limits: What the process of a model may take, as `worker_limits` makes them.
        providers: Execution providers of onnxruntime, in order of wish.
        lend: Has the files of a model at hand while it is loaded.

    Raises:
        UsageError: There are fewer threads than one.
    """
    pool = WorkerPool(limits=limits, lend=lend) if isolation == "process" else None

    def in_thread(name: str) -> Runtime:
        return LendingRuntime(get_runtime(name), lend)

    with contextlib.closing(pool) if pool else contextlib.nullcontext():
        engine = Engine(
            clock=clock,
            threads=threads,
            runtimes=preferring(
                providers, IsolatedRuntimes(pool) if pool else in_thread
            ),
            cpus=usable_cpus(),
        )
        with contextlib.closing(engine):
            yield engine


def worker_limits(memory_limit_mb: float | None, isolation: Isolation) -> Limits | None:
    """What the process of a model may take.

    Args:
        memory_limit_mb: Most memory of one, in MB; None for the default.
        isolation: Where models run.

    Raises:
        UsageError: That is no limit, or there are no such processes.
    """
    if memory_limit_mb is None:
        return None
    if not 0 < memory_limit_mb < math.inf:
        raise UsageError(
            f"the memory limit is {memory_limit_mb:g} MB, expected more than 0",
            hint="A model's process without the model takes about 50 MB.",
        )
    if isolation == "thread":
        raise UsageError(
            "a memory limit is for the processes of models, and there are none",
            hint="Leave out --isolation thread, or --memory-limit-mb.",
        )
    return Limits(memory_bytes=round(memory_limit_mb * 1e6))


@contextlib.asynccontextmanager
async def open_faces(
    service: InferenceService,
    faces: Faces,
    *,
    front: Callable[[AsgiApp], AsgiApp] | None = None,
) -> AsyncIterator[Addresses]:
    """Serve for as long as the context is open.

    Args:
        service: What answers.
        faces: Where it is to be reached.
        front: Puts what answers other paths of HTTP before it, or None.

    Raises:
        StateError: A port is in use or not permitted, or another service listens at
            the socket.
        UsageError: Something else lies where the socket is to be.
        MissingExtraError: grpcio is asked for, and not installed.
    """
    others: dict[str, str] = {}
    app: AsgiApp = make_http(service)
    async with contextlib.AsyncExitStack() as opened:
        http = await opened.enter_async_context(
            serve(front(app) if front else app, host=faces.host, port=faces.port)
        )
        if faces.grpc_port is not None:
            from skerry.edge.protocol.grpc import serve_grpc

            serving = serve_grpc(service, host=faces.host, port=faces.grpc_port)
            others["grpc"] = await opened.enter_async_context(serving)
        if faces.local is not None:
            from skerry.edge.protocol.local import serve_local

            local = await opened.enter_async_context(serve_local(service, faces.local))
            others["local"] = str(local)
        yield Addresses(http=http.address, others=others)


def check_reach(host: str, token: str | None) -> None:
    """Refuse to serve other machines without a token to ask them for.

    Raises:
        UsageError: Others can reach the host, and there is no token.
    """
    if not token and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from other machines, and there is no "
            f"token to ask for",
            hint="Give --serve-token, or listen on 127.0.0.1.",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def stop_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set an event at SIGTERM and SIGINT for as long as the context is open."""
    loop = asyncio.get_running_loop()
    caught = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread hears signals; elsewhere it is stopped by cancellation.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, stop.set)
            caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)

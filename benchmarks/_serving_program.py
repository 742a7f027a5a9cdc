"""The service of the benchmark: what a gateway runs, without hub and agent.

`python -m benchmarks._serving_program SETTINGS.json` says on its output where it
listens, does what lines of JSON on its input ask for, answers each with another line,
and ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks._serving_models import read_release
from benchmarks._serving_runtime import NAME, PLACE
from skerry.comms.asgi import serve
from skerry.core.clock import SystemClock
from skerry.core.errors import RefusedError, SkerryError
from skerry.edge.engine import Engine
from skerry.edge.protocol.http import make_http
from skerry.edge.protocol.local import serve_local
from skerry.edge.protocol.service import InferenceService
from skerry.edge.turns import usable_cpus
from skerry.edge.workers import IsolatedRuntimes, Limits, WorkerPool
from skerry.runtimes import get_runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the service runs.

    Attributes:
        releases: Folders of releases that serve from the beginning.
        isolation: `process` or `thread`, as a gateway's.
        threads: How many inferences of one release run at once.
        local: The socket for programs on this machine; empty: none.
        memory_bytes: What a worker may hold; 0: the default.
    """

    releases: tuple[str, ...]
    isolation: str = "process"
    threads: int = 1
    local: str = ""
    memory_bytes: int = 0


class _Program:
    def __init__(self, settings: Settings, pool: WorkerPool | None) -> None:
        self._settings = settings
        self._engine = Engine(
            clock=SystemClock(),
            threads=settings.threads,
            runtimes=IsolatedRuntimes(pool) if pool else get_runtime,
            cpus=usable_cpus(),
        )
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        for folder in self._settings.releases:
            installed = read_release(Path(folder))
            prepared = await asyncio.to_thread(self._engine.prepare, installed)
            self._engine.switch(prepared)
        service = InferenceService(self._engine)
        async with contextlib.AsyncExitStack() as faces:
            http = await faces.enter_async_context(serve(make_http(service)))
            if self._settings.local:
                local = serve_local(service, Path(self._settings.local))
                await faces.enter_async_context(local)
            threading.Thread(target=self._listen, daemon=True).start()
            _say({"address": http.address})
            await self._ended.wait()
        self._engine.close()

    def _listen(self) -> None:
        for line in sys.stdin:
            command = msgspec.json.decode(line)
            self._loop.call_soon_threadsafe(self._begin, command)
        self._loop.call_soon_threadsafe(self._ended.set)

    def _begin(self, command: dict[str, Any]) -> None:
        task = asyncio.create_task(self._obey(command))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self, command: dict[str, Any]) -> None:
        began_s = time.perf_counter()
        told: dict[str, Any] = {}
        try:
            told = await getattr(self, f"_{command['verb']}")(command)
        except RefusedError as error:
            told = {"refused": error.reason, "what": error.what}
        except SkerryError as error:
            told = {"refused": error.code, "what": error.what}
        except Exception as error:  # noqa: BLE001 (whoever asked is told)
            told = {"failed": repr(error)}
        _say({"number": command["number"], "s": time.perf_counter() - began_s, **told})

    async def _offer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Prepare a release; let it serve if it is asked to."""
        installed = read_release(Path(command["folder"]))
        prepared = await asyncio.to_thread(self._engine.prepare, installed)
        if not command.get("serves", True):
            await asyncio.to_thread(prepared.close)
            return {"latency_ms": prepared.findings.latency_ms}
        self._engine.switch(prepared)
        name = installed.id.name
        if command.get("probation_s"):
            end = await self._engine.watch(name, probation_s=command["probation_s"])
            return {"end": str(end)}
        self._engine.settle(name)
        return {}

    async def _worker(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell of the worker of what serves under a name."""
        installed = self._engine.find(command["name"])
        figures: Any = self._engine.session_figures(
            command["name"], installed.id.version
        )
        return {"pid": figures.pid, "restarts": figures.restarts}


def _say(told: dict[str, Any]) -> None:
    line = msgspec.json.encode(told) + b"\n"
    os.write(1, line)


def main() -> None:
    """Serve until the input ends."""
    logging.disable(logging.CRITICAL)
    text = Path(sys.argv[1]).read_bytes()
    settings = msgspec.json.decode(text, type=Settings)
    pool = None
    if settings.isolation == "process":
        limits = Limits()
        if settings.memory_bytes:
            limits = Limits(memory_bytes=settings.memory_bytes)
        pool = WorkerPool(places={NAME: PLACE}, limits=limits)

    async def run() -> None:
        await _Program(settings, pool).run()

    try:
        asyncio.run(run())
    finally:
        if pool is not None:
            pool.close()


if __name__ == "__main__":
    main()

"""The engine for scripts: no server, no event loop of one's own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from skerry.core.clock import SystemClock
from skerry.core.seams import Tensors
from skerry.edge.engine import Answer, Engine
from skerry.edge.installed import Installed


class EmbeddedEngine:
    """An engine on a thread of its own, that any thread may ask.

    Args:
        engine: What answers; one with this machine's runtimes by default. Nobody else
            uses it.

    Example:
        ```python
        from skerry.edge import EmbeddedEngine

        with EmbeddedEngine() as service:
            service.load(installed)
            answer = service.infer("meter", {"x": x}, timeout_s=0.5)
        print(answer.release, answer.outputs["y"])
        ```
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine or Engine(clock=SystemClock())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="skerry-engine", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def load(self, installed: Installed) -> None:
        """Load a release, check it, and let it serve; what serves goes on meanwhile.

        Raises:
            RefusedError: It does not hold here what it promises.
            ConflictError: Another load of its name is under way.
        """
        prepared = self._engine.prepare(installed)

        async def switch() -> None:
            self._engine.switch(prepared)

        asyncio.run_coroutine_threadsafe(switch(), self._loop).result()

    def infer(
        self,
        name: str,
        inputs: Tensors,
        *,
        version: int | None = None,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Answer:
        """Run one inference and wait for its answer.

        Raises:
            The errors of `Engine.infer`.
        """
        return self.submit(
            name, inputs, version=version, timeout_s=timeout_s, priority=priority
        ).result()

    def submit(
        self,
        name: str,
        inputs: Tensors,
        *,
        version: int | None = None,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Future[Answer]:
        """Ask for one inference; its answer, or its error, comes with the future."""
        asking = self._engine.infer(
            name, inputs, version=version, deadline_s=timeout_s, priority=priority
        )
        return asyncio.run_coroutine_threadsafe(asking, self._loop)

    def close(self) -> None:
        """Stop; inferences that run are let go of."""
        if self._loop.is_closed():
            return

        async def stop() -> None:
            self._engine.close()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

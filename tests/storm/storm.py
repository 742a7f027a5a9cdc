"""The storm: clients that ask, and one hand that breaks things in a fixed order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skerry.comms.asgi import serve
from skerry.core.clock import SystemClock
from skerry.core.errors import ConflictError, RefusedError
from skerry.edge.engine import Routing
from skerry.edge.installed import Installed
from skerry.edge.protocol.http import make_http
from skerry.edge.protocol.service import InferenceService
from skerry.edge.workers import IsolatedRuntimes, Limits, WorkerFigures, WorkerPool
from tests.storm.ledger import Asked, JournaledEngine, Ledger
from tests.storm.shelf import (
    FAULTS,
    SCRIPTED_FAULTS,
    Shelf,
    harmful_x,
    is_native,
)
from tests.storm.wire import Wire
from tests.unruly import HARMS

CALM = "native-calm"
TORMENTED = ("unruly", "native")
THREADS, MAX_WAITING = 2, 16
DEFAULT_S = 10.0
PROBATION_S = 1.0
BURST = 48
CLIENTS = 3

PLACES = {"unruly": "tests.unruly:UnrulyRuntime"}
LIMITS = Limits(memory_bytes=250_000_000, load_s=30, run_s=8)

Story = Callable[[], Awaitable[None]]

WEIGHTS = {
    "kill": 8,
    "swap": 7,
    "bad": 7,
    "harm": 8,
    "burst": 4,
    "stop": 2,
    "kill_spare": 1,
    "roll_back": 3,
    "settle": 3,
    "route": 6,
    "twice": 2,
    "sour": 2,
    "load": 2,
    "remove": 1,
}
"""How often each fault comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One of the things that happen, as it was drawn.

    Attributes:
        number: Its place.
        kind: What.
        name: To which name.
        dice: What chooses among what there is then, from 0 to 1.
        pause_s: How long nothing happens after it.
    """

    number: int
    kind: str
    name: str
    dice: float
    pause_s: float

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.name} {self.dice:.3f}"

    def pick(self, choices: Any) -> Any:
        """One of them, by the dice."""
        return choices[int(self.dice * len(choices))]


def dice(seed: float) -> random.Random:
    """What draws everything that is drawn."""
    return random.Random(seed)  # noqa: S311 (no secret is made of it)


def faults(rng: random.Random) -> Any:
    """Draw faults without end; nothing but the seed decides which."""
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    for number in itertools.count():
        yield Fault(
            number=number,
            kind=rng.choices(kinds, weights)[0],
            name=rng.choice(TORMENTED),
            dice=rng.random(),
            pause_s=rng.uniform(0.0, 0.25),
        )


class Storm:
    """An engine of three names behind HTTP, and all that is done to it.

    Args:
        folder: For releases.
        seed: Of everything that is drawn.
        names: What it serves; the last of them is calm.
        load_s: How long a script takes to load.

    Attributes:
        log: What was done, in order.
        ledger: What came of the requests.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        names: tuple[str, ...] = (*TORMENTED, CALM),
        load_s: float = 0.0,
    ) -> None:
        self.rng = dice(seed)
        self.log: list[str] = []
        self.shelf = Shelf(folder, load_s=load_s)
        self.pool = WorkerPool(places=PLACES, limits=LIMITS)
        self.engine = JournaledEngine(
            clock=SystemClock(),
            runtimes=IsolatedRuntimes(self.pool),
            threads=THREADS,
            max_waiting=MAX_WAITING,
            cpus=2,
            check_limit_s=60,
        )
        self.names = names
        self.ledger = Ledger(self.engine, self.shelf, calm=names[-1:])
        self.service = InferenceService(
            self.engine,
            repository=self.shelf,
            timeout_s=DEFAULT_S,
            probation_s=PROBATION_S,
        )
        self._numbers = itertools.count()
        self._preparing: dict[str, int] = dict.fromkeys(names, 0)
        self._spare_killed_s = -100.0
        self._running: set[asyncio.Task[None]] = set()
        self._address = ""

    def close(self) -> None:
        """End all processes."""
        self.engine.close()
        self.pool.close()

    # ------------------------------------------------------------------ the whole

    async def rage(self, duration_s: float, *, settled: Story) -> None:
        """Serve, ask and break things for a while; then see whether all is well.

        Args:
            duration_s: How long.
            settled: Called before and after, when nothing is asked or broken.
        """
        clients, plan = (dice(self.rng.random()) for _ in range(2))

        async def break_things() -> None:
            drawn = faults(plan)
            end_s = time.monotonic() + duration_s
            while time.monotonic() < end_s:
                fault = next(drawn)
                self.log.append(str(fault))
                await getattr(self, f"_{fault.kind}")(fault)
                await asyncio.sleep(fault.pause_s)

        async with self._serving():
            await self._answers_at_once()
            await settled()
            await self._ask_while(clients, break_things)
            while self._running:
                await asyncio.gather(*self._running)
            for name in TORMENTED:
                await self.switch(self.shelf.good(name))
                self.engine.route(name, Routing())
                self.engine.settle(name)
            await self._answers_at_once()
            await settled()

    async def steadily(self, story: Story) -> None:
        """Play a story while all names are asked, and none of them may fail."""
        async with self._serving():
            await self._answers_at_once()
            await self._ask_while(self.rng, story)

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        for name in self.names:
            await self.switch(self.shelf.good(name, load_s=0))
        async with serve(make_http(self.service)) as server:
            self._address = server.address
            yield

    async def _ask_while(self, rng: random.Random, story: Story) -> None:
        done = asyncio.Event()
        clients = [
            asyncio.create_task(self._client(name, dice(rng.random()), done))
            for name in self.names
            for _ in range(CLIENTS)
        ]
        await story()
        done.set()
        await asyncio.gather(*clients)

    async def switch(self, installed: Installed) -> None:
        """Let a release serve."""
        prepared = await asyncio.to_thread(self.engine.prepare, installed)
        self.engine.switch(prepared)

    def worker(self, name: str) -> int | None:
        """The PID of the worker that serves a name now, while there is one."""
        version = self.engine.versions(name)[0]
        figures = self.engine.session_figures(name, version)
        return figures.pid if isinstance(figures, WorkerFigures) else None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _wrong(self, what: str) -> None:
        self.ledger.wrong.append(what)

    async def _answers_at_once(self) -> None:
        """Each name answers its next requests, on each thread."""
        rng = dice(0)
        for name in self.names:
            wires = [Wire(self._address) for _ in range(THREADS)]
            await asyncio.gather(
                *(self._ask(wire, self._nap(name, rng)) for wire in wires)
            )
            for wire in wires:
                await wire.close()

    # ----------------------------------------------------------------- who asks

    async def _client(self, name: str, rng: random.Random, done: asyncio.Event) -> None:
        wire = Wire(self._address)
        while not done.is_set():
            if name == self.names[-1]:
                await self._ask(wire, self._plain(name, rng, deadline_s=DEFAULT_S))
                await asyncio.sleep(rng.uniform(0, 0.04))
                continue
            dice = rng.random()
            if dice < 0.03:
                await self._leave(self._plain(name, rng))
            elif dice < 0.1:
                deadline_s = rng.choice((0.001, 0.01, 0.05))
                asked = self._nap(name, rng, deadline_s=deadline_s)
                await self._ask(wire, asked)
            elif dice < 0.2:
                versions = self.engine.versions(name) or (1,)
                version = rng.choice((*versions, 1))
                await self._ask(wire, self._plain(name, rng, version=version))
            elif dice < 0.25:
                await self._ask(wire, self._nap(name, rng))
            else:
                await self._ask(wire, self._plain(name, rng))
            await asyncio.sleep(rng.uniform(0, 0.02))
        await wire.close()

    def _plain(
        self,
        name: str,
        rng: random.Random,
        *,
        deadline_s: float = DEFAULT_S,
        version: int | None = None,
    ) -> Asked:
        x = np.array([[rng.randint(-999, -1) for _ in range(4)]], np.float32)
        return self._asked(name, x, deadline_s=deadline_s, version=version)

    def _nap(
        self, name: str, rng: random.Random, *, deadline_s: float = DEFAULT_S
    ) -> Asked:
        """One that takes some ten milliseconds."""
        x = harmful_x(name, "nap")
        x[0, 1:] = [rng.randint(-999, -1) for _ in range(3)]
        return self._asked(name, x, harm="nap", deadline_s=deadline_s)

    def _asked(self, name: str, x: Any, **more: Any) -> Asked:
        return Asked(id=f"r{next(self._numbers)}", name=name, x=x, **more)

    async def _ask(self, wire: Wire, asked: Asked) -> None:
        """Send a request, and have its answer judged."""
        with self.ledger.asking(asked, most=MAX_WAITING // 2):
            try:
                async with asyncio.timeout(asked.deadline_s + 20):
                    response = await wire.post(*_message(asked))
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.ledger.lost(asked, error)
                await wire.close()
            else:
                self.ledger.answered(asked, response)

    async def _leave(self, asked: Asked) -> None:
        """Send a request and hang up."""
        wire = Wire(self._address)
        with self.ledger.asking(asked, most=MAX_WAITING // 2):
            await wire.send(*_message(asked))
            await wire.close()
            self.ledger.left(asked)

    # ------------------------------------------------------------- what is broken

    async def _kill(self, fault: Fault) -> None:
        """A worker dies."""
        self._signal(fault, signal.SIGKILL, lasts_s=0.0)

    async def _stop(self, fault: Fault) -> None:
        """A worker is stopped, and never goes on."""
        self._signal(fault, signal.SIGSTOP, lasts_s=LIMITS.run_s + DEFAULT_S)

    def _signal(self, fault: Fault, number: signal.Signals, *, lasts_s: float) -> None:
        versions = self.engine.versions(fault.name)
        if not versions:
            return
        figures = self.engine.session_figures(fault.name, fault.pick(versions))
        if isinstance(figures, WorkerFigures) and figures.pid:
            kind = "kill" if number == signal.SIGKILL else "stop"
            self.ledger.harm(fault.name, kind, lasts_s=lasts_s)
            with contextlib.suppress(ProcessLookupError):
                os.kill(figures.pid, number)

    async def _kill_spare(self, fault: Fault) -> None:
        runtime = "onnxruntime" if is_native(fault.name) else "unruly"
        pid = self.pool.spare(runtime).pid
        if pid:
            self._spare_killed_s = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _harm(self, fault: Fault) -> None:
        """A request that does harm."""
        kinds = ("hang",) if is_native(fault.name) else HARMS[1:-1]
        kind = fault.pick(kinds)
        asked = self._asked(
            fault.name,
            harmful_x(fault.name, kind),
            harm=kind,
            deadline_s=0.2 + fault.dice * 2,
        )
        self.log[-1] += f" {kind}"
        self._spawn(self._alone(asked))

    async def _burst(self, fault: Fault) -> None:
        """More requests at once than may wait."""
        rng = dice(fault.dice)
        for _ in range(BURST):
            self._spawn(self._alone(self._nap(fault.name, rng)))

    async def _alone(self, asked: Asked) -> None:
        wire = Wire(self._address)
        await self._ask(wire, asked)
        await wire.close()

    async def _swap(self, fault: Fault) -> None:
        self._spawn(
            self._try_switch(self.shelf.good(fault.name), is_watched=fault.dice < 0.5)
        )

    async def _sour(self, fault: Fault) -> None:
        """A release that passes its check and fails in service: it is rolled back."""
        if not is_native(fault.name):
            self._spawn(
                self._try_switch(self.shelf.spoiled(fault.name), is_watched=True)
            )

    async def _twice(self, fault: Fault) -> None:
        """Two loads of a name at once: one of them is refused as a conflict."""
        slow = self.shelf.good(fault.name, load_s=0.5)
        self._spawn(self._try_switch(slow))
        await asyncio.sleep(0.05)
        self._spawn(self._try_switch(self.shelf.good(fault.name)))

    async def _bad(self, fault: Fault) -> None:
        """A release that must be refused."""
        kind = fault.pick(FAULTS if is_native(fault.name) else SCRIPTED_FAULTS)
        self.log[-1] += f" {kind}"
        self._spawn(self._try_bad(self.shelf.bad(fault.name, kind), kind))

    async def _try_bad(self, installed: Installed, kind: str) -> None:
        try:
            prepared = await self._prepare(installed)
        except RefusedError:
            self.ledger.counts["refused"] += 1
        else:
            if prepared is not None:
                prepared.close()
                self._wrong(f"{installed.id} was taken, with the fault {kind}")

    async def _try_switch(
        self, installed: Installed, *, is_watched: bool = False
    ) -> None:
        name, began_s = installed.id.name, time.monotonic()
        try:
            prepared = await self._prepare(installed)
        except RefusedError as error:
            if self._spare_killed_s < began_s - 1:
                self._wrong(f"{installed.id} was refused: {error}")
            return
        if prepared is None:
            return
        self.engine.switch(prepared)
        self.ledger.counts["swaps"] += 1
        if is_watched:
            end = await self.engine.watch(name, probation_s=PROBATION_S)
            self.ledger.counts[end] += 1

    async def _prepare(self, installed: Installed) -> Any:
        """Prepare a release; None where another of its name is being loaded."""
        name = installed.id.name
        is_busy = self._preparing[name] > 0
        self._preparing[name] += 1
        try:
            return await asyncio.to_thread(self.engine.prepare, installed)
        except ConflictError:
            self.ledger.counts["409"] += 1
            if not is_busy:
                self._wrong(f"{installed.id} met a conflict with nothing")
            return None
        finally:
            self._preparing[name] -= 1

    async def _roll_back(self, fault: Fault) -> None:
        self.engine.roll_back(fault.name)

    async def _settle(self, fault: Fault) -> None:
        self.engine.settle(fault.name)

    async def _route(self, fault: Fault) -> None:
        """Another routing, of those that what is loaded allows."""
        versions = self.engine.versions(fault.name)
        choices = [Routing(kind=kind) for kind in ("latest", "canary", "shadow")]
        choices += [Routing(kind="pinned", version=version) for version in versions]
        if len(versions) > 1:
            choices += [
                Routing(kind=kind, version=version, share=0.3)
                for kind in ("canary", "shadow")
                for version in versions
            ]
        if versions:
            chosen = fault.pick(choices)
            self.log[-1] += f" {chosen.kind} {chosen.version}"
            self.engine.route(fault.name, chosen)

    async def _load(self, fault: Fault) -> None:
        """The next release, over HTTP."""
        self._spawn(self._command(fault.name, "load", {200, 409}))

    async def _remove(self, fault: Fault) -> None:
        """The name is gone for a while."""
        if self.engine.versions(fault.name):
            await self._command(fault.name, "unload", {200})
            self._spawn(self._try_switch(self.shelf.good(fault.name)))

    async def _command(self, name: str, verb: str, allowed: set[int]) -> None:
        is_load = verb == "load"
        self._preparing[name] += is_load
        began_s = time.monotonic()
        wire = Wire(self._address)
        response = await wire.post(f"/v2/repository/models/{name}/{verb}", {})
        await wire.close()
        self._preparing[name] -= is_load
        if response.status == 422 and self._spare_killed_s >= began_s - 1:
            return
        if response.status not in allowed:
            self._wrong(f"{verb} {name}: {response}")


def _message(asked: Asked) -> tuple[str, dict[str, Any]]:
    version = f"/versions/{asked.version}" if asked.version is not None else ""
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(asked.x.shape),
        "data": asked.x.ravel().tolist(),
    }
    parameters = {"timeout_ms": asked.deadline_s * 1000}
    fields = {"id": asked.id, "inputs": [tensor], "parameters": parameters}
    return f"/v2/models/{asked.name}{version}/infer", fields

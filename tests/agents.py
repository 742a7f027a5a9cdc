"""A gateway's agent with everything around it in memory, but for the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skerry.comms.codec import decode, encode
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import SystemClock
from skerry.core.documents import Json
from skerry.core.errors import RuntimeFailure, StorageError
from skerry.core.messages import Message
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.edge.agent import Agent, AgentSettings
from skerry.edge.engine import Engine
from skerry.edge.slots import Slots
from skerry.edge.start import start_serving
from skerry.evolve.update_state import UpdatePolicy
from skerry.runtimes.null import NullRuntime, NullSession
from tests.releases import NAME, SIZE, MemoryHub, small_release

DOWN, UP = "skerry/1/main/gw/down", "skerry/1/main/gw/up"
PLENTY = 1 << 40
POLICY = UpdatePolicy(probation_s=0.1, backoff_s=0.02, longest_wait_s=0.1)
X = {"x": np.zeros((1, SIZE), np.float32)}
Script = Callable[["Bench"], Awaitable[None]]


def zeros(inputs: Tensors) -> dict[str, Array]:
    """What every model answers."""
    return {"y": np.zeros_like(inputs["x"])}


class Fickle(NullRuntime):
    """A runtime that answers, or refuses to load, as the test says."""

    def __init__(self) -> None:
        super().__init__(zeros)
        self.broken: set[bytes] = set()
        self.nan: set[bytes] = set()
        self.is_serving = False

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        """Load, unless the test says otherwise."""
        content = model.path.read_bytes()
        if content in self.broken:
            raise RuntimeFailure("it will not load", hint="Never.")

        def answer(inputs: Tensors) -> dict[str, Array]:
            if self.is_serving and content in self.nan:
                return {"y": np.full_like(inputs["x"], np.nan)}
            return zeros(inputs)

        super().load(model, options)
        return NullSession(model, answer)


class FakeUplink:
    """An uplink that keeps what it is given, and what the hub would make of it."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.reported: dict[str, dict[str, Any]] = {}
        self.patches: list[Mapping[str, Any]] = []
        self.taken: list[Message] = []
        self.is_full = False

    async def put(self, kind: str, body: Mapping[str, Json], trace: str = "") -> int:
        assert trace == ""
        if self.is_full:
            raise StorageError("the outbox is full", hint="Wait.")
        content: Any = body
        if kind == "event":
            self.events.append(content)
        else:
            assert kind == "reported"
            self.patches.append(content["patch"])
            for section, values in content["patch"].items():
                kept = self.reported.setdefault(section, {})
                for key, value in values.items():
                    kept.pop(key, None)
                    if value is not None:
                        kept[key] = value
        return len(self.events) + len(self.patches)

    async def take(self, message: Message) -> None:
        self.taken.append(message)

    @property
    def failures(self) -> list[Mapping[str, Any]]:
        """The steps that failed."""
        return [event for event in self.events if "step" in event and "what" in event]

    def told(self, name: str) -> list[Mapping[str, Any]]:
        """The events of a name."""
        return [event for event in self.events if event["name"] == name]


class Bench:
    """A gateway's agent with everything around it in memory, but for the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = MemoryHub()
        self.broker = MemoryBroker()
        self.runtime = Fickle()
        self.free = PLENTY
        self.policy = POLICY
        self.outbox = FakeUplink()
        self.ups: list[tuple[str, Message]] = []
        self.version = 0

    @contextlib.asynccontextmanager
    async def gateway(self, *, is_killed: bool = False) -> AsyncIterator[Agent]:
        """Run the gateway for as long as the context is open."""
        clock = SystemClock()
        self.engine = Engine(clock=clock, runtimes=lambda _: self.runtime)
        self.slots = Slots(self.folder, target="any")
        troubles = await start_serving(
            self.engine, self.slots, now_ms=clock.unix_ms(), in_thread=asyncio.to_thread
        )
        link = self.broker.link("gw")
        self.agent = Agent(
            AgentSettings(
                device="gw",
                folder=self.folder,
                policy=self.policy,
                tick_s=0.01,
                figures_s=0.02,
            ),
            link=link,
            uplink=self.outbox,
            blobs=self.hub,
            trust=self.hub,
            engine=self.engine,
            slots=self.slots,
            clock=clock,
            rng=np.random.default_rng(0),
            troubles=[*self.slots.troubles, *troubles],
            free_bytes=lambda _: self.free,
        )
        running = asyncio.create_task(self.agent.run())
        if is_killed:
            self.slots.pause = lambda: None  # type: ignore[method-assign]
        try:
            yield self.agent
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await link.close()
            self.engine.close()

    async def listen(self) -> None:
        """Hear what the gateway publishes."""
        hub = self.broker.link("hub")

        async def receive(topic: str, payload: bytes) -> None:
            self.ups.append((topic, decode(payload)))

        await hub.subscribe(f"{UP}/+", receive)

    def send(self, kind: str, body: Mapping[str, Json], *, device: str = "gw") -> None:
        """Publish a message to the gateway."""
        message = Message(kind=kind, device=device, sent_at_ms=0, body=body)
        retain = kind == "desired"
        self.broker.route(f"{DOWN}/{kind}", encode(message), retain=retain)

    def desire(self, version: int, rollout: str = "") -> None:
        """Ask for a version."""
        self.version += 1
        wanted: Json = {NAME: {"version": version, "rollout": rollout or f"r{version}"}}
        self.send("desired", {"version": self.version, "desired": {"releases": wanted}})

    async def online(self) -> None:
        """Wait until the gateway hears."""
        await self.until(lambda: self.broker.retained(f"{UP}/status"))

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - of many kinds of things
                await asyncio.sleep(0.005)

    def serves(self, version: int) -> bool:
        """Whether this version serves, is settled, and is reported so."""
        running = self.outbox.reported.get("releases", {}).get(NAME, {})
        return (
            running.get("version") == version
            and not running["probation"]
            and NAME not in self.outbox.reported.get("update", {})
            and self.slots.facts(NAME).trial is None
        )

    async def get(self, version: int) -> None:
        """Publish, ask for and get a version."""
        self.hub.publish(small_release(version))
        self.desire(version)
        await self.until(lambda: self.serves(version))

    @property
    def refused(self) -> dict[str, Any]:
        """What is reported as refused."""
        refused: dict[str, Any] = self.outbox.reported.get("refused", {}).get(NAME, {})
        return refused


def play(folder: Path, script: Script) -> Bench:
    """Run a script with a gateway."""
    bench = Bench(folder)

    async def run() -> None:
        await bench.listen()
        async with bench.gateway():
            await script(bench)

    asyncio.run(run())
    return bench

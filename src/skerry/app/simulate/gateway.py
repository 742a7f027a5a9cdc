"""A gateway of a simulated fleet: the real parts, joined as `skerry.edge.gateway` does.

Only what lies outside of it is simulated: the broker, the way to the hub, the clock,
and the disk below its slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from skerry import __version__
from skerry.app.simulate.faults import DeviceClock, FaultyBlobs, FaultyDisk, Metadata
from skerry.app.simulate.gain import GainRuntime
from skerry.app.simulate.loop import Life
from skerry.comms.codec import encode
from skerry.comms.links import Grant, Will
from skerry.comms.memory import MemoryBroker
from skerry.comms.outbox import Outbox
from skerry.comms.topics import Topic, write_topic
from skerry.comms.uplink import Uplink
from skerry.core.documents import Json
from skerry.core.errors import StateError
from skerry.core.messages import Direction, Message, Up
from skerry.core.seams import BlobStore, Frame, Link, Runtime, Tensors
from skerry.edge.agent import Agent, AgentSettings
from skerry.edge.engine import Answer, Engine
from skerry.edge.offers import Offers
from skerry.edge.slots import Slots
from skerry.edge.start import start_serving
from skerry.edge.trust import DeviceTrust
from skerry.edge.vault import CLEAR, LendingRuntime, Vault, lending
from skerry.edge.watch import FieldWatch
from skerry.evolve.update_state import UpdatePolicy
from skerry.runtimes import get_runtime

TRUST_FOLDER = "trust"
OUTBOX_FILE = "outbox.db"
PLENTY_BYTES = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """What is around a gateway.

    Attributes:
        broker: Carries its messages.
        reach_blobs: Gives the hub's blobs to a device; raises `LinkError` if it cannot.
        fetch_metadata: Gives a metadata file to a device; it, too.
        ask_hub: Gives an answer of the hub's API to a device; it, too.
    """

    broker: MemoryBroker
    reach_blobs: Callable[[str], BlobStore]
    fetch_metadata: Callable[[str, str], bytes | None]
    ask_hub: Callable[[str, str], Awaitable[Mapping[str, Json]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Running:
    """What is gone when a gateway dies."""

    life: Life
    engine: Engine
    link: Link
    slots: Slots
    outbox: Outbox
    uplink: Uplink
    agent: Agent
    watch: FieldWatch


class SimulatedGateway:
    """One gateway and its bad days.

    Args:
        folder: Its disk; enrolled already.
        tenant: Whose it is.
        device: Its name.
        grant: What it may do on the broker.
        around: What is around it.
        clock: Its clock.
        policy: What it can run, and how patient it is.
        seed: Of its chance.

    Attributes:
        name: Its name.
        folder: Its disk.
        clock: Its clock.
        disk: What its slots are written to.
        vault: Keeps its files.
        blobs: Its way to the hub's blobs.
        metadata: Metadata that it gets in place of the hub's, or None.
        free_bytes: How much its file system says it can still take.
        slowness: How many times longer an inference takes than its model says.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tenant: str,
        device: str,
        grant: Grant,
        around: Surroundings,
        clock: DeviceClock,
        policy: UpdatePolicy,
        seed: int,
    ) -> None:
        self.name = device
        self.folder = folder
        self.clock = clock
        self.disk = FaultyDisk(np.random.default_rng([seed, 1]))
        self.vault: Vault = CLEAR
        self.blobs = FaultyBlobs(lambda: around.reach_blobs(device))
        self.metadata: Metadata | None = None
        self.free_bytes = PLENTY_BYTES
        self.slowness = 1.0
        self._tenant = tenant
        self._grant = grant
        self._around = around
        self._policy = policy
        self._rng = np.random.default_rng([seed, 2])
        self._frames = 0
        self._running: _Running | None = None

    @property
    def username(self) -> str:
        """Its name at the broker."""
        return f"{self._tenant}/{self.name}"

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._running is not None and not self._running.life.is_over

    @property
    def engine(self) -> Engine:
        """What serves."""
        return self._alive.engine

    @property
    def agent(self) -> Agent:
        """What updates."""
        return self._alive.agent

    @property
    def slots(self) -> Slots:
        """What is on its disk."""
        return self._alive.slots

    @property
    def outbox(self) -> Outbox:
        """What waits for the hub."""
        return self._alive.outbox

    @property
    def uplink(self) -> Uplink:
        """The way to the hub."""
        return self._alive.uplink

    def version(self, release: str) -> int | None:
        """The version of a release that serves, or None."""
        active = self.engine.active(release) if self.is_running else None
        return active.id.version if active else None

    async def start(self) -> None:
        """Serve what is on the disk, and look for the hub.

        Raises:
            StateError: It runs already.
            SkerryError: It cannot start with what is on its disk.
        """
        if self.is_running:
            raise StateError(f"{self.name} runs already", hint="Kill it first.")
        await self._bury()
        self.disk.power_up()
        self._around.broker.join(self.username)
        life = Life()
        self._running = await life.start(self._make(life))
        life.start(self._running.uplink.run())
        life.start(self._running.agent.run())

    async def kill(self) -> None:
        """End it as SIGKILL does: in the middle of anything, without a goodbye."""
        if self._running is not None:
            self._running.life.end()
        await self._bury()

    async def cut_power(self) -> None:
        """End it, and what was not safely on its disk may be lost."""
        await self.kill()
        self.disk.lose_power()

    async def stop(self) -> None:
        """Stop it on purpose."""
        if self._running is None or self._running.life.is_over:
            return
        running = self._running
        running.life.stop()
        await running.life.ended()
        await running.link.close()
        await self._bury()

    async def ask(self, release: str, inputs: Tensors) -> Answer:
        """Have one request answered.

        Raises:
            The errors of `skerry.edge.engine.Engine.infer`.
        """
        return await self._alive.life.start(self.engine.infer(release, inputs))

    async def look(self, release: str, frames: Iterable[Tensors]) -> list[Answer]:
        """Show frames to its camera; its field watch looks at the answers."""
        return await self._alive.life.start(self._look(release, frames))

    @property
    def _alive(self) -> _Running:
        if self._running is None or self._running.life.is_over:
            raise StateError(f"{self.name} is dead", hint="Start it.")
        return self._running

    async def _look(self, release: str, frames: Iterable[Tensors]) -> list[Answer]:
        engine, watch, answers = self.engine, self._alive.watch, []
        for inputs in frames:
            frame = Frame(
                source="camera",
                number=self._frames,
                captured_at_ms=self.clock.unix_ms(),
                inputs=inputs,
            )
            self._frames += 1
            answer = await engine.infer(release, inputs)
            answers.append(answer)
            installed = engine.active(release)
            if installed is not None and installed.id == answer.release:
                await watch.observe(frame, installed, answer.outputs)
        return answers

    async def _make(self, life: Life) -> _Running:
        """Join the parts, in the order of `skerry.edge.gateway`."""
        engine = Engine(clock=self.clock, runtimes=self._runtime)
        slots = await asyncio.to_thread(
            lambda: Slots(
                self.folder,
                target=self._policy.target,
                disk=self.disk,
                vault=self.vault,
            )
        )
        troubles = [*slots.troubles]
        troubles += await start_serving(
            engine,
            slots,
            now_ms=self.clock.unix_ms(),
            in_thread=asyncio.to_thread,
        )
        outbox = await asyncio.to_thread(
            lambda: Outbox(self.folder / OUTBOX_FILE, cipher=self.vault.cipher)
        )
        link = self._around.broker.link(
            self.username, will=self._will(), grant=self._grant
        )
        uplink = Uplink(
            outbox, link, tenant=self._tenant, device=self.name, clock=self.clock
        )
        watch = FieldWatch(uplink.put, clock=self.clock, rng=self._rng)
        agent = Agent(
            self._settings(),
            link=link,
            uplink=uplink,
            blobs=self.blobs,
            trust=await asyncio.to_thread(self._trust),
            engine=engine,
            slots=slots,
            clock=self.clock,
            rng=self._rng,
            offers=Offers(
                partial(self._around.ask_hub, self.name),
                clock=self.clock,
                rng=self._rng,
            ),
            troubles=troubles,
            on_collect=watch.configure,
            free_bytes=lambda _: self.free_bytes,
        )
        return _Running(
            life=life,
            engine=engine,
            link=link,
            slots=slots,
            outbox=outbox,
            uplink=uplink,
            agent=agent,
            watch=watch,
        )

    async def _bury(self) -> None:
        """Wait until all of a dead gateway is gone, and let go of its files."""
        running, self._running = self._running, None
        if running is None:
            return
        self._around.broker.cut(self.username)
        await running.life.ended()
        await running.link.close()
        running.engine.close()
        running.outbox.close()

    def _runtime(self, name: str) -> Runtime:
        lend = lending(self.vault)
        if name != "null":
            return LendingRuntime(get_runtime(name), lend)
        gains = GainRuntime(lambda seconds: self.clock.work(seconds * self.slowness))
        return LendingRuntime(gains, lend)

    def _settings(self) -> AgentSettings:
        return AgentSettings(
            tenant=self._tenant,
            device=self.name,
            folder=self.folder,
            version=__version__,
            policy=self._policy,
            tick_s=1.0,
        )

    def _will(self) -> Will:
        topic = Topic(
            tenant=self._tenant,
            device=self.name,
            direction=Direction.UP,
            kind=Up.STATUS,
        )
        gone = Message(
            kind=Up.STATUS,
            device=self.name,
            sent_at_ms=self.clock.unix_ms(),
            body={"is_online": False},
        )
        return Will(topic=write_topic(topic), payload=encode(gone), retain=True)

    def _trust(self) -> DeviceTrust:
        return DeviceTrust(
            self.folder / TRUST_FOLDER,
            tenant=self._tenant,
            fetch=self._fetch,
            clock=self.clock,
            vault=self.vault,
        )

    def _fetch(self, name: str) -> bytes | None:
        if self.metadata is not None:
            return self.metadata.get(name)
        return self._around.fetch_metadata(self.name, name)

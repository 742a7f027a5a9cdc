"""The agent: makes a gateway what its shadow says it should be, and reports.

It hears what is desired, feeds one update machine a release name, carries out what the
machines answer, and tells the hub. Nothing that it does can stop what serves: whatever
fails in an update, foreseen or not, becomes an event and a refusal or a later attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from skerry.comms.codec import decode, encode
from skerry.comms.topics import Topic, device_pattern, write_topic
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import DataError, SkerryError
from skerry.core.fleet import DEFAULT_TENANT
from skerry.core.messages import Direction, Down, Message, Up
from skerry.core.release import AGENT_LEVEL
from skerry.core.seams import BlobStore, Link
from skerry.edge.desired import MOST_NAMES, read_desired
from skerry.edge.downloads import Downloads
from skerry.edge.hearing import Hearing
from skerry.edge.neighbours import Neighbours
from skerry.edge.offers import Offers
from skerry.edge.profiling import Profiler
from skerry.edge.reporting import (
    Outgoing,
    Reporter,
    update_under_way,
    why_refused,
)
from skerry.edge.slots import Slots
from skerry.edge.update_steps import (
    InThread,
    Serving,
    Trust,
    UpdateParts,
    UpdateSteps,
    refusal_of,
)
from skerry.edge.vault import Level
from skerry.evolve.probation import Figures
from skerry.evolve.update import step
from skerry.evolve.update_state import (
    Action,
    Desired,
    Done,
    Event,
    Facts,
    Failed,
    Halt,
    Keep,
    Phase,
    Refused,
    Restarted,
    Run,
    Tell,
    Tick,
    UpdatePolicy,
    UpdateState,
    Want,
)

log = logging.getLogger(__name__)

_GOODBYE_S = 2.0
_SAID_LATELY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Who the device is, and how it behaves.

    Attributes:
        tenant: Whose it is.
        device: Its name.
        folder: All that it keeps.
        address: Where it serves, or empty.
        version: The version of Skerry, for the report.
        zone: The IANA name of its time zone, or empty.
        policy: What it can run, and how patient it is.
        tick_s: How often it looks at the time.
        heartbeat_s: How often it says that it is there.
        figures_s: How often it reports how much it served.
        peers: Where it gives blobs to its neighbours, or empty.
        quota_bytes: Most bytes that releases and downloads may take on the disk.
        sealed: Where the key comes from that seals its folder, or `none`.
    """

    tenant: str = DEFAULT_TENANT
    device: str
    folder: Path
    address: str = ""
    version: str = ""
    zone: str = ""
    policy: UpdatePolicy = field(default_factory=UpdatePolicy)
    tick_s: float = 0.25
    heartbeat_s: float = 30.0
    figures_s: float = 10.0
    peers: str = ""
    quota_bytes: int | None = None
    sealed: Level = "none"


class _Worker:
    """One release name: its machine's state, and what is being done for it."""

    def __init__(self, state: UpdateState, steps: UpdateSteps) -> None:
        self.state = state
        self.steps = steps
        self.task: asyncio.Task[None] | None = None
        self.keeping: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of it, and nothing is under way."""
        tasks = [task for task in (self.task, self.keeping) if task is not None]
        return self.state.desired is None and all(task.done() for task in tasks)


class Agent:
    """The agent of one gateway; all its methods belong to the event loop.

    Whoever makes it runs `uplink` and closes `link`.

    Args:
        settings: Who the device is.
        link: The way to the broker.
        uplink: Keeps what is reported until the hub has it.
        blobs: Where blobs come from.
        trust: What is signed.
        engine: What serves; it serves what `start_serving` loaded.
        slots: What is on the disk.
        clock: What it waits by.
        rng: Spreads the waits of a fleet.
        neighbours: Who on the same site may have a blob, or None.
        offers: The hub's ways to a model, or None.
        troubles: What went wrong before, for the device's log.
        on_collect: Takes the settings of the field watch.
        free_bytes: How much the file system of a folder can still take.
        in_thread: Where blocking work goes.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        link: Link,
        uplink: Outgoing,
        blobs: BlobStore,
        trust: Trust,
        engine: Serving,
        slots: Slots,
        clock: Clock,
        rng: np.random.Generator,
        neighbours: Neighbours | None = None,
        offers: Offers | None = None,
        troubles: Sequence[str] = (),
        on_collect: Callable[[Mapping[str, Json]], None] | None = None,
        free_bytes: Callable[[Path], int] | None = None,
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        self._settings = settings
        self._link = link
        self._uplink = uplink
        self._engine = engine
        self._slots = slots
        self._clock = clock
        self._rng = rng
        self._troubles = tuple(troubles)
        self._on_collect = on_collect
        self._in_thread = in_thread
        self._parts = UpdateParts(
            tenant=settings.tenant,
            target=settings.policy.target,
            downloads=Downloads(
                settings.folder,
                slots,
                engine,
                free_bytes=free_bytes,
                quota_bytes=settings.quota_bytes,
            ),
            blobs=blobs,
            trust=trust,
            engine=engine,
            slots=slots,
            neighbours=neighbours,
            offers=offers,
            in_thread=in_thread,
        )
        self._workers: dict[str, _Worker] = {}
        self._since: dict[str, tuple[int, int]] = {}
        self._shadow_version = -1
        self._boot = secrets.token_hex(8)
        self._said_online_s = float("-inf")
        self._n_malformed = 0
        self._wall_s, self._now_ms = clock.wall_s(), clock.unix_ms()
        self.reporter = Reporter(uplink, clock=clock, now_ms=self.now_ms)
        self._hearing = Hearing(
            self._parts,
            settings.device,
            take=self._take_desired,
            refuse=self._malformed,
            clock=clock,
        )
        self._profiling: set[asyncio.Task[None]] = set()
        self._profiler = Profiler(
            engine,
            names=slots.names,
            is_updating=lambda: any(
                worker.state.phase is not Phase.IDLE
                for worker in self._workers.values()
            ),
            abi=settings.policy.abi,
            clock=clock,
        )

    def now_ms(self) -> int:
        """Milliseconds since 1970, of a clock that may be set but never goes back."""
        wall_s = self._clock.wall_s()
        passed_ms = round((wall_s - self._wall_s) * 1000)
        self._now_ms = max(self._now_ms + passed_ms, self._clock.unix_ms())
        self._wall_s = wall_s
        return self._now_ms

    @property
    def states(self) -> Mapping[str, UpdateState]:
        """Where the update of each release name stands."""
        return {name: worker.state for name, worker in self._workers.items()}

    async def run(self) -> None:
        """Update and report, for ever; cancel it to stop."""
        self._begin()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.reporter.run())
                group.create_task(self._subscribe())
                group.create_task(self._tick_for_ever())
                group.create_task(self._stay_online())
        finally:
            await self._stop()

    def _begin(self) -> None:
        settings, reporter = self._settings, self.reporter
        facts: dict[str, Json] = {
            "version": settings.version,
            "level": AGENT_LEVEL,
            "target": settings.policy.target,
            "abi": settings.policy.abi,
            "zone": settings.zone,
            "address": settings.address,
            "peers": settings.peers or None,
            "sealed": settings.sealed,
            "started_at_ms": self.now_ms(),
        }
        if settings.policy.runtimes is not None:
            facts["runtimes"] = sorted(settings.policy.runtimes)
        for key, value in facts.items():
            reporter.note("agent", key, value)
        reporter.tell("gateway.started", {"address": settings.address})
        for trouble in self._troubles:
            reporter.tell("gateway.trouble", {"what": trouble})
        wants = {name: worker.state.desired for name, worker in self._workers.items()}
        self._workers.clear()
        for name in sorted({*self._slots.names(), *wants}):
            worker = self._worker(name)
            self._feed(worker, Desired(want=wants.get(name)))

    def _worker(self, name: str) -> _Worker:
        """The worker of a release name; made where there is none."""
        worker = self._workers.get(name)
        if worker is None:
            state = UpdateState(name=name, policy=self._settings.policy)
            worker = _Worker(state, UpdateSteps(name, self._parts))
            self._workers[name] = worker
            self._feed(worker, Restarted(facts=self._facts(name)))
        return worker

    def _facts(self, name: str) -> Facts:
        """What is on the disk; but what is active is what the engine serves."""
        facts = self._slots.facts(name)
        serves = self._engine.active(name)
        if serves is None:
            return replace(facts, active=None, trial=None)
        return replace(facts, active=serves.id.version)

    async def _stop(self) -> None:
        tasks = [
            task
            for worker in self._workers.values()
            for task in (worker.task, worker.keeping)
            if task is not None
        ]
        tasks += [*self._profiling, *self._hearing.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(SkerryError):
            await self._in_thread(self._slots.pause)
        with contextlib.suppress(SkerryError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._send(Up.STATUS, {"is_online": False}, retain=True)

    async def _subscribe(self) -> None:
        pattern = device_pattern(
            self._settings.tenant, self._settings.device, Direction.DOWN
        )
        while True:
            try:
                await self._link.subscribe(pattern, self._receive)
            except SkerryError as error:
                log.warning("agent.deaf", extra={"why": error.what})
                await self._clock.sleep(self._settings.heartbeat_s)
            else:
                return

    async def _stay_online(self) -> None:
        while True:
            await self._link.wait_connected()
            await self._say_online()
            await self._clock.sleep(self._settings.heartbeat_s)

    async def _say_online(self) -> None:
        # After a broken link the broker's retained will says the opposite.
        with contextlib.suppress(SkerryError):
            await self._send(Up.STATUS, self._online(), retain=True)
            self._said_online_s = self._clock.wall_s()

    def _online(self) -> Mapping[str, Json]:
        return {"is_online": True, "boot": self._boot}

    async def _answer_online(self) -> None:
        # A hub that has just started does not know that this device is online. But it
        # answers each such word with what is desired: without end, if that were
        # answered each time.
        if self._clock.wall_s() - self._said_online_s >= _SAID_LATELY_S:
            await self._say_online()

    async def _send(
        self, kind: str, body: Mapping[str, Json], *, retain: bool = False
    ) -> None:
        settings = self._settings
        topic = Topic(
            tenant=settings.tenant,
            device=settings.device,
            direction=Direction.UP,
            kind=kind,
        )
        message = Message(
            kind=kind, device=settings.device, sent_at_ms=self.now_ms(), body=body
        )
        await self._link.publish(write_topic(topic), encode(message), retain=retain)

    async def _receive(self, topic: str, payload: bytes) -> None:
        try:
            await self._take(decode(payload))
        except DataError as error:
            self._malformed(f"{topic}: {error.what}")
        except Exception:
            # A message must never end the link's delivery.
            log.exception("agent.message_failed", extra={"topic": topic})

    async def _take(self, message: Message) -> None:
        if message.device != self._settings.device:
            return
        if message.kind == Down.DESIRED:
            await self._hearing.hear(message.body)
            await self._answer_online()
        elif message.kind == Down.PING:
            with contextlib.suppress(SkerryError):
                await self._send(Up.PONG, {"id": message.body.get("id")})
        elif message.kind == Down.PROFILE:
            task = asyncio.create_task(self._answer_profile(message.body))
            self._profiling.add(task)
            task.add_done_callback(self._profiling.discard)
        elif message.kind in {Down.ACK, Down.RESEND, Down.REJECTED}:
            await self._uplink.take(message)
        else:
            self._malformed(f"a message of the unknown kind {message.kind!r}")

    async def _answer_profile(self, body: Mapping[str, Json]) -> None:
        with contextlib.suppress(SkerryError):
            await self._send(Up.PROFILED, await self._profiler.answer(body))

    def _take_desired(
        self, body: Mapping[str, Json], *, is_signed: bool = False
    ) -> None:
        wants = read_desired(body)
        is_old = wants.version <= self._shadow_version
        # What is signed is in order, and a hub that was restored counts from less.
        if wants.version == self._shadow_version or (is_old and not is_signed):
            return
        self._shadow_version = wants.version
        for fault in wants.faults:
            self._malformed(fault)
        self._forget_names(wants.releases)
        for name in sorted(set(wants.releases) | set(self._workers)):
            if name in self._workers or len(self._workers) < 2 * MOST_NAMES:
                self._feed(self._worker(name), Desired(want=wants.releases.get(name)))
            else:
                self._malformed(f"{name} is one release name too many")
        if self._on_collect is not None:
            self._on_collect(wants.collect)

    def _forget_names(self, wanted: Mapping[str, Want]) -> None:
        """Let go of names of which nothing is here: a hub may ask for ever new ones."""
        kept = {*wanted, *self._slots.names()}
        for name, worker in list(self._workers.items()):
            if name not in kept and worker.is_idle:
                del self._workers[name]
                self.reporter.forget(name)

    def _malformed(self, what: str) -> None:
        """Tell of something that makes no sense; of many alike, ever fewer."""
        self._n_malformed += 1
        n = self._n_malformed
        if n & (n - 1) == 0:
            self.reporter.tell("message.malformed", {"what": what, "n": n})

    async def _tick_for_ever(self) -> None:
        due_s = self._clock.wall_s()
        while True:
            await self._clock.sleep(self._settings.tick_s)
            is_due = self._clock.wall_s() >= due_s
            for name, worker in list(self._workers.items()):
                try:
                    self._feed(worker, Tick(figures=self._figures(name)))
                    if is_due:
                        self._note_serving(name)
                except Exception:
                    log.exception("agent.tick_failed", extra={"release": name})
            if is_due:
                due_s = self._clock.wall_s() + self._settings.figures_s

    def _figures(self, name: str) -> Figures:
        if self._engine.active(name) is None:
            return Figures()
        return self._engine.figures(name).on_probation

    def _note_serving(self, name: str) -> None:
        served: Json = None
        active = self._engine.active(name)
        if active is not None:
            version = active.id.version
            served = {"version": version, **self._engine.figures(name).reported}
        self.reporter.note("serving", name, served)

    def _feed(self, worker: _Worker, event: Event) -> None:
        state, actions = step(worker.state, event, now_ms=self.now_ms(), rng=self._rng)
        worker.state = state
        for action in actions:
            self._act(worker, action)

    def _act(self, worker: _Worker, action: Action) -> None:
        match action:
            case Run():
                before = worker.task
                if before is not asyncio.current_task() and before is not None:
                    before.cancel()  # Only a download is ever given up.
                worker.task = asyncio.create_task(
                    self._carry_out(worker, action, before)
                )
            case Halt():
                if worker.task is not None:
                    worker.task.cancel()
            case Keep():
                before = worker.keeping
                worker.keeping = asyncio.create_task(
                    self._keep(worker, action.refused, before)
                )
            case Tell():
                self.reporter.tell(action.name, action.fields)
            case _:
                self._note_state(worker)

    async def _carry_out(
        self, worker: _Worker, run: Run, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        name = worker.state.name
        try:
            found = await worker.steps.carry_out(run)
        except Exception as error:  # Nothing that fails here may stop what serves.
            release = f"{name}/{run.want.version}"
            refusal, is_foreseen = refusal_of(
                error, release, run.step, at_ms=self.now_ms()
            )
            if not is_foreseen:
                log.exception("update.bug", extra={"release": release})
            self._feed(
                worker,
                Failed(
                    serial=run.serial,
                    facts=self._facts(name),
                    refusal=refusal,
                    is_foreseen=is_foreseen,
                ),
            )
        else:
            done = Done(serial=run.serial, facts=self._facts(name), found=found)
            self._feed(worker, done)

    async def _keep(
        self,
        worker: _Worker,
        refused: Refused | None,
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        try:
            await self._in_thread(self._slots.refuse, worker.state.name, refused)
        except SkerryError as error:
            # Forgotten by the next start, it is only refused once more.
            self.reporter.tell("storage.failed", {"what": error.what})

    def _note_state(self, worker: _Worker) -> None:
        state, note = worker.state, self.reporter.note
        serves = self._engine.active(state.name)
        running: Json = None
        if serves is not None:
            version = serves.id.version
            if self._since.get(state.name, (0, 0))[0] != version:
                self._since[state.name] = (version, self.now_ms())
            running = {
                "version": version,
                "blob": serves.model.blob.sha256,
                "since_ms": self._since[state.name][1],
                "probation": state.phase is Phase.PROBATION,
            }
        note("agent", "received_bytes", self._parts.downloads.received_bytes() or None)
        note("releases", state.name, running)
        note("update", state.name, update_under_way(state))
        note("refused", state.name, why_refused(state.why))

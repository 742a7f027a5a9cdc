"""The real agent, slots and trust of a gateway, with each fault at each of its steps.

One simulated gateway (`skerry.app.simulate`) is updated again and again, and each time
something happens at one step, or at one call to the disk. Between any two steps of any
task it is looked at: it must serve a release whose every byte was signed, its counter
never falls, and what it serves is what it served or what is desired. In the end it is
restarted, and must come to what is desired or say why not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks._faults_fleet import quick_folder
from benchmarks._faults_machine import Explored
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import GAIN_INPUTS, GainModel, make_gain_release
from skerry.app.simulate.gateway import SimulatedGateway
from skerry.app.simulate.loop import simulate
from skerry.comms.topics import Topic, write_topic
from skerry.core.errors import LateError, SkerryError
from skerry.core.fleet import DEFAULT_TENANT, Gate, RolloutState
from skerry.core.messages import Direction, Down
from skerry.core.release import Blob
from skerry.evolve.update_state import Phase, Step

NAME = "meter"
DEVICE = "gateway-1"
BALLAST = 20_000
PATIENT = Gate(timeout_s=86_400.0)
STEPS = (
    Step.REFRESH,
    Step.MANIFEST,
    Step.BLOBS,
    Step.REBUILD,
    Step.INSTALL,
    Step.LOAD,
    Step.SWITCH,
    Step.SETTLE,
    Step.ROLL_BACK,
)
PAUSE_S = 4.0
"""How long a fault lasts."""

TEN_YEARS_MS = 10 * 365 * 86_400_000
Harm = Callable[[], Awaitable[None]]


def try_device(*, is_short: bool) -> Explored:
    """Try each fault at each step.

    Args:
        is_short: Whether a few steps will do.
    """

    async def story() -> Explored:
        with quick_folder() as folder:
            async with FleetSimulator(folder, devices=(DEVICE,), seed=3) as fleet:
                trial = DeviceTrial(fleet)
                await trial.run(STEPS[4:7] if is_short else STEPS)
                return trial.explored

    return simulate(story())


class DeviceTrial:
    """One gateway, and what is done to it.

    Args:
        fleet: The fleet of which it is the only one.

    Attributes:
        explored: What was found.
    """

    def __init__(self, fleet: FleetSimulator) -> None:
        self.explored = Explored()
        self._fleet = fleet
        self._version = 0
        self._signed: dict[int, frozenset[str]] = {}
        self._counter = 0
        self._case = ""
        self._allowed: set[int] = set()
        self._checked: tuple[int, ...] = ()
        self._is_rotten = False  # the disk has spoilt what was loaded from it
        self._old_words: list[bytes] = []

    @property
    def _gateway(self) -> SimulatedGateway:
        return self._fleet.gateways[DEVICE]

    async def run(self, steps: tuple[Step, ...]) -> None:
        """Try all faults at some steps, then a power cut at each call to the disk."""
        await self._update(None)
        faults: dict[str, tuple[Harm, ...]] = {
            "power cut": (self._cut_power,),
            "link cut": (self._cut_link,),
            "disk full": (self._fill,),
            "clock jump": (self._to_1970, self._by_years),
            "duplicate": (self._say_again,),
            "reordered": (self._say_old,),
            "flipped byte": (
                self._flip_on_the_way,
                self._flip_standby,
                self._flip_record,
                self._flip_trust,
            ),
        }
        for step in steps:
            for fault, harms in faults.items():
                for harm in harms:
                    self.explored.cases[step.value, fault] += 1
                    self._case = f"{harm.__name__.strip('_')} at {step.value}"
                    await self._try(step, harm)
        before = self._gateway.disk.calls
        self._case = "no fault"
        await self._update(None)
        for call in range(self._gateway.disk.calls - before):
            self.explored.cases["each call to the disk", "power cut"] += 1
            self._case = f"power cut at call {call}"
            await self._update(call)

    async def _try(self, step: Step, harm: Harm) -> None:
        is_bad = step is Step.ROLL_BACK
        if is_bad:
            # What it is to go back to: a fault before may have spoilt that.
            await self._update(None)
        rollout = await self._begin()
        self._is_rotten = harm == self._flip_standby and step not in STEPS[:6]
        if is_bad:
            await self._catch(lambda: self._state.phase is Phase.PROBATION)
            await self._fleet.hub.rollouts.undo(rollout)
        await self._catch(lambda: self._state.running is step)
        await harm()
        await self._come_to_rest(rollout)

    async def _update(self, call: int | None) -> None:
        """Update it; the power is cut at one call to the disk, or not."""
        disk = self._gateway.disk
        if call is not None:
            disk.cut_at = disk.calls + call
        rollout = await self._begin()
        if call is not None:
            await self._catch(lambda: not self._gateway.is_running)
            await self._restart()
        await self._come_to_rest(rollout)

    async def _begin(self) -> str:
        fleet = self._fleet
        self._version += 1
        model = GainModel(gain=float(self._version), ballast_bytes=BALLAST)
        manifest, blobs = make_gain_release(NAME, self._version, model)
        self._signed[self._version] = frozenset(blobs)
        await fleet.publish(manifest, blobs)
        serves = self._gateway.version(NAME)
        self._allowed = {self._version} | ({serves} if serves else set())
        release = f"{NAME}/{self._version}"
        return await fleet.begin(
            release, gate=PATIENT, on_failure="stop", supersede=True
        )

    async def _come_to_rest(self, rollout: str) -> None:
        """All is well from here on: see what becomes of it."""
        fleet, gateway = self._fleet, self._gateway
        ended = await fleet.wait_for(rollout)
        await fleet.run_until(lambda: self._state.phase is Phase.IDLE)
        self._look()
        is_there = gateway.version(NAME) == self._version
        if ended.state is RolloutState.SUCCEEDED and not is_there:
            self._break("the rollout succeeded, and the release does not serve")
        served = gateway.version(NAME)
        await self._restart()
        if gateway.version(NAME) != served and not self._is_rotten:
            self._break(f"{served} served, {gateway.version(NAME)} after a restart")
        answer = await gateway.ask(NAME, GAIN_INPUTS)
        gain = gateway.version(NAME) or 0
        if not (answer.outputs["y"] == GAIN_INPUTS["x"] * gain).all():
            self._break("its answer is that of another release")
        await fleet.settle()

    async def _restart(self) -> None:
        await self._gateway.cut_power()
        try:
            await self._gateway.start()
        except SkerryError as error:
            self._break(f"it does not start: {error}")
        self._look()

    async def _catch(self, condition: Callable[[], bool]) -> None:
        """Go on until something is so, with an eye on what must hold."""

        def is_so() -> bool:
            self._look()
            return condition()

        try:
            await self._fleet.catch(is_so, timeout_s=600)
        except LateError:
            self._break("it never came so far")

    @property
    def _state(self) -> Any:
        return self._gateway.agent.states[NAME]

    def _look(self) -> None:
        """Check what must hold at any moment."""
        self.explored.states += 1
        gateway = self._gateway
        has_begun = self._counter > 0 or gateway.version(NAME) is not None
        if not gateway.is_running or not has_begun:
            return
        active = gateway.engine.active(NAME)
        facts = gateway.slots.facts(NAME)
        if active is None:
            self._break("nothing serves")
            return
        version = active.id.version
        if version not in self._allowed:
            self._break(f"{version} serves, which nobody wants")
        if facts.counter < self._counter:
            self._break(f"the counter fell from {self._counter} to {facts.counter}")
        self._counter = max(self._counter, facts.counter)
        state = (version, facts.counter)
        if state != self._checked and not self._is_rotten:
            self._checked = state
            files = [path.read_bytes() for path in active.files.values()]
            if not {Blob.of(file).sha256 for file in files} <= self._signed[version]:
                self._break(f"{version} serves with bytes that nobody signed")

    def _break(self, what: str) -> None:
        self.explored.broken.append(f"{what}: {self._case}")

    # What happens to it.

    async def _cut_power(self) -> None:
        await self._restart()

    async def _cut_link(self) -> None:
        self._fleet.cut(DEVICE)
        await self._fleet.run_for(PAUSE_S)
        self._fleet.join(DEVICE)

    async def _fill(self) -> None:
        self._gateway.disk.is_full = True
        await self._fleet.run_for(PAUSE_S)
        self._gateway.disk.is_full = False

    async def _to_1970(self) -> None:
        await self._jump(0)

    async def _by_years(self) -> None:
        await self._jump(self._fleet.clock.unix_ms() + TEN_YEARS_MS)

    async def _jump(self, unix_ms: int) -> None:
        self._gateway.clock.set_unix_ms(unix_ms)
        await self._fleet.run_for(PAUSE_S)
        self._gateway.clock.set_unix_ms(self._fleet.clock.unix_ms())

    async def _say_again(self) -> None:
        for _ in range(3):
            self._fleet.hub.shadows.tell_again([DEVICE])
            await self._fleet.settle()

    async def _say_old(self) -> None:
        topic = Topic(
            tenant=DEFAULT_TENANT,
            device=DEVICE,
            direction=Direction.DOWN,
            kind=Down.DESIRED,
        )
        where = write_topic(topic)
        said = [payload for _, payload in self._fleet.broker.retained(where)]
        for payload in [*self._old_words[-5:], *said]:
            self._fleet.broker.route(where, payload, retain=False)
        self._old_words += said

    async def _flip_on_the_way(self) -> None:
        self._gateway.blobs.flipped = set(self._signed[self._version])
        await self._fleet.run_for(PAUSE_S)
        self._gateway.blobs.flipped = set()

    async def _flip_standby(self) -> None:
        active = self._gateway.engine.active(NAME)
        names = {path.parent.name for path in active.files.values()} if active else {""}
        for path in (self._gateway.folder / "slots" / NAME).glob("*/model.onnx"):
            if path.parent.name not in names:
                _flip(path)

    async def _flip_record(self) -> None:
        await self._gateway.kill()
        _flip(self._gateway.folder / "slots.json")
        await self._restart()

    async def _flip_trust(self) -> None:
        await self._gateway.kill()
        _flip(self._gateway.folder / "trust" / "trusted.json")
        await self._restart()


def _flip(path: Any) -> None:
    """Have one byte in the middle be another one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

"""Two hundred simulated gateways through releases, good and bad, on bad days.

Hub, agents, engines, slots, trust, outboxes and rollouts are the real ones, on
simulated disks, links and clocks (`skerry.app.simulate`). A gateway is bricked where it
lives and serves nothing after its first release, answers with anything but a whole
signed release, or does not come to the last release once all is well again.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import GAIN_INPUTS, GainModel, make_gain_release
from skerry.app.simulate.gateway import SimulatedGateway
from skerry.app.simulate.loop import simulate
from skerry.core.errors import SkerryError
from skerry.core.fleet import Gate, RolloutState, Wave
from skerry.core.release import Blob, write_manifest

MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made for us alone
"""A folder in memory, where the system has one: the disks are simulated anyhow."""

BALLAST = 150_000
NAME = "meter"
PATIENT = Gate(success_ratio=0.8, timeout_s=900.0)
ANY = Gate(success_ratio=0.0, timeout_s=900.0)
LAST = Gate(timeout_s=86_400.0)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """An empty folder, in memory where there is room for one."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


class Story:
    """What happens to a fleet, drawn by chance.

    Args:
        fleet: The fleet.
        seed: Of the chance.

    Attributes:
        sizes: The size of each blob that was published, at the end also that of each
            delta which the hub made.
        happened: How often each kind of bad day was had.
        bricked: By gateway, what was wrong with it first.
        looks: How often a gateway was looked at.
    """

    def __init__(self, fleet: FleetSimulator, seed: int) -> None:
        self.fleet = fleet
        self.rng = np.random.default_rng(seed)
        self.sizes: dict[str, int] = {}
        self.happened: Counter[str] = Counter()
        self.bricked: dict[str, str] = {}
        self.looks = 0
        self.version = 0
        self._served: set[str] = set()
        self._models: dict[int, bytes] = {}
        self._blobs: list[str] = []

    async def publish(self, **model: Any) -> str:
        """Publish the next release; each second with a delta from the one before."""
        self.version += 1
        promised = model.pop("promised_gain", None)
        own = GainModel(gain=float(self.version), ballast_bytes=BALLAST, **model)
        packed = make_gain_release(NAME, self.version, own, promised_gain=promised)
        manifest, blobs = packed
        self._models[self.version] = own.to_bytes()
        olds = {}
        if self.version % 2 and self.version > 1:
            old = self._models[self.version - 1]
            olds[Blob.of(old).sha256] = old
        bundle = await self.fleet.publish(manifest, blobs, deltas_from=olds)
        held = [*bundle.blobs.values(), write_manifest(manifest)]
        new = {Blob.of(content).sha256: len(content) for content in held}
        self._blobs = list(new)
        self.sizes |= new
        return f"{NAME}/{self.version}"

    async def roll_out(self, release: str, gate: Gate, **more: Any) -> str:
        """Begin a rollout: a twentieth, a quarter, the rest."""
        names = list(self.fleet.gateways)
        ends = (max(1, len(names) // 20), max(2, len(names) // 4), len(names))
        starts = (0, *ends[:-1])
        waves = tuple(
            Wave(devices=tuple(names[start:end]))
            for start, end in zip(starts, ends, strict=True)
        )
        return await self.fleet.begin(
            release, waves=waves, gate=gate, supersede=True, **more
        )

    async def live_until(self, rollout: str, *, most_rounds: int) -> None:
        """Bad days, one after the other, until a rollout has come to rest."""
        for _ in range(most_rounds):
            await self.suffer()
            await self.fleet.run_for(float(self.rng.uniform(0.2, 4)))
            await self.look_at_all()
            await self.help_up()
            if not (await self.fleet.hub.rollouts.get(rollout)).state.is_under_way:
                return
        await self.mend()
        await self.fleet.wait_for(rollout)

    async def suffer(self) -> None:
        """Some gateways have a bad day of their own; now and then all do."""
        happenings = (
            *(self.kill, self.cut_power, self.cut_power, self.cut, self.fill),
            *(self.break_off, self.break_off, self.flip, self.forget_the_date),
        )
        for gateway in self.draw(max(2, len(self.fleet.gateways) // 12)):
            happening = happenings[self.rng.integers(len(happenings))]
            self.happened[happening.__name__] += 1
            await happening(gateway)
        common: dict[Callable[[], Awaitable[None]], float] = {
            self.restart_broker: 0.15,
            self.restart_hub: 0.08,
        }
        for happening_to_all, chance in common.items():
            if self.rng.random() < chance:
                self.happened[happening_to_all.__name__] += 1
                await happening_to_all()

    async def kill(self, gateway: SimulatedGateway) -> None:
        """It dies wherever it is."""
        await gateway.kill()

    async def cut_power(self, gateway: SimulatedGateway) -> None:
        """It loses power at one of its next calls to the disk."""
        gateway.disk.cut_at = gateway.disk.calls + int(self.rng.integers(16))

    async def cut(self, gateway: SimulatedGateway) -> None:
        """It loses its network."""
        self.fleet.cut(gateway.name)

    async def fill(self, gateway: SimulatedGateway) -> None:
        """Its disk is full, or has room again."""
        gateway.disk.is_full = not gateway.disk.is_full

    async def break_off(self, gateway: SimulatedGateway) -> None:
        """Its next downloads break off."""
        for blob in self._blobs:
            gateway.blobs.breaks[blob] = int(self.rng.integers(1, self.sizes[blob] + 1))

    async def flip(self, gateway: SimulatedGateway) -> None:
        """A byte of what it downloads is another one, for a while."""
        gateway.blobs.flipped = set(self._blobs) - gateway.blobs.flipped

    async def forget_the_date(self, gateway: SimulatedGateway) -> None:
        """Its clock reads 1970, or a day in ten years, or is put right."""
        now_ms = self.fleet.clock.unix_ms()
        years_ms = 10 * 365 * 86_400_000
        gateway.clock.set_unix_ms([0, now_ms, now_ms + years_ms][self.rng.integers(3)])

    async def restart_broker(self) -> None:
        """The broker forgets everything."""
        await self.fleet.restart_broker()

    async def restart_hub(self) -> None:
        """The hub is killed, and comes back on its database."""
        await self.fleet.kill_hub()
        await self.fleet.run_for(2)
        await self.fleet.start_hub()

    def draw(self, most: int) -> list[SimulatedGateway]:
        """Some gateways."""
        gateways = list(self.fleet.gateways.values())
        chosen = self.rng.choice(len(gateways), min(most, len(gateways)), replace=False)
        return [gateways[index] for index in chosen]

    async def help_up(self) -> None:
        """Most of the dead are started again; half of the cut off have a network."""
        for gateway in self.fleet.gateways.values():
            if not gateway.is_running and self.rng.random() < 0.7:
                await self.start(gateway)
            elif gateway.is_running and self.rng.random() < 0.5:
                self.fleet.join(gateway.name)

    async def start(self, gateway: SimulatedGateway) -> None:
        """Start a gateway after a power cut, and look at it at once."""
        await gateway.cut_power()
        try:
            await self.fleet.restart(gateway.name)
        except SkerryError as error:
            self.brick(gateway, f"does not start: {error}")
        else:
            self.look(gateway)

    async def look_at_all(self) -> None:
        """Look at those who live; some are asked, too."""
        for gateway in self.fleet.gateways.values():
            if gateway.is_running:
                self.look(gateway)
        for gateway in self.draw(10):
            if gateway.is_running and gateway.name in self._served:
                await self.ask(gateway)

    def look(self, gateway: SimulatedGateway) -> None:
        """Whoever has served once must go on."""
        self.looks += 1
        serves = gateway.version(NAME)
        if serves is not None:
            self._served.add(gateway.name)
        elif gateway.name in self._served and gateway.is_running:
            self.brick(gateway, "serves nothing")

    async def ask(self, gateway: SimulatedGateway) -> None:
        """Its answer is that of a whole release."""
        try:
            answer = await gateway.ask(NAME, GAIN_INPUTS)
        except SkerryError as error:
            if gateway.is_running:
                self.brick(gateway, f"answers: {error}")
            return
        gain = answer.release.version
        if not (answer.outputs["y"] == GAIN_INPUTS["x"] * gain).all():
            self.brick(gateway, f"answers with something else than {answer.release}")

    def brick(self, gateway: SimulatedGateway, why: str) -> None:
        """Say what is wrong with a gateway."""
        if self.bricked.setdefault(gateway.name, why) is why:
            tell(f"{gateway.name} {why}")

    async def mend(self) -> None:
        """From here on all is well."""
        for name, gateway in self.fleet.gateways.items():
            gateway.disk.is_full = False
            gateway.disk.cut_at = None
            gateway.blobs.flipped = set()
            gateway.blobs.breaks = {}
            gateway.clock.set_unix_ms(self.fleet.clock.unix_ms())
            if not gateway.is_running:
                await self.start(gateway)
            self.fleet.join(name)

    async def end(self) -> None:
        """All is well, and the last release goes to everybody."""
        await self.mend()
        rollout = await self.roll_out(await self.publish(), LAST)
        ended = await self.fleet.wait_for(rollout, timeout_s=4 * 86_400.0)
        for gateway in self.fleet.gateways.values():
            serves = gateway.version(NAME)
            if serves != self.version:
                self.brick(gateway, f"ends with {serves}: {ended.reason}")
            else:
                await self.ask(gateway)
        made = self.fleet.hub.deltas.packed.pairs.values()
        self.sizes |= {delta.sha256: delta.size_bytes for delta in made}

    def bytes_ratio(self) -> tuple[float, int, int]:
        """Bytes that came, by the bytes of the blobs that came whole."""
        received = chosen = 0
        for gateway in self.fleet.gateways.values():
            for blob, count in gateway.blobs.sent.items():
                received += count
                chosen += self.sizes[blob] if count >= self.sizes[blob] else 0
        return received / max(1, chosen), received, chosen


async def tell_story(folder: Path, *, devices: int, turns: int, seed: int) -> Story:
    """Releases of which each third is a bad one, on bad days; then one good day.

    Args:
        folder: Where the disks are.
        devices: How many gateways.
        turns: How many releases before the last one.
        seed: Of all chance.
    """
    names = [f"gateway-{number:03}" for number in range(devices)]
    async with FleetSimulator(folder, devices=names, seed=seed) as fleet:
        story = Story(fleet, seed)
        first = await story.roll_out(await story.publish(), PATIENT)
        await fleet.wait_for(first)
        for turn in range(turns):
            began_s = time.process_time()
            model: dict[str, Any] = {}
            if turn % 3 == 1:
                model = {"promised_gain": -1.0} if turn % 2 else {"fails_after": 8}
            gate = PATIENT if model else ANY
            rollout = await story.roll_out(await story.publish(**model), gate)
            await story.live_until(rollout, most_rounds=12)
            ended = await fleet.hub.rollouts.get(rollout)
            if model and ended.state is RolloutState.SUCCEEDED:
                tell(f"{rollout} is bad, and succeeded")
            took_s = time.process_time() - began_s
            tell(f"{rollout} {ended.state.value} {took_s:.1f} s {ended.reason[:70]}")
        await story.end()
        return story


def measure_fleet(plan: Plan) -> Found:
    """The whole story."""
    devices, turns = plan.count(200, 24), plan.count(7, 2)
    began_s = time.process_time()
    with quick_folder() as folder:
        story = simulate(tell_story(folder, devices=devices, turns=turns, seed=8))
        ratio, received, chosen = story.bytes_ratio()
    took_s = time.process_time() - began_s
    rows = [
        row(
            f"{devices} gateways, {turns + 2} releases: bricked",
            "skerry",
            figure=len(story.bricked),
            unit="gateways",
            n=story.looks,
            note=f"{took_s:.0f} s of CPU; looked at {story.looks} times",
        )
    ]
    rows += [
        row(f"bad days: {what.replace('_', ' ')}", "chance", figure=count, unit="times")
        for what, count in sorted(story.happened.items())
    ]
    rows.append(
        row(
            "bytes received",
            "skerry",
            figure=received / 1e6,
            unit="MB",
            n=devices,
            note=f"{chosen / 1e6:.1f} MB of blobs came whole",
        )
    )
    why = [f"{name} {what}" for name, what in sorted(story.bricked.items())]
    return Found(
        rows=rows,
        measured=[
            Measured(
                id="update.simulated.bricked",
                figure=float(len(story.bricked)),
                n=devices,
                unmet="; ".join(why[:2]),
            ),
            Measured(id="update.bytes_ratio", figure=ratio, n=devices),
        ],
    )

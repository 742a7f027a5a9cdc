"""A long run of bad days drawn by chance: what must hold whatever happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import GAIN_INPUTS, GainModel, make_gain_release
from skerry.app.simulate.gateway import PLENTY_BYTES, SimulatedGateway
from skerry.app.simulate.loop import simulate
from skerry.core.fleet import Gate, RolloutState, Wave

DAYS = 40
SEEDS = (0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12)))


class Chaos:
    """One run: what was begun, and what has gone wrong."""

    def __init__(self, fleet: FleetSimulator, seed: int) -> None:
        self.fleet = fleet
        self.rng = np.random.default_rng(seed)
        self.version = 0
        self.is_hub_up = True
        self.put = dict.fromkeys(fleet.gateways, 0)

    async def release(self) -> None:
        """Publish the next release and want it everywhere at once."""
        if not self.is_hub_up:
            return
        self.version += 1
        model = GainModel(gain=float(self.version), ballast_bytes=10_000)
        await self.fleet.publish(*make_gain_release("meter", self.version, model))
        await self.fleet.begin(
            f"meter/{self.version}",
            waves=(Wave(devices=tuple(self.fleet.gateways)),),
            gate=Gate(success_ratio=0.0),
            on_failure="stop",
            supersede=True,
        )

    async def kill(self) -> None:
        """A gateway dies, wherever it is, and is back later."""
        await self.draw().kill()

    async def cut_power(self) -> None:
        """A gateway loses power in the middle of some call to its disk."""
        gateway = self.draw()
        gateway.disk.cut_at = gateway.disk.calls + int(self.rng.integers(15))

    async def cut(self) -> None:
        """A gateway loses its network."""
        self.fleet.cut(self.draw().name)

    async def join(self) -> None:
        """All gateways that live have it back."""
        for name, gateway in self.fleet.gateways.items():
            if gateway.is_running:
                self.fleet.join(name)

    async def fill(self) -> None:
        """A disk is full, or has room again."""
        gateway = self.draw()
        gateway.disk.is_full = not gateway.disk.is_full

    async def forget_the_date(self) -> None:
        """A clock reads 1970, or is put right."""
        clock = self.draw().clock
        is_right = clock.unix_ms() == self.fleet.clock.unix_ms()
        clock.set_unix_ms(0 if is_right else self.fleet.clock.unix_ms())

    async def restart_broker(self) -> None:
        """The broker forgets everything."""
        await self.fleet.restart_broker()

    async def toggle_hub(self) -> None:
        """The hub is stopped or killed, or comes back."""
        if not self.is_hub_up:
            await self.fleet.start_hub()
        elif self.rng.random() < 0.5:
            await self.fleet.stop_hub()
        else:
            await self.fleet.kill_hub()
        self.is_hub_up = not self.is_hub_up

    async def sleep(self) -> None:
        """Half a day passes as for machines that were asleep."""
        await self.fleet.skip(12 * 3600)

    def draw(self) -> SimulatedGateway:
        """One gateway."""
        return list(self.fleet.gateways.values())[self.rng.integers(3)]

    async def live_a_day(self) -> None:
        """One thing happens, some time passes, and everybody alive still serves."""
        happenings: list[Callable[[], Awaitable[None]]] = [
            *(self.release, self.release, self.kill, self.cut_power, self.cut),
            *(self.join, self.fill, self.forget_the_date, self.restart_broker),
            *(self.toggle_hub, self.sleep),
        ]
        await happenings[self.rng.integers(len(happenings))]()
        await self.fleet.run_for(float(self.rng.uniform(0.1, 20)))
        for gateway in self.fleet.gateways.values():
            if not gateway.is_running and self.rng.random() < 0.7:
                await gateway.cut_power()
                await self.fleet.restart(gateway.name)
            if gateway.is_running:
                await self.see(gateway)

    async def see(self, gateway: SimulatedGateway) -> None:
        """It answers with a whole release, and keeps a message."""
        answer = await gateway.ask("meter", GAIN_INPUTS)
        version = answer.release.version
        assert (answer.outputs["y"] == GAIN_INPUTS["x"] * version).all()
        number = self.put[gateway.name]
        body = {"name": "seen", "at_ms": 0, "number": number}
        await gateway.uplink.put("event", body)
        self.put[gateway.name] = number + 1

    async def mend(self) -> None:
        """The last day is a good one."""
        if not self.is_hub_up:
            await self.toggle_hub()
        for name, gateway in self.fleet.gateways.items():
            gateway.disk.is_full = False
            gateway.disk.cut_at = None
            gateway.free_bytes = PLENTY_BYTES
            gateway.clock.set_unix_ms(self.fleet.clock.unix_ms())
            if not gateway.is_running:
                await self.fleet.restart(name)
            self.fleet.join(name)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_it_serves_and_converges(tmp_path: Path, seed: int) -> None:
    """Who lives serves; in the end all run the newest, and no message is lost."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, seed=seed) as fleet:
            chaos = Chaos(fleet, seed)
            await chaos.release()
            await fleet.run_until(lambda: set(fleet.versions("meter").values()) == {1})
            for _ in range(DAYS):
                await chaos.live_a_day()
            await chaos.mend()
            await chaos.release()
            last = (await fleet.hub.rollouts.list(limit=1))[0].id
            ended = await fleet.wait_for(last)
            assert ended.state is RolloutState.SUCCEEDED, ended.reason
            assert set(fleet.versions("meter").values()) == {chaos.version}
            await fleet.run_until(
                lambda: not any(one.outbox.depth for one in fleet.gateways.values())
            )
            for name, put in chaos.put.items():
                told = await fleet.hub.events.read(name, limit=10_000)
                numbers = [e.fields["number"] for e in told if e.name == "seen"]
                assert numbers == list(range(put))

    simulate(story())

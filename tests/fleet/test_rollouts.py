"""Rollouts on a whole simulated fleet: windows, weeks away, people who say yes."""

from __future__ import annotations

from pathlib import Path

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.loop import simulate
from skerry.core.fleet import Gate, Outcome, RolloutState, Window
from tests.bad_days import DAY_S, deliver, release


def test_a_fleet_is_updated_within_its_window_only(tmp_path: Path) -> None:
    """Before it opens nothing moves and nobody is late; then all are updated."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            window = Window(opens="00:03", closes="00:09")
            gate = Gate(timeout_s=60)
            rollout = await fleet.begin("meter/2", window=window, gate=gate)
            await fleet.run_for(60)
            assert set(fleet.versions("meter").values()) == {1}
            assert (await fleet.hub.rollouts.get(rollout)).state is RolloutState.RUNNING
            ended = await fleet.wait_for(rollout)
            assert ended.state is RolloutState.SUCCEEDED, ended.reason
            assert set(fleet.versions("meter").values()) == {2}
            minute = fleet.clock.unix_ms() // 60_000 % 60
            assert 3 <= minute < 9

    simulate(story())


def test_a_device_that_comes_back_after_weeks_converges(tmp_path: Path) -> None:
    """The rollout has long ended without it; what it should run waits at the hub."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            fleet.cut("gateway-3")
            gate = Gate(success_ratio=0.5, timeout_s=60)
            ended = await fleet.roll_out("meter/2", gate=gate)
            assert ended.state is RolloutState.SUCCEEDED
            assert ended.progress["gateway-3"].outcome is Outcome.LATE
            await fleet.skip(21 * DAY_S)
            assert fleet.versions("meter")["gateway-3"] == 1
            fleet.join("gateway-3")
            await fleet.run_until(lambda: fleet.versions("meter")["gateway-3"] == 2)

    simulate(story())


def test_the_rest_waits_for_a_persons_approval(tmp_path: Path) -> None:
    """The canary runs it; the others do once somebody has said so."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2", approval="first")
            await fleet.run_for(60)
            assert sorted(fleet.versions("meter").values()) == [1, 1, 2]
            await fleet.hub.rollouts.approve(rollout, who="ann")
            ended = await fleet.wait_for(rollout)
            assert ended.state is RolloutState.SUCCEEDED
            assert set(fleet.versions("meter").values()) == {2}

    simulate(story())

"""Bad releases and rollouts that stall, on a whole simulated fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import (
    GAIN_INPUTS,
    GainModel,
)
from skerry.app.simulate.loop import simulate
from skerry.core.budget import Budget
from skerry.core.fleet import Gate, Outcome, RolloutState, Wave
from skerry.evolve.update_state import Step
from tests.bad_days import (
    ONE,
    PATIENT,
    answers,
    deliver,
    refusal,
    release,
)


def test_a_release_that_kills_its_gateway_is_given_up(tmp_path: Path) -> None:
    """After two deaths on probation it is rolled back and refused for good."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            gateway = fleet.gateways["gateway-1"]
            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2")
            for _ in range(2):
                await fleet.run_until(lambda: gateway.version("meter") == 2)
                await gateway.kill()
                await gateway.start()
            ended = await fleet.wait_for(rollout)
            assert ended.state is RolloutState.UNDONE
            assert "probation" in ended.reason
            await answers(fleet, "gateway-1", 1)

    simulate(story())


@pytest.mark.parametrize("end", ["kill", "cut_power"])
def test_the_only_release_outlives_every_death_on_its_probation(
    tmp_path: Path, end: str
) -> None:
    """There is nothing to go back to: it serves again after each start."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await fleet.publish(*release(1))
            await fleet.begin("meter/1")
            gateway = fleet.gateways["gateway-1"]
            await fleet.run_until(lambda: gateway.version("meter") == 1)
            for _ in range(5):
                await getattr(gateway, end)()
                await gateway.start()
                await answers(fleet, "gateway-1", 1)

    simulate(story())


def test_a_byte_that_the_disk_spoils_before_it_is_loaded_is_noticed(
    tmp_path: Path,
) -> None:
    """What was spoilt after the install is written anew, and never answers."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            gateway = fleet.gateways["gateway-1"]
            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2")
            await fleet.catch(
                lambda: gateway.agent.states["meter"].running is Step.LOAD
            )
            path = gateway.folder / "slots" / "meter" / "b" / "model.onnx"
            spoilt = bytearray(path.read_bytes())
            spoilt[-1] ^= 1
            path.write_bytes(spoilt)
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED
            await answers(fleet, "gateway-1", 2)
            await gateway.kill()
            await gateway.start()
            await answers(fleet, "gateway-1", 2)

    simulate(story())


def test_a_release_that_fails_on_probation_is_rolled_back(tmp_path: Path) -> None:
    """It passed every check and then stumbles: the one before it answers again."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            stumbles = GainModel(gain=2, fails_after=3)
            await fleet.publish(*release(2, model=stumbles))
            rollout = await fleet.begin("meter/2")
            gateway = fleet.gateways["gateway-1"]
            await fleet.run_until(lambda: gateway.version("meter") == 2)
            failed = 0
            for _ in range(10):
                try:
                    await gateway.ask("meter", GAIN_INPUTS)
                except Exception:  # noqa: BLE001 - counted
                    failed += 1
            assert failed
            ended = await fleet.wait_for(rollout)
            assert ended.state is RolloutState.UNDONE
            assert (await refusal(fleet, "gateway-1"))["reason"] == "probation"
            await answers(fleet, "gateway-1", 1)

    simulate(story())


def test_a_person_stops_a_rollout_and_undoes_it(tmp_path: Path) -> None:
    """Stopped, who was updated stays so; undone, everybody is back at once."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            waves = tuple(Wave(devices=(name,)) for name in fleet.gateways)
            rollout = await fleet.begin("meter/2", waves=waves)
            await fleet.run_until(lambda: fleet.versions("meter")["gateway-2"] == 2)
            await fleet.hub.rollouts.stop(rollout, who="anna")
            await fleet.run_for(60)
            assert list(fleet.versions("meter").values()) == [2, 2, 1]
            assert "anna" in (await fleet.hub.rollouts.get(rollout)).reason

            await fleet.hub.rollouts.undo(rollout, who="anna")
            ended = await fleet.wait_for(rollout)
            assert ended.state is RolloutState.UNDONE
            assert set(fleet.versions("meter").values()) == {1}

    simulate(story())


def test_a_device_that_is_away_is_late_and_still_comes_along(tmp_path: Path) -> None:
    """The rollout goes on without it where the gate allows; back, it is updated."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            fleet.cut("gateway-3")
            await fleet.publish(*release(2))
            gate = Gate(success_ratio=0.5, timeout_s=120)
            ended = await fleet.roll_out("meter/2", gate=gate, on_failure="stop")
            assert ended.state is RolloutState.SUCCEEDED
            assert ended.progress["gateway-3"].outcome is Outcome.LATE
            assert fleet.versions("meter")["gateway-3"] == 1
            await answers(fleet, "gateway-3", 1)

            fleet.join("gateway-3")
            await fleet.run_until(lambda: fleet.versions("meter")["gateway-3"] == 2)

    simulate(story())


def test_a_slow_gateway_refuses_what_the_others_take(tmp_path: Path) -> None:
    """Over its latency budget here, within it there: measured against allowed."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            fleet.gateways["gateway-3"].slowness = 4.0
            model = GainModel(gain=2, latency_ms=3.0)
            await fleet.publish(*release(2, model=model, budget=Budget(latency_ms=5)))
            rollout = await fleet.begin("meter/2", on_failure="stop")
            ended = await fleet.wait_for(rollout)
            assert ended.state is RolloutState.STOPPED
            assert list(fleet.versions("meter").values()) == [2, 2, 1]
            said = await refusal(fleet, "gateway-3")
            assert said["reason"] == "latency"
            assert said["measured"] == pytest.approx(12, rel=0.01)
            assert said["allowed"] == 5

    simulate(story())


@pytest.mark.parametrize(
    ("model", "promised_gain", "reason"),
    [
        (GainModel(gain=2), 3.0, "golden"),
        (GainModel(gain=2, is_broken=True), None, "load"),
        (GainModel(gain=float("inf")), 2.0, "not-finite"),
    ],
)
def test_a_broken_release_gets_no_further_than_the_canary(
    tmp_path: Path, model: GainModel, promised_gain: float | None, reason: str
) -> None:
    """The canary says why, the rollout stops by itself, nobody else is asked."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2, model=model, promised_gain=promised_gain))
            rollout = await fleet.roll_out("meter/2")
            assert rollout.state is RolloutState.UNDONE
            assert f"gateway-1 refused ({reason}:" in rollout.reason
            assert rollout.progress["gateway-2"].outcome is Outcome.WAITING
            assert set(fleet.versions("meter").values()) == {1}

    simulate(story())


def test_a_rollout_that_waits_keeps_nobody_busy(tmp_path: Path) -> None:
    """While a device is away the hub looks once a second, and not all the time."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            fleet.cut("gateway-1")
            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2", gate=PATIENT)
            await fleet.run_for(60)  # It fails where something never comes to rest.
            fleet.join("gateway-1")
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    simulate(story())


def test_a_fleet_at_rest_is_quiet(tmp_path: Path) -> None:
    """With nothing to say a gateway and the hub exchange a few messages a minute."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.run_for(60)
            heard: list[str] = []

            async def hear(topic: str, _: bytes) -> None:
                heard.append(topic)

            spy = fleet.broker.link("spy")
            await spy.subscribe("skerry/#", hear)
            await fleet.settle()
            heard.clear()
            await fleet.run_for(600)
            await spy.close()
            assert len(heard) <= 10 * 6 * len(fleet.gateways)

    simulate(story())

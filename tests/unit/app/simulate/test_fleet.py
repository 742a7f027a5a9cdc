from __future__ import annotations

from pathlib import Path

import pytest

import skerry.testing
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import GAIN_INPUTS, make_gain_release
from skerry.app.simulate.loop import simulate
from skerry.core.errors import LateError, StateError
from skerry.core.fleet import RolloutState

ONE = ("gw",)


def test_two_releases_reach_three_gateways(tmp_path: Path) -> None:
    """Published, rolled out, served; the second one is a delta's worth of bytes."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            assert set(fleet.versions("meter").values()) == {None}
            for version in (1, 2):
                await fleet.publish(*make_gain_release("meter", version))
                rollout = await fleet.roll_out(f"meter/{version}")
                assert rollout.state is RolloutState.SUCCEEDED
                assert set(fleet.versions("meter").values()) == {version}
            answer = await fleet.gateways["gateway-2"].ask("meter", GAIN_INPUTS)
            assert str(answer.release) == "meter/2"

    simulate(story())


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    """Down to the moment in which each device was updated."""

    async def story(folder: Path) -> list[tuple[int, str]]:
        async with FleetSimulator(folder, seed=7) as fleet:
            await fleet.publish(*make_gain_release("meter", 1))
            canary = fleet.gateways["gateway-1"]
            manifest, _ = make_gain_release("meter", 1)
            canary.blobs.breaks[manifest.models[0].blob.sha256] = 10
            await fleet.roll_out("meter/1")
            told = await fleet.hub.events.read("gateway-1")
            return [(event.at_ms, event.name) for event in told]

    first = simulate(story(tmp_path / "a"))
    assert first == simulate(story(tmp_path / "b"))
    assert len(first) > 5


def test_a_stopped_gateway_says_goodbye_and_a_killed_one_is_missed(
    tmp_path: Path,
) -> None:
    """Either way the hub knows that it is gone, and when it is back."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            gateway = fleet.gateways["gw"]

            async def is_online() -> bool:
                return (await fleet.hub.devices.get("gw")).is_online

            async def is_offline() -> bool:
                return not await is_online()

            for end in (gateway.stop, gateway.kill, gateway.cut_power):
                await fleet.run_until(is_online)
                await end()
                assert not gateway.is_running
                await fleet.run_until(is_offline, timeout_s=60)
                with pytest.raises(StateError, match="dead"):
                    await gateway.ask("meter", GAIN_INPUTS)
                await fleet.restart("gw")
            await fleet.run_until(is_online)
            with pytest.raises(StateError, match="runs already"):
                await gateway.start()

    simulate(story())


def test_a_condition_that_never_holds_ends_the_wait(tmp_path: Path) -> None:
    """By the fleet's clock, which has gone no further than that."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            with pytest.raises(LateError, match="within 30 s"):
                await fleet.run_until(lambda: False, timeout_s=30)
            with pytest.raises(LateError, match="within 10 s"):
                await fleet.catch(lambda: False, timeout_s=10)
            assert 30 <= fleet.clock.wall_s() <= 40

    simulate(story())


def test_a_hub_is_down_or_up(tmp_path: Path) -> None:
    """What needs it says so while it is down."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            with pytest.raises(StateError, match="runs already"):
                await fleet.start_hub()
            await fleet.stop_hub()
            with pytest.raises(StateError, match="down"):
                await fleet.shadow("gw")
            await fleet.start_hub()
            assert (await fleet.shadow("gw")).device == "gw"

    simulate(story())


def test_before_it_is_entered_there_is_no_fleet(tmp_path: Path) -> None:
    """And the error says how to enter it."""
    with pytest.raises(StateError, match="no fleet yet"):
        _ = FleetSimulator(tmp_path).publisher


def test_users_find_every_fake_in_one_place() -> None:
    """`skerry.testing` gives each name that it promises, and no other."""
    for name in skerry.testing.__all__:
        assert getattr(skerry.testing, name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = skerry.testing.Nothing

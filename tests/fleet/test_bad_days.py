"""Bad days of disks, brokers, hubs and clocks, each on a whole simulated fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.loop import simulate
from skerry.core.fleet import RolloutState
from skerry.evolve.update_state import Step
from tests.bad_days import (
    DAY_S,
    ONE,
    PATIENT,
    answers,
    deliver,
    refusal,
    release,
    waits_with,
)


@pytest.mark.parametrize("when", ["writing", "looking"])
def test_a_full_disk_delays_an_update_and_nothing_else(
    tmp_path: Path, when: str
) -> None:
    """It serves on, says `storage`, and converges once there is space."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            gateway = fleet.gateways["gateway-1"]
            gateway.disk.is_full = when == "writing"
            gateway.free_bytes = 1000 if when == "looking" else gateway.free_bytes
            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2", gate=PATIENT)
            await waits_with(fleet, "gateway-1", "storage")
            await fleet.run_for(600)
            assert set(fleet.versions("meter").values()) == {1}
            await answers(fleet, "gateway-1", 1)

            gateway.disk.is_full, gateway.free_bytes = False, 1 << 30
            ended = await fleet.wait_for(rollout)
            assert ended.state is RolloutState.SUCCEEDED
            assert set(fleet.versions("meter").values()) == {2}
            assert await refusal(fleet, "gateway-1") == {}

    simulate(story())


def test_a_restarted_broker_is_waited_out(tmp_path: Path) -> None:
    """It forgets everything in mid-rollout, which succeeds all the same."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2")
            for _ in range(5):
                await fleet.restart_broker(down_s=1.5)
                await fleet.run_for(1)
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    simulate(story())


def test_what_is_desired_arrives_though_the_broker_forgot_it(tmp_path: Path) -> None:
    """Said while a gateway was away, and lost by the broker, it still arrives."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            fleet.cut("gateway-1")
            rollout = await fleet.begin("meter/2")
            await fleet.run_for(5)
            await fleet.restart_broker()
            fleet.join("gateway-1")
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    simulate(story())


def test_a_hub_that_is_down_for_an_hour_loses_nothing(tmp_path: Path) -> None:
    """Gateways serve on; the outbox drains afterwards: all of it, in order, once."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.stop_hub()
            for minute in range(60):
                for name, gateway in fleet.gateways.items():
                    body = {"name": "minute", "at_ms": minute, "minute": minute}
                    await gateway.uplink.put("event", body)
                    await answers(fleet, name, 1)
                await fleet.run_for(60)
            waiting = {name: one.outbox.depth for name, one in fleet.gateways.items()}
            assert all(depth >= 60 for depth in waiting.values())

            await fleet.start_hub()
            await fleet.run_until(
                lambda: not any(one.outbox.depth for one in fleet.gateways.values()),
                timeout_s=300,
            )
            for name in fleet.gateways:
                told = await fleet.hub.events.read(name, limit=10_000)
                minutes = [e.fields["minute"] for e in told if e.name == "minute"]
                assert minutes == list(range(60))
            await deliver(fleet, 2)

    simulate(story())


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_hub_that_ends_in_mid_rollout_goes_on_with_it(
    tmp_path: Path, how: str
) -> None:
    """The rollout stands in its database; after a start it goes on from there."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2", gate=PATIENT)
            for _ in range(4):
                await fleet.run_for(2.1)
                await (fleet.stop_hub() if how == "stopped" else fleet.kill_hub())
                await fleet.run_for(30)
                await fleet.start_hub()
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED
            assert set(fleet.versions("meter").values()) == {2}

    simulate(story())


def test_a_clock_at_1970_neither_stops_nor_fools_a_gateway(tmp_path: Path) -> None:
    """After a power cut it reads 1970: it serves, updates, and believes nothing old."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            old = fleet.metadata()
            await deliver(fleet, 1)
            await fleet.skip(3 * DAY_S)
            await fleet.run_for(120)
            await deliver(fleet, 2)
            gateway = fleet.gateways["gateway-1"]
            await gateway.cut_power()
            gateway.clock.set_unix_ms(0)
            await gateway.start()
            await answers(fleet, "gateway-1", 2)

            await fleet.publish(*release(3))
            gateway.metadata = old  # Expired three days ago; in 1970 it is not.
            rollout = await fleet.roll_out("meter/3")
            assert rollout.state is RolloutState.UNDONE
            assert "gateway-1 refused (replayed" in rollout.reason
            await answers(fleet, "gateway-1", 2)

            gateway.metadata = None
            assert (await fleet.roll_out("meter/3")).state is RolloutState.SUCCEEDED
            assert set(fleet.versions("meter").values()) == {3}

    simulate(story())


def test_a_clock_a_century_ahead_stops_updates_and_leaves_no_mark(
    tmp_path: Path,
) -> None:
    """By it everything has expired: it serves, waits, and says so until it is set."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            gateway = fleet.gateways["gateway-1"]
            await gateway.cut_power()
            now_ms = fleet.clock.unix_ms()
            gateway.clock.set_unix_ms(now_ms + round(100 * 365 * DAY_S) * 1000)
            await gateway.start()
            await answers(fleet, "gateway-1", 1)

            await fleet.publish(*release(2))
            rollout = await fleet.begin("meter/2", gate=PATIENT)
            await waits_with(fleet, "gateway-1", "expired")
            await answers(fleet, "gateway-1", 1)

            # The time that it believes was signed by the hub, and not read off a clock.
            gateway.clock.set_unix_ms(fleet.clock.unix_ms())
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED
            await gateway.cut_power()
            await gateway.start()
            await deliver(fleet, 3)
            assert set(fleet.versions("meter").values()) == {3}

    simulate(story())


def test_expired_metadata_stops_updating_and_never_serving(tmp_path: Path) -> None:
    """It waits and says `expired`; once the metadata is renewed it converges."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            gateway = fleet.gateways["gateway-1"]
            gateway.metadata = fleet.metadata()
            await fleet.skip(3 * DAY_S)
            await fleet.run_for(120)
            rollout = await fleet.begin("meter/2", gate=PATIENT)
            await waits_with(fleet, "gateway-1", "expired")
            await fleet.run_for(900)
            await answers(fleet, "gateway-1", 1)

            gateway.metadata = None
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED
            assert fleet.versions("meter") == {"gateway-1": 2}

    simulate(story())


def test_a_publisher_who_comes_back_renews_what_expired(tmp_path: Path) -> None:
    """After 200 days nothing is up to date but what serves; a signature mends it."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            await fleet.skip(200 * DAY_S)
            await fleet.run_for(120)
            rollout = await fleet.begin("meter/2", gate=PATIENT)
            await waits_with(fleet, "gateway-1", "expired")
            await answers(fleet, "gateway-1", 1)

            await fleet.hub.releases.trust(fleet.publisher.metadata())
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    simulate(story())


STEPS = (
    Step.REFRESH,
    Step.MANIFEST,
    Step.BLOBS,
    Step.REBUILD,
    Step.INSTALL,
    Step.LOAD,
    Step.SWITCH,
    Step.SETTLE,
)


@pytest.mark.parametrize("end", ["kill", "cut_power"])
def test_killed_at_each_step_of_an_update_it_converges(
    tmp_path: Path, end: str
) -> None:
    """It serves the old or the new one at once, and then the new one."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            gateway = fleet.gateways["gateway-1"]
            for version, step in enumerate(STEPS, 2):
                await fleet.publish(*release(version))
                rollout = await fleet.begin(f"meter/{version}")
                await fleet.catch(
                    lambda step=step: gateway.agent.states["meter"].running is step
                )
                await getattr(gateway, end)()
                await gateway.start()
                serves = gateway.version("meter")
                assert serves in {version - 1, version}
                await answers(fleet, "gateway-1", serves or 0)
                ended = await fleet.wait_for(rollout)
                assert ended.state is RolloutState.SUCCEEDED, (step, ended.reason)
                await answers(fleet, "gateway-1", version)

    simulate(story())


def test_a_power_cut_at_each_call_to_the_disk_is_survived(tmp_path: Path) -> None:
    """Each write, flush and rename of an update is once the last one before the cut."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            gateway = fleet.gateways["gateway-1"]
            began = gateway.disk.calls
            await deliver(fleet, 2)
            calls = gateway.disk.calls - began
            assert calls > 10
            version = 2
            for call in range(calls):
                version += 1
                gateway.disk.cut_at = gateway.disk.calls + call
                await fleet.publish(*release(version))
                rollout = await fleet.begin(f"meter/{version}", gate=PATIENT)
                await fleet.run_until(lambda: not gateway.is_running, timeout_s=60)
                await gateway.cut_power()
                await gateway.start()
                serves = gateway.version("meter")
                assert serves in {version - 1, version}, (call, serves)
                ended = await fleet.wait_for(rollout)
                assert ended.state is RolloutState.SUCCEEDED, (call, ended.reason)
                await answers(fleet, "gateway-1", version)

    simulate(story())

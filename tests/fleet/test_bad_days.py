"""Bad input and bad days, each on a whole simulated fleet, each with a clear reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from skerry.app.publish.publisher import Publisher
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.gain import (
    GAIN_INPUTS,
    GainModel,
    make_gain_release,
)
from skerry.app.simulate.loop import simulate
from skerry.comms.codec import encode
from skerry.core.budget import Budget
from skerry.core.errors import (
    ConflictError,
    DataError,
    NewerSchemaError,
    TrustError,
)
from skerry.core.fleet import Gate, Outcome, RolloutState, Wave
from skerry.core.messages import LARGEST_MESSAGE_BYTES, Message
from skerry.core.release import Blob, manifest_path, write_manifest
from skerry.evolve.update_state import Step

DAY_S = 24 * 3600.0
PATIENT = Gate(timeout_s=30 * DAY_S)
ONE = ("gateway-1",)
BALLAST = 20_000


def release(version: int, **promises: Any) -> Any:
    """A release of the meter that multiplies by its version."""
    model = promises.pop("model", None)
    if model is None:
        model = GainModel(gain=float(version), ballast_bytes=BALLAST)
    return make_gain_release("meter", version, model, **promises)


async def deliver(fleet: FleetSimulator, version: int) -> None:
    """Publish a good release and bring it to everybody."""
    await fleet.publish(*release(version))
    rollout = await fleet.roll_out(f"meter/{version}")
    assert rollout.state is RolloutState.SUCCEEDED, rollout.reason


async def refusal(fleet: FleetSimulator, device: str) -> dict[str, Any]:
    """What a device says of why it does not run what it should."""
    reported: Any = (await fleet.shadow(device)).reported
    return (reported.get("refused") or {}).get("meter") or {}


async def answers(fleet: FleetSimulator, device: str, version: int) -> None:
    """See that a gateway serves, and which version."""
    answer = await fleet.gateways[device].ask("meter", GAIN_INPUTS)
    assert answer.release.version == version
    assert (answer.outputs["y"] == GAIN_INPUTS["x"] * version).all()


async def waits_with(fleet: FleetSimulator, device: str, reason: str) -> None:
    """Let time pass until a device says why it waits or refuses."""

    async def says_so() -> bool:
        return (await refusal(fleet, device)).get("reason") == reason

    await fleet.run_until(says_so)


def test_a_wrong_token_enrols_nobody(tmp_path: Path) -> None:
    """A token that is none, and one that was used, let nobody in and say why."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=()) as fleet:
            with pytest.raises(TrustError, match="not one of this hub's"):
                await fleet.hub.devices.enrol("made-up")
            token = await fleet.hub.devices.create("gw", root_sha256="0" * 64)
            await fleet.hub.devices.enrol(token)
            with pytest.raises(TrustError, match="has been used"):
                await fleet.hub.devices.enrol(token)

    simulate(story())


def test_a_stale_shadow_version_changes_nothing(tmp_path: Path) -> None:
    """Who writes on what they read before somebody else wrote is told so."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            before = await fleet.shadow("gateway-1")
            await fleet.hub.shadows.set_desired("gateway-1", {"collect": {"most": 1}})
            with pytest.raises(ConflictError, match="version"):
                await fleet.hub.shadows.set_desired(
                    "gateway-1", {"collect": {"most": 2}}, version=before.version
                )
            now = await fleet.shadow("gateway-1")
            assert now.desired == {"collect": {"most": 1}}

    simulate(story())


def test_a_manifest_of_a_newer_schema_is_too_new(tmp_path: Path) -> None:
    """The hub does not take it; a device that meets it refuses it and serves on."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            manifest, _ = release(2)
            content = write_manifest(manifest)
            content = content.replace(b"skerry.release/1", b"skerry.release/9")
            sha256 = hashlib.sha256(content).hexdigest()
            listed = dict(fleet.publisher._listing("main").blobs)
            listed[manifest_path(manifest.id, tenant="main")] = Blob(
                sha256=sha256, size_bytes=len(content)
            )
            fleet.publisher._sign_tenant(listed)
            await fleet.hub.blobs.put(sha256, content)
            with pytest.raises(NewerSchemaError, match=r"skerry\.release/9"):
                await fleet.hub.releases.publish(fleet.publisher.metadata(), [sha256])

            await fleet.hub.releases.trust(fleet.publisher.metadata())
            await want(fleet, "gateway-1", 2)
            await waits_with(fleet, "gateway-1", "too-new")
            await answers(fleet, "gateway-1", 1)

    simulate(story())


def test_a_release_for_newer_agents_is_too_new(tmp_path: Path) -> None:
    """The rollout stops with the reason, and nobody was switched."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2, requires=9))
            rollout = await fleet.roll_out("meter/2")
            assert rollout.state is RolloutState.UNDONE
            assert "too-new" in rollout.reason
            assert set(fleet.versions("meter").values()) == {1}

    simulate(story())


def test_unknown_and_oversize_messages_are_counted_and_dropped(tmp_path: Path) -> None:
    """Both sides go on as if nothing had come; what is too large is not even sent."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            gateway = fleet.gateways["gateway-1"]
            odd = Message(kind="gossip", device="gateway-1", sent_at_ms=1)
            for way in ("up", "down"):
                await fleet.hub.link.publish(
                    f"skerry/1/main/gateway-1/{way}/gossip", encode(odd)
                )
            await gateway.uplink.put("gossip", {"of": "neighbours"})
            await fleet.run_for(60)
            assert fleet.hub.counts["unknown-kind"] == 2
            assert gateway.outbox.depth == 0
            told = await fleet.hub.events.read("gateway-1", limit=1000)
            assert any("gossip" in str(event.fields) for event in told)

            with pytest.raises(DataError, match="at most"):
                await gateway.uplink.put("event", {"x": "y" * LARGEST_MESSAGE_BYTES})
            await fleet.hub.ingest.receive(
                "skerry/1/main/gateway-1/up/event", b" " * (LARGEST_MESSAGE_BYTES + 1)
            )
            assert fleet.hub.counts["unreadable"] == 1
            await deliver(fleet, 1)

    simulate(story())


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


def test_an_older_release_is_a_replay(tmp_path: Path) -> None:
    """Who can write shadows can not bring an old release back."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            for version in (1, 2, 3):
                await deliver(fleet, version)
            await want(fleet, "gateway-1", 1)
            await waits_with(fleet, "gateway-1", "replayed")
            await answers(fleet, "gateway-1", 3)

    simulate(story())


def test_replayed_metadata_is_refused(tmp_path: Path) -> None:
    """A hub that shows what it showed before is not believed."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            before = fleet.metadata()
            await fleet.run_for(60)
            await deliver(fleet, 2)
            await fleet.publish(*release(3))
            fleet.gateways["gateway-1"].metadata = before
            rollout = await fleet.roll_out("meter/3")
            assert rollout.state is RolloutState.UNDONE
            assert "replayed" in rollout.reason
            await answers(fleet, "gateway-1", 2)

    simulate(story())


def test_a_release_of_an_unknown_key_is_refused_everywhere(tmp_path: Path) -> None:
    """The hub does not take it; and a hub that did could make no device run it."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            stranger = Publisher.create(
                tmp_path / "stranger",
                hub_key=fleet.hub.releases.online_key,
                clock=fleet.clock,
            )
            forged = stranger.release(*release(2))
            with pytest.raises(TrustError):
                await fleet.hand_in(forged)

            newest = {f"9.{name[2:]}": text for name, text in forged.metadata.items()}
            fleet.gateways["gateway-1"].metadata = {**fleet.metadata(), **newest}
            await want(fleet, "gateway-1", 2)
            await waits_with(fleet, "gateway-1", "untrusted")
            await answers(fleet, "gateway-1", 1)

    simulate(story())


def test_a_flipped_byte_stops_the_rollout(tmp_path: Path) -> None:
    """The canary refuses what was changed on the way; nobody else is asked."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            manifest, blobs = release(2)
            await fleet.publish(manifest, blobs)
            canary = fleet.gateways["gateway-1"]
            canary.blobs.flipped.add(manifest.models[0].blob.sha256)
            rollout = await fleet.roll_out("meter/2")
            assert rollout.state is RolloutState.UNDONE
            assert "corrupt" in rollout.reason
            assert set(fleet.versions("meter").values()) == {1}

    simulate(story())


def test_a_spoilt_delta_is_made_up_for_by_the_whole_model(tmp_path: Path) -> None:
    """A delta saves bytes; where it is damaged the model is fetched in full."""

    async def story() -> None:
        async with FleetSimulator(tmp_path) as fleet:
            await deliver(fleet, 1)
            manifest, blobs = release(2)
            model = manifest.models[0].blob
            _, before = release(1)
            bundle = await fleet.publish(manifest, blobs, deltas_from=before)
            delta_bytes = min(bundle.delta_bytes.values())
            assert delta_bytes < BALLAST / 10
            delta = next(
                sha256
                for sha256, content in bundle.blobs.items()
                if len(content) == delta_bytes
            )
            fleet.gateways["gateway-1"].blobs.flipped.add(delta)
            assert (await fleet.roll_out("meter/2")).state is RolloutState.SUCCEEDED
            sent = {name: one.blobs.sent for name, one in fleet.gateways.items()}
            assert sent["gateway-1"][model.sha256] == model.size_bytes
            assert model.sha256 not in sent["gateway-2"]

    simulate(story())


def test_a_broken_stream_goes_on_where_it_broke(tmp_path: Path) -> None:
    """No byte of a model is fetched twice, not even after a power cut."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            manifest, blobs = release(1)
            model = manifest.models[0].blob
            await fleet.publish(manifest, blobs)
            gateway = fleet.gateways["gateway-1"]
            gateway.blobs.breaks[model.sha256] = 1000
            rollout = await fleet.begin("meter/1")
            await waits_with(fleet, "gateway-1", "unreachable")
            gateway.blobs.breaks[model.sha256] = 5000
            await gateway.kill()
            await gateway.start()
            assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED
            assert gateway.blobs.sent[model.sha256] == model.size_bytes

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


async def want(fleet: FleetSimulator, device: str, version: int) -> None:
    """Write a version into a shadow, as nobody should: past every rollout."""
    await fleet.hub.shadows.set_desired(
        device, {"releases": {"meter": {"version": version, "rollout": "by-hand"}}}
    )

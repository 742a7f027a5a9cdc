"""Bad input, on a whole simulated fleet: each refused with a clear reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from skerry.app.publish.publisher import Publisher
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.loop import simulate
from skerry.comms.codec import encode
from skerry.core.errors import (
    ConflictError,
    DataError,
    NewerSchemaError,
    TrustError,
)
from skerry.core.fleet import RolloutState
from skerry.core.messages import LARGEST_MESSAGE_BYTES, Message
from skerry.core.release import Blob, manifest_path, write_manifest
from tests.bad_days import (
    BALLAST,
    ONE,
    answers,
    deliver,
    release,
    waits_with,
    want,
)


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
            listed = fleet.publisher._planned()
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

"""The runbooks hold: what each says to type is typed, on a fleet that needs it."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.app.publish.publisher import Publisher
from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.loop import simulate
from skerry.core.errors import TrustError
from skerry.core.fleet import RolloutState
from skerry.edge.trust import DeviceTrust
from skerry.evolve.trust import (
    Repository,
    key_id,
    public_key,
    sign_tenant,
)
from tests.bad_days import DAY_S, ONE, PATIENT, answers, deliver, release, waits_with
from tests.runbooks import RUNBOOKS, Operator, commands_of

GATEWAY = "gateway-1"
Story = Callable[[FleetSimulator, Operator], Awaitable[None]]
Play = Callable[[Story], None]


@pytest.fixture
def play(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Play:
    """Plays a story on a fleet of one gateway that runs the first release."""

    def run(story: Story) -> None:
        async def played() -> None:
            async with FleetSimulator(tmp_path, devices=ONE) as fleet:
                operator = Operator(fleet, tmp_path, monkeypatch, capsys)
                await deliver(fleet, 1)
                await story(fleet, operator)

        simulate(played())

    return run


def reopen(fleet: FleetSimulator, folder: Path, *keys: bytes) -> None:
    """Have the fleet's publisher read its folder again, as the next command does."""
    fleet._publisher = Publisher.open(folder, clock=fleet.clock, keys=keys)


async def enrol_anew(fleet: FleetSimulator, token: str) -> None:
    """Do what a gateway does that is started with a token and no `device.json`."""
    gateway = fleet.gateways[GATEWAY]
    await gateway.kill()
    sha256 = token.partition(".")[2]
    own = await fleet.hub.devices.enrol(token)
    grant = await fleet.hub.devices.authenticate(
        own.username, own.username, own.password.encode()
    )
    assert grant is not None
    gateway._grant = grant
    root = fleet.hub.releases.root_of(sha256)
    DeviceTrust.pin(gateway.folder / "trust", root, sha256)
    await gateway.start()


def test_lost_root_key(play: Play, tmp_path: Path) -> None:
    """One of two keys is enough to replace the other; without any, all enrol anew."""
    before, one_of_two, all_lost, each = commands_of("lost-root-key")
    folder = tmp_path / "publisher"

    async def story(fleet: FleetSimulator, operator: Operator) -> None:
        await operator.follow(before)
        lost = folder / "keys" / "root.pem"
        old = lost.read_bytes()
        lost.unlink()
        await operator.follow(one_of_two, KEYID=key_id(public_key(old))[:12])
        root = (await operator.type("key ls"))["roles"][0]
        assert key_id(public_key(old)) not in root["keys"]
        assert len(root["keys"]) == 2
        reopen(fleet, folder)
        await deliver(fleet, 2)

        for file in ("ann.pem", "bea.pem"):
            (tmp_path / file).unlink()
        await operator.follow(all_lost)
        await answers(fleet, GATEWAY, 2)
        for command in each:
            if command.startswith("device create"):
                token = (await operator.type(command))["token"]
            else:
                assert command.startswith("gateway run")
                await enrol_anew(fleet, token)
        await answers(fleet, GATEWAY, 2)
        reopen(fleet, tmp_path / "new-publisher")
        await deliver(fleet, 3)

    play(story)


def test_lost_targets_key(play: Play, tmp_path: Path) -> None:
    """Both keys are replaced, with the root on a stick; the old ones are worthless."""
    (block,) = commands_of("lost-targets-key")
    keys = tmp_path / "publisher" / "keys"

    async def story(fleet: FleetSimulator, operator: Operator) -> None:
        stolen = (keys / "tenant.pem").read_bytes()
        (keys / "targets.pem").unlink()
        (keys / "root.pem").rename(tmp_path / "root.pem")
        status = (await operator.follow(block))[-1]
        assert status["warnings"] == []
        reopen(fleet, tmp_path / "publisher")
        await deliver(fleet, 2)
        gateway = fleet.gateways[GATEWAY]
        forged = sign_tenant(
            key=stolen, blobs={}, now_ms=fleet.clock.unix_ms(), version=9
        )
        with pytest.raises(TrustError):
            await fleet.hub.releases.trust({"9.main.json": forged})
        repository = Repository({**fleet.metadata(), "9.main.json": forged})
        key = (tmp_path / "hub" / "online-key.pem").read_bytes()
        repository.sign_online(key, now_ms=fleet.clock.unix_ms())
        gateway.metadata = repository.files()
        await fleet.publish(*release(3))
        await fleet.begin("meter/3", gate=PATIENT)
        await waits_with(fleet, GATEWAY, "untrusted")

    play(story)


def test_expired_metadata(play: Play) -> None:
    """It is warned of ahead and told; the command mends it, and devices converge."""
    (block,) = commands_of("expired-metadata")

    async def story(fleet: FleetSimulator, operator: Operator) -> None:
        await fleet.skip(50 * DAY_S)
        warnings = (await operator.type("hub status"))["warnings"]
        assert any(said.startswith("main expires on") for said in warnings)
        await fleet.publish(*release(2))
        await fleet.skip(200 * DAY_S)
        await fleet.run_for(120)
        rollout = await fleet.begin("meter/2", gate=PATIENT)
        await waits_with(fleet, GATEWAY, "expired")
        await answers(fleet, GATEWAY, 1)
        before, _, after = await operator.follow(block)
        assert any("expired on" in said for said in before["warnings"])
        assert after["warnings"] == []
        assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    play(story)


def test_expired_certificate(play: Play) -> None:
    """Gateways that cannot reach the hub serve on, and come back by themselves."""
    (block,) = commands_of("expired-certificate")

    async def story(fleet: FleetSimulator, operator: Operator) -> None:
        fleet.cut(GATEWAY)
        await fleet.publish(*release(2))
        rollout = await fleet.begin("meter/2", gate=PATIENT)
        await fleet.run_for(900)
        await answers(fleet, GATEWAY, 1)
        fleet.join(GATEWAY)
        assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED
        _, devices, shown = await operator.follow(block)
        assert [one["is_online"] for one in devices["devices"]] == [True]
        assert shown["behind"] == []

    play(story)


def test_stolen_online_key(play: Play, tmp_path: Path) -> None:
    """The thief's key is worth nothing, what he said of the time is void."""
    (block,) = commands_of("stolen-online-key")

    async def story(fleet: FleetSimulator, operator: Operator) -> None:
        stolen = (tmp_path / "hub" / "online-key.pem").read_bytes()
        gateway = fleet.gateways[GATEWAY]
        repository = Repository(fleet.metadata())
        ahead_ms = fleet.clock.unix_ms() + round(80 * DAY_S) * 1000
        repository.sign_online(stolen, now_ms=ahead_ms)
        await fleet.publish(*release(2))
        gateway.metadata = repository.files()
        await fleet.begin("meter/2", gate=PATIENT)
        await fleet.run_for(300)
        gateway.metadata = None

        await operator.follow(block)
        assert (tmp_path / "hub" / "online-key.pem").read_bytes() != stolen
        reopen(fleet, tmp_path / "publisher")
        await deliver(fleet, 3)
        with pytest.raises(TrustError):
            Repository(fleet.metadata()).sign_online(stolen, now_ms=ahead_ms)
        await fleet.stop_hub()
        await fleet.start_hub()
        await deliver(fleet, 4)

    play(story)


async def lose_the_disk(fleet: FleetSimulator, tmp_path: Path) -> None:
    """Stop the hub for good; what it kept is gone."""
    await fleet.stop_hub()
    shutil.rmtree(tmp_path / "hub")


@pytest.mark.parametrize("has_key", [True, False], ids=["key", "no-key"])
def test_lost_hub_disk(play: Play, tmp_path: Path, *, has_key: bool) -> None:
    """A hub of an older backup moves nobody back, and goes on with its fleet."""
    before, with_key, publish, begin, without, new_key = commands_of("lost-hub-disk")
    hub, words = ["--folder", "hub"], {"hub-backup": "backup"}
    (tmp_path / "passphrase.txt").write_text("correct horse battery\n")
    (backup,) = before
    backup = backup if has_key else backup.partition(" --passphrase")[0]

    async def story(fleet: FleetSimulator, operator: Operator) -> None:
        lost = (await operator.type("key ls"))["roles"]
        old = next(one for one in lost if one["role"] == "online")["keys"][0]
        # A rollout is under way in the backup, and over when the disk is lost.
        await fleet.publish(*release(2))
        fleet.cut(GATEWAY)
        rollout = await fleet.begin("meter/2", gate=PATIENT)
        await fleet.run_for(60)
        made = await operator.type(f"{backup} {' '.join(hub)}", **words)
        assert made["has_keys"] is has_key
        fleet.join(GATEWAY)
        assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED
        await fleet.skip(DAY_S)
        await deliver(fleet, 3)
        await answers(fleet, GATEWAY, 3)

        await lose_the_disk(fleet, tmp_path)
        await fleet.run_for(60)
        (command,) = with_key if has_key else without
        restored = await operator.type(f"{command} {' '.join(hub)}", **words)
        assert restored["paused"] == [rollout]
        assert restored["desired"] == {"meter/2": 1}
        assert restored["has_key"] is has_key
        await fleet.start_hub()
        await fleet.run_for(120)
        await answers(fleet, GATEWAY, 3)
        if has_key:
            handed, status, shown = await operator.follow(publish)
            assert status["warnings"] == []
            assert shown["behind"] == []
        else:
            handed = (await operator.follow(new_key, KEYID=old[:12]))[-1]
        assert ["meter/3" in said for said in handed["refused"]] == [True]
        reopen(fleet, tmp_path / "publisher")
        await fleet.run_for(120)
        await answers(fleet, GATEWAY, 3)
        # What a rollout that supersedes the paused one does is typed by its own tests.
        assert begin == ["rollout create meter/2 --supersede"]
        await fleet.publish(*release(4))
        done = await fleet.roll_out("meter/4", supersede=True)
        assert done.state is RolloutState.SUCCEEDED

    play(story)


def test_each_runbook_is_played() -> None:
    """Each page has a test of its name."""
    pages = {path.stem.replace("-", "_") for path in RUNBOOKS.glob("*.md")}
    played: dict[str, Any] = globals()
    assert all(f"test_{page}" in played for page in pages)
    assert len(pages) == 6

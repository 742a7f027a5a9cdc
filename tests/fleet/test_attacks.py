"""The attacks of TUF and Uptane on a simulated fleet; see `tests/attacks.py`.

After each, what served serves on, nothing else ever answered, and the fleet takes the
next release of its publisher once the attacker has gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.app.simulate.fleet import FleetSimulator
from skerry.app.simulate.loop import simulate
from skerry.comms.codec import decode, encode
from skerry.core.errors import DataError, LinkError, TrustError
from skerry.core.fleet import RolloutState
from skerry.core.messages import Message
from skerry.core.release import Blob, blob_path, manifest_path, write_manifest
from skerry.evolve.trust import (
    Instructions,
    Repository,
    make_key,
    public_key,
    read_listing,
    sign_instructions,
    sign_targets,
    sign_tenant,
)
from tests.architecture.source import REPOSITORY
from tests.bad_days import (
    DAY_S,
    ONE,
    PATIENT,
    answers,
    deliver,
    refusal,
    release,
    waits_with,
    want,
)

GATEWAY = "gateway-1"
DESIRED = f"skerry/1/main/{GATEWAY}/down/desired"
HUB_KEY = "online-key.pem"


def stolen(tmp_path: Path) -> bytes:
    """The hub's online key, in the wrong hands."""
    return (tmp_path / "hub" / HUB_KEY).read_bytes()


def forged(
    fleet: FleetSimulator, tmp_path: Path, files: dict[str, bytes]
) -> dict[str, bytes]:
    """What a hub that was taken over serves: anything, signed with the online key."""
    repository = Repository({**fleet.metadata(), **files})
    repository.sign_online(stolen(tmp_path), now_ms=fleet.clock.unix_ms())
    return repository.files()


def list_with(fleet: FleetSimulator, version: int, key: bytes) -> dict[str, bytes]:
    """A tenant's list that names a release of the attacker's, signed with a key."""
    manifest, blobs = release(version)
    now_ms = fleet.clock.unix_ms()
    old = fleet.metadata()
    newest = max(int(n.split(".")[0]) for n in old if n.endswith(".main.json"))
    listed = dict(
        read_listing(old[f"{newest}.main.json"], now_ms=now_ms, name="x").blobs
    )
    listed[manifest_path(manifest.id, tenant="main")] = Blob.of(
        write_manifest(manifest)
    )
    for sha256, content in blobs.items():
        listed[blob_path(sha256, tenant="main")] = Blob.of(content)
    content = sign_tenant(key=key, blobs=listed, now_ms=now_ms, version=newest + 1)
    return {f"{newest + 1}.main.json": content}


async def upload(fleet: FleetSimulator, version: int) -> None:
    """Put the blobs of an attacker's release where the hub keeps its own."""
    manifest, blobs = release(version)
    for content in [write_manifest(manifest), *blobs.values()]:
        await fleet.hub.blobs.put(Blob.of(content).sha256, content)


async def withstands(fleet: FleetSimulator, version: int = 1) -> None:
    """The old release serves on."""
    await answers(fleet, GATEWAY, version)


async def recovers(fleet: FleetSimulator, version: int) -> None:
    """The next honest release is taken."""
    fleet.gateways[GATEWAY].metadata = None
    await deliver(fleet, version)
    await answers(fleet, GATEWAY, version)


Played = Callable[[FleetSimulator], Any]


def play(tmp_path: Path, attack: Played) -> None:
    """Play an attack on one gateway that runs the first release."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=ONE) as fleet:
            await deliver(fleet, 1)
            await attack(fleet)

    simulate(story())


@pytest.mark.attack("tuf.arbitrary-installation")
@pytest.mark.attack("uptane.arbitrary-software")
def test_arbitrary_installation(tmp_path: Path) -> None:
    """Who owns the hub lists and desires a release of his own: nobody signed it."""

    async def attack(fleet: FleetSimulator) -> None:
        await upload(fleet, 2)
        files = forged(fleet, tmp_path, list_with(fleet, 2, make_key()))
        fleet.gateways[GATEWAY].metadata = files
        await want(fleet, GATEWAY, 2)
        await waits_with(fleet, GATEWAY, "untrusted")
        await withstands(fleet)
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.endless-data")
@pytest.mark.attack("uptane.endless-data")
def test_endless_data(tmp_path: Path) -> None:
    """Neither a list nor a blob without an end fills the disk."""

    async def attack(fleet: FleetSimulator) -> None:
        gateway = fleet.gateways[GATEWAY]
        honest = gateway.blobs.open
        given = 0

        async def endless(sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
            nonlocal given
            async for piece in honest(sha256, offset=offset):
                yield piece
            while True:
                given += 1 << 16
                assert given < 1 << 24, "it was read without end"
                yield bytes(1 << 16)

        gateway.blobs.open = endless  # type: ignore[method-assign]
        await fleet.publish(*release(2))
        await want(fleet, GATEWAY, 2)
        await waits_with(fleet, GATEWAY, "corrupt")
        kept = [path for path in gateway.folder.rglob("*.part") if path.is_file()]
        assert sum(path.stat().st_size for path in kept) < 1 << 20
        await withstands(fleet)
        gateway.blobs.open = honest  # type: ignore[method-assign]
        gateway.metadata = {**fleet.metadata(), "timestamp.json": b" " * 6_000_000}
        await fleet.publish(*release(3))
        await want(fleet, GATEWAY, 3)
        await waits_with(fleet, GATEWAY, "corrupt")
        await recovers(fleet, 4)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.extraneous-dependencies")
def test_extraneous_dependencies(tmp_path: Path) -> None:
    """A manifest that names more than was signed is not that manifest."""

    async def attack(fleet: FleetSimulator) -> None:
        bundle = await fleet.publish(*release(2))
        gateway = fleet.gateways[GATEWAY]
        honest = gateway.blobs.open
        more = bundle.blobs[bundle.manifest_sha256].replace(
            b'"drift":null', b'"drift":{"sha256":"' + b"0" * 64 + b'","size_bytes":9}'
        )
        assert more != bundle.blobs[bundle.manifest_sha256]

        async def spoilt(sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
            if sha256 == bundle.manifest_sha256:
                yield more[offset:]
                return
            async for piece in honest(sha256, offset=offset):
                yield piece

        before = set(gateway.blobs.sent)
        gateway.blobs.open = spoilt  # type: ignore[method-assign]
        await want(fleet, GATEWAY, 2)
        await waits_with(fleet, GATEWAY, "corrupt")
        assert set(gateway.blobs.sent) == before, "nothing of it was fetched"
        gateway.blobs.open = honest  # type: ignore[method-assign]
        await withstands(fleet)
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.fast-forward")
def test_fast_forward(tmp_path: Path) -> None:
    """The thief of the online key signs into the future; a new key takes it back."""

    async def attack(fleet: FleetSimulator) -> None:
        gateway = fleet.gateways[GATEWAY]
        repository = Repository(fleet.metadata())
        ahead_ms = fleet.clock.unix_ms() + 80 * round(DAY_S) * 1000
        for _ in range(50):
            repository.sign_online(stolen(tmp_path), now_ms=ahead_ms)
        gateway.metadata = repository.files()
        await fleet.publish(*release(2))
        rollout = await fleet.begin("meter/2", gate=PATIENT)
        await fleet.run_for(600)  # It believes the thief, and finds no release 2.
        gateway.metadata = None
        await fleet.wait_for(rollout)
        await withstands(fleet)

        before = fleet.publisher.roles.states()[-1].keys
        key = await fleet.hub.releases.next_online_key()
        fleet.publisher.roles.replace("online", {before[0]: key})
        fleet.publisher.settle()
        await fleet.hub.releases.trust(fleet.publisher.metadata())
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.indefinite-freeze")
@pytest.mark.attack("uptane.freeze")
def test_indefinite_freeze(tmp_path: Path) -> None:
    """A hub that stands still is noticed within a day, and told."""

    async def attack(fleet: FleetSimulator) -> None:
        gateway = fleet.gateways[GATEWAY]
        gateway.metadata = fleet.metadata()
        await fleet.skip(2 * DAY_S)
        await fleet.run_for(120)
        await fleet.publish(*release(2))
        rollout = await fleet.begin("meter/2", gate=PATIENT)
        await waits_with(fleet, GATEWAY, "expired")
        await withstands(fleet)
        gateway.metadata = None
        assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    play(tmp_path, attack)


@pytest.mark.attack("tuf.malicious-mirrors")
def test_malicious_mirrors(tmp_path: Path) -> None:
    """Who carries blobs can delay an update, and put nothing in their place."""

    async def attack(fleet: FleetSimulator) -> None:
        bundle = await fleet.publish(*release(2))
        gateway = fleet.gateways[GATEWAY]
        gateway.blobs.flipped = set(bundle.blobs) - {bundle.manifest_sha256}
        await want(fleet, GATEWAY, 2)
        await waits_with(fleet, GATEWAY, "corrupt")
        await withstands(fleet)
        gateway.blobs.flipped = set()
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.mix-and-match")
@pytest.mark.attack("uptane.mix-and-match")
@pytest.mark.parametrize("name", ["main.json", "snapshot.json"])
def test_mix_and_match(tmp_path: Path, name: str) -> None:
    """Files of two days, each rightly signed, make no repository."""

    async def attack(fleet: FleetSimulator) -> None:
        old = fleet.metadata()
        await fleet.publish(*release(2))
        new = fleet.metadata()

        def newest(files: dict[str, bytes]) -> str:
            return max(file for file in files if file.endswith(name))

        spoilt = {**new, newest(dict(new)): old[newest(dict(old))]}
        fleet.gateways[GATEWAY].metadata = spoilt
        await want(fleet, GATEWAY, 2)
        await waits_with(fleet, GATEWAY, "corrupt")
        await withstands(fleet)
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.rollback")
@pytest.mark.attack("uptane.rollback")
@pytest.mark.parametrize("how", ["metadata", "desired"])
def test_rollback(tmp_path: Path, how: str) -> None:
    """Neither old files nor the wish for an old release bring it back."""

    async def attack(fleet: FleetSimulator) -> None:
        old = fleet.metadata()
        await deliver(fleet, 2)
        await deliver(fleet, 3)
        gateway = fleet.gateways[GATEWAY]
        await fleet.restart(GATEWAY)
        if how == "metadata":
            gateway.metadata = old
            await fleet.publish(*release(4))
            await want(fleet, GATEWAY, 4)
        else:
            await want(fleet, GATEWAY, 1)
        await waits_with(fleet, GATEWAY, "replayed")
        await withstands(fleet, 3)
        await recovers(fleet, 5)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.key-compromise")
@pytest.mark.parametrize("thief_has", ["online", "targets", "one of two", "revoked"])
def test_key_compromise(tmp_path: Path, thief_has: str) -> None:
    """No single key that was stolen makes a device run what its publisher did not."""

    async def attack(fleet: FleetSimulator) -> None:
        roles, key = fleet.publisher.roles, make_key()
        keys = tmp_path / "publisher" / "keys"
        if thief_has == "online":
            key = stolen(tmp_path)
        elif thief_has == "one of two":
            second = make_key()
            (keys / "second.pem").write_bytes(second)
            roles.add("tenant", public_key(second), threshold=2)
        elif thief_has == "revoked":
            key = (keys / "tenant.pem").read_bytes()
            roles.rotate("tenant")
        if thief_has == "one of two":
            key = second
        fleet.publisher.settle()
        await fleet.hub.releases.trust(fleet.publisher.metadata())
        await upload(fleet, 2)
        files = list_with(fleet, 2, key)
        if thief_has == "targets":
            # With the key of targets but not in the place of the hub: a delegation to
            # himself is not in the snapshot.
            delegation = sign_targets(
                key=(keys / "targets.pem").read_bytes(),
                tenants={"main": public_key(key)},
                now_ms=fleet.clock.unix_ms(),
                version=9,
            )
            spoilt = {**fleet.metadata(), **files, "9.targets.json": delegation}
        else:
            spoilt = forged(fleet, tmp_path, files)
        fleet.gateways[GATEWAY].metadata = spoilt
        await want(fleet, GATEWAY, 2)
        await waits_with(fleet, GATEWAY, "untrusted")
        await withstands(fleet)
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("tuf.wrong-software")
@pytest.mark.attack("uptane.mixed-bundles")
def test_wrong_software(tmp_path: Path) -> None:
    """Rightly signed bytes in the place of others are not those that were asked for."""

    async def attack(fleet: FleetSimulator) -> None:
        first = fleet.publisher.release(*release(1))
        bundle = await fleet.publish(*release(2))
        gateway = fleet.gateways[GATEWAY]
        honest = gateway.blobs.open
        old = first.manifest.models[0].blob.sha256
        new = bundle.manifest.models[0].blob.sha256

        async def swapped(
            sha256: str, *, offset: int = 0, end: int | None = None
        ) -> AsyncIterator[bytes]:
            given = old if sha256 == new else sha256
            async for piece in honest(given, offset=offset, end=end):
                yield piece

        gateway.blobs.open = swapped  # type: ignore[method-assign]
        await want(fleet, GATEWAY, 2)
        await waits_with(fleet, GATEWAY, "corrupt")
        gateway.blobs.open = honest  # type: ignore[method-assign]
        await withstands(fleet)
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("uptane.eavesdrop")
def test_eavesdrop(tmp_path: Path) -> None:
    """Not prevented on the wire, and said so; no private key is there to be heard."""

    async def attack(fleet: FleetSimulator) -> None:
        security = (REPOSITORY / "SECURITY.md").read_text()
        assert "**No encryption of its own.**" in security
        heard = [*fleet.metadata().values()]
        heard += [payload for _, payload in fleet.broker.retained("#")]
        keys = [
            *(tmp_path / "publisher" / "keys").iterdir(),
            tmp_path / "hub" / HUB_KEY,
        ]
        secrets = [key.read_bytes().split(b"\n")[1] for key in keys]
        assert not any(secret in message for secret in secrets for message in heard)

    play(tmp_path, attack)


@pytest.mark.attack("uptane.drop-request")
def test_drop_request(tmp_path: Path) -> None:
    """A device that is cut off serves on, and converges once it is not."""

    async def attack(fleet: FleetSimulator) -> None:
        fleet.cut(GATEWAY)
        await fleet.publish(*release(2))
        rollout = await fleet.begin("meter/2", gate=PATIENT)
        await fleet.run_for(900)
        await withstands(fleet)
        fleet.join(GATEWAY)
        assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    play(tmp_path, attack)


@pytest.mark.attack("uptane.partial-bundle")
def test_partial_bundle(tmp_path: Path) -> None:
    """A release of which one part is held back is not installed in part."""

    async def attack(fleet: FleetSimulator) -> None:
        bundle = await fleet.publish(*release(2))
        gateway = fleet.gateways[GATEWAY]
        honest, held_back = gateway.blobs.open, bundle.manifest.golden.sha256
        assert held_back in bundle.blobs

        async def partial(sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
            if sha256 == held_back:
                raise LinkError("it does not come", hint="Wait.")
            async for piece in honest(sha256, offset=offset):
                yield piece

        gateway.blobs.open = partial  # type: ignore[method-assign]
        rollout = await fleet.begin("meter/2", gate=PATIENT)
        await waits_with(fleet, GATEWAY, "unreachable")
        await fleet.restart(GATEWAY)
        await withstands(fleet)
        gateway.blobs.open = honest  # type: ignore[method-assign]
        assert (await fleet.wait_for(rollout)).state is RolloutState.SUCCEEDED

    play(tmp_path, attack)


def send(fleet: FleetSimulator, body: dict[str, Any]) -> None:
    """Give a gateway a message past the hub, as who owns the broker can."""
    message = Message(
        kind="desired", device=GATEWAY, sent_at_ms=fleet.clock.unix_ms(), body=body
    )
    fleet.broker.route(DESIRED, encode(message), retain=False)


async def told(fleet: FleetSimulator, what: str) -> bool:
    """Whether the device's log says so."""
    events = await fleet.hub.events.read(GATEWAY, limit=1000)
    return any(what in str(event.fields.get("what")) for event in events)


@pytest.mark.attack("uptane.replayed-instructions")
def test_replayed_instructions(tmp_path: Path) -> None:
    """What the hub said before, it does not say now; after a restart, too."""

    async def attack(fleet: FleetSimulator) -> None:
        await deliver(fleet, 2)
        said = dict(fleet.broker.retained(DESIRED))[DESIRED]
        old = decode(said)
        await deliver(fleet, 3)
        for _ in range(2):
            fleet.broker.route(DESIRED, encode(old), retain=False)
            await fleet.run_for(30)
            assert fleet.gateways[GATEWAY].version("meter") == 3
            await fleet.restart(GATEWAY)
        await fleet.run_for(30)
        assert await told(fleet, "replayed")
        await recovers(fleet, 4)

    play(tmp_path, attack)


@pytest.mark.attack("uptane.instructions-for-another")
def test_instructions_for_another(tmp_path: Path) -> None:
    """What one device is told to run, rightly signed, is not for another one."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=(GATEWAY, "gateway-2")) as fleet:
            await deliver(fleet, 1)
            await fleet.publish(*release(2))
            await fleet.hub.shadows.set_desired(
                "gateway-2", {"releases": {"meter": {"version": 2, "rollout": "x"}}}
            )
            await fleet.run_until(lambda: fleet.versions("meter")["gateway-2"] == 2)
            theirs = DESIRED.replace(GATEWAY, "gateway-2")
            body = decode(dict(fleet.broker.retained(theirs))[theirs]).body
            send(fleet, dict(body))
            await fleet.run_for(120)
            assert fleet.versions("meter")[GATEWAY] == 1
            assert await told(fleet, "is not signed, for it")
            await recovers(fleet, 3)

    simulate(story())


@pytest.mark.attack("uptane.forged-instructions")
@pytest.mark.parametrize("how", ["unsigned", "stranger", "changed", "odd"])
def test_forged_instructions(tmp_path: Path, how: str) -> None:
    """Who owns the broker, and not the hub's key, cannot even choose among releases."""

    async def attack(fleet: FleetSimulator) -> None:
        await fleet.publish(*release(2))
        desired: dict[str, Any] = {
            "releases": {"meter": {"version": 2, "rollout": "x"}}
        }
        version = (await fleet.shadow(GATEWAY)).version + 5
        instructions = Instructions(
            tenant="main",
            device=GATEWAY,
            version=version,
            desired={} if how == "changed" else desired,
            at_ms=fleet.clock.unix_ms() + 1000,
        )
        key = make_key() if how == "stranger" else stolen(tmp_path)
        signed: Any = sign_instructions(instructions, hub_key=key)
        if how == "odd":
            signed["signatures"] *= 9
        body = {"version": version, "desired": desired}
        send(fleet, body if how == "unsigned" else {**body, "signed": signed})
        await fleet.run_for(120)
        assert fleet.gateways[GATEWAY].version("meter") == 1
        await recovers(fleet, 3)

    play(tmp_path, attack)


@pytest.mark.attack("uptane.forged-reports")
def test_forged_reports(tmp_path: Path) -> None:
    """A device that was taken over cannot speak or hear in the name of another one."""

    async def story() -> None:
        async with FleetSimulator(tmp_path, devices=(GATEWAY, "gateway-2")) as fleet:
            await deliver(fleet, 1)
            token = await fleet.hub.devices.create("gateway-3", root_sha256="0" * 64)
            own = await fleet.hub.devices.enrol(token)
            grant = await fleet.hub.devices.authenticate(
                own.username, own.username, own.password.encode()
            )
            link = fleet.broker.link(own.username, grant=grant)
            lie = Message(
                kind="reported",
                device=GATEWAY,
                epoch="e",
                seq=1,
                sent_at_ms=1,
                body={"patch": {"releases": {"meter": {"version": 9}}}},
            )
            with pytest.raises((TrustError, LinkError, DataError)):
                await link.publish(f"skerry/1/main/{GATEWAY}/up/reported", encode(lie))

            async def hear(topic: str, payload: bytes) -> None:
                raise AssertionError((topic, payload))

            with pytest.raises((TrustError, LinkError, DataError)):
                await link.subscribe(DESIRED, hear)
            # On its own topic, in the name of another: it is not taken for that one.
            await link.publish("skerry/1/main/gateway-3/up/reported", encode(lie))
            await fleet.run_for(60)
            reported: Any = (await fleet.shadow(GATEWAY)).reported
            assert reported["releases"]["meter"]["version"] == 1
            assert await refusal(fleet, GATEWAY) == {}
            await link.close()

    simulate(story())

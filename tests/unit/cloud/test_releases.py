from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from skerry.cloud.hub import Hub, HubSettings
from skerry.cloud.releases import KEY_FILE, TRUST_FOLDER
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import FakeClock
from skerry.core.errors import ConflictError, DataError, TrustError, UsageError
from skerry.core.release import ReleaseId, write_manifest
from tests.hubs import running_hub, wait_until
from tests.publishing import (
    make_blob,
    make_bundle,
    make_parts,
    make_publisher,
    publish,
)

DAY_S = 86_400


def _on_hub(
    folder: Path, case: Callable[[Hub], Awaitable[None]], clock: FakeClock | None = None
) -> None:
    async def run() -> None:
        async with running_hub(folder, clock=clock or FakeClock()) as (hub, _):
            await case(hub)

    asyncio.run(run())


def test_a_release_is_published_whole(tmp_path: Path) -> None:
    """Its manifest is kept, its metadata is served, and the hub has signed both."""

    async def case(hub: Hub) -> None:
        publisher = make_publisher(tmp_path, hub)
        await publish(hub, make_bundle(publisher, 1))
        assert [str(one.id) for one in await hub.releases.list()] == ["meter/1"]
        found = await hub.releases.get(ReleaseId(name="meter", version=1))
        assert found.notes == "version 1"
        assert hub.releases.root == publisher.root
        assert hub.releases.file("timestamp.json")
        assert hub.releases.file("1.snapshot.json")
        assert hub.releases.file("2.main.json")
        assert hub.releases.file("../hub.sqlite") is None
        names = {path.name for path in (hub.settings.folder / TRUST_FOLDER).iterdir()}
        assert {"1.root.json", "timestamp.json"} <= names

    _on_hub(tmp_path / "hub", case)


def test_publishing_again_is_no_fault_and_releases_grow(tmp_path: Path) -> None:
    """The same once more changes nothing; the next version joins the first."""

    async def case(hub: Hub) -> None:
        publisher = make_publisher(tmp_path, hub)
        first = make_bundle(publisher, 1)
        await publish(hub, first)
        await publish(hub, first)
        await publish(hub, make_bundle(publisher, 2))
        assert [one.version for one in await hub.releases.list()] == [2, 1]

    _on_hub(tmp_path / "hub", case)


def test_the_hub_keeps_key_and_metadata_over_a_restart(tmp_path: Path) -> None:
    """The online key is made once, is its owner's alone, and goes on signing."""
    keys = []

    async def first(hub: Hub) -> None:
        keys.append(hub.releases.online_key)
        await publish(hub, make_bundle(make_publisher(tmp_path, hub), 1))

    async def second(hub: Hub) -> None:
        keys.append(hub.releases.online_key)
        assert hub.releases.file("timestamp.json")
        assert await hub.releases.list()

    _on_hub(tmp_path / "hub", first)
    _on_hub(tmp_path / "hub", second)
    assert keys[0] == keys[1]
    assert (tmp_path / "hub" / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_missing_or_short_blob_stops_a_publication(tmp_path: Path) -> None:
    """All that the release is made of must be here; nothing of it is taken."""

    async def case(hub: Hub) -> None:
        bundle = make_bundle(make_publisher(tmp_path, hub), 1)
        left_out = bundle.manifest.models[0].blob.sha256
        for sha256, content in bundle.blobs.items():
            if sha256 != left_out:
                await hub.blobs.put(sha256, content)
        with pytest.raises(DataError, match="is not here"):
            await hub.releases.publish(bundle.metadata, [bundle.manifest_sha256])
        assert await hub.releases.list() == ()
        assert hub.releases.file("1.root.json") is None
        await publish(hub, bundle)
        assert len(await hub.releases.list()) == 1

    _on_hub(tmp_path / "hub", case)


def test_a_manifest_that_was_not_signed_is_refused(tmp_path: Path) -> None:
    """A blob that is here but in no signed list is no release."""

    async def case(hub: Hub) -> None:
        bundle = make_bundle(make_publisher(tmp_path, hub), 1)
        await publish(hub, bundle)
        forged = write_manifest(make_parts(2)[0])
        await hub.blobs.put(make_blob(forged).sha256, forged)
        with pytest.raises(DataError, match="does not name the manifest"):
            await hub.releases.publish(bundle.metadata, [make_blob(forged).sha256])
        with pytest.raises(DataError, match="has None bytes"):
            await hub.releases.publish(bundle.metadata, ["0" * 64])
        with pytest.raises(DataError, match="manifests, at most"):
            await hub.releases.publish(bundle.metadata, ["0" * 64] * 65)

    _on_hub(tmp_path / "hub", case)


def test_metadata_of_another_publisher_is_refused(tmp_path: Path) -> None:
    """The first root stays; who does not hold its keys publishes nothing here."""

    async def case(hub: Hub) -> None:
        await publish(hub, make_bundle(make_publisher(tmp_path / "ours", hub), 1))
        theirs = make_bundle(make_publisher(tmp_path / "theirs", hub), 2)
        with pytest.raises(TrustError):
            await publish(hub, theirs)
        assert [one.version for one in await hub.releases.list()] == [1]

    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    _on_hub(tmp_path / "hub", case)


def test_an_older_publication_is_a_replay(tmp_path: Path) -> None:
    """A hub that has seen version 2 takes neither old lists nor old releases."""

    async def case(hub: Hub) -> None:
        publisher = make_publisher(tmp_path, hub)
        old, new = make_bundle(publisher, 1), make_bundle(publisher, 2)
        for sha256, content in old.blobs.items():
            await hub.blobs.put(sha256, content)
        await publish(hub, new)
        with pytest.raises(TrustError) as caught:
            await publish(hub, old)
        assert caught.value.reason == "replayed"
        with pytest.raises(ConflictError, match="meter/2 is here"):
            await hub.releases.publish(new.metadata, [old.manifest_sha256])

    _on_hub(tmp_path / "hub", case)


def test_the_root_alone_comes_first(tmp_path: Path) -> None:
    """Before any release the root lets devices be registered."""

    async def case(hub: Hub) -> None:
        with pytest.raises(UsageError, match="no root yet"):
            _ = hub.releases.root
        publisher = make_publisher(tmp_path, hub)
        await hub.releases.trust({"1.root.json": publisher.root})
        assert hub.releases.root == publisher.root
        assert hub.releases.root_of(hub.releases.root_sha256) == publisher.root
        assert hub.releases.root_of("0" * 64) == publisher.root
        assert hub.releases.file("timestamp.json") is None
        await hub.releases.trust(publisher.metadata())
        assert hub.releases.file("timestamp.json")
        with pytest.raises(UsageError, match="there is no release"):
            await hub.releases.get(ReleaseId(name="meter", version=9))

    _on_hub(tmp_path / "hub", case)


def test_the_hub_signs_anew_before_its_signature_expires(tmp_path: Path) -> None:
    """When half of the timestamp's life is over, there is a new one."""
    clock = FakeClock()

    async def case(hub: Hub) -> None:
        await publish(hub, make_bundle(make_publisher(tmp_path, hub), 1))
        old = hub.releases.file("timestamp.json")
        clock.advance(wall_s=61)
        await asyncio.sleep(0.05)
        assert hub.releases.file("timestamp.json") == old
        clock.advance(wall_s=DAY_S / 2)
        await wait_until(lambda: hub.releases.file("timestamp.json") != old)

    _on_hub(tmp_path / "hub", case, clock)


def test_a_hub_that_slept_signs_at_its_start(tmp_path: Path) -> None:
    """After a week off, the first thing it does is sign anew."""
    clock = FakeClock()
    kept = []

    async def publish_one(hub: Hub) -> None:
        await publish(hub, make_bundle(make_publisher(tmp_path, hub), 1))
        kept.append(hub.releases.file("timestamp.json"))

    async def look(hub: Hub) -> None:
        assert hub.releases.file("timestamp.json") != kept[0]

    _on_hub(tmp_path / "hub", publish_one, clock)
    clock.advance(wall_s=7 * DAY_S)
    _on_hub(tmp_path / "hub", look, clock)


def test_a_full_disk_leaves_the_old_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be put in place is neither served nor listed."""

    async def case(hub: Hub) -> None:
        publisher = make_publisher(tmp_path, hub)
        await publish(hub, make_bundle(publisher, 1))
        served = hub.releases.file("timestamp.json")
        bundle = make_bundle(publisher, 2)

        def full(*_: object, **__: object) -> None:
            raise DataError("no space", hint="")

        with monkeypatch.context() as patched:
            patched.setattr("skerry.cloud.releases.write_files", full)
            with pytest.raises(DataError, match="no space"):
                await publish(hub, bundle)
        assert hub.releases.file("timestamp.json") == served
        assert [one.version for one in await hub.releases.list()] == [1]
        await publish(hub, bundle)
        assert [one.version for one in await hub.releases.list()] == [2, 1]

    _on_hub(tmp_path / "hub", case)


def test_a_damaged_key_stops_the_start(tmp_path: Path) -> None:
    """The hub says so, and makes no new key that no root names."""
    (tmp_path / KEY_FILE).write_bytes(b"no key")

    async def run() -> None:
        link = MemoryBroker().link("hub")
        hub = Hub(HubSettings(folder=tmp_path), link=link)
        with pytest.raises(UsageError, match=f"{KEY_FILE} holds no key"):
            await hub.start()

    asyncio.run(run())
    assert (tmp_path / KEY_FILE).read_bytes() == b"no key"


def test_a_publication_that_was_cut_off_bars_no_other(tmp_path: Path) -> None:
    """The list names blobs that never came; the next release is taken all the same."""

    async def case(hub: Hub) -> None:
        publisher = make_publisher(tmp_path, hub)
        await publish(hub, make_bundle(publisher, 1))
        make_bundle(publisher, 2)  # signed, and then the link broke
        await publish(hub, make_bundle(publisher, 3))
        assert [one.version for one in await hub.releases.list()] == [3, 1]

    _on_hub(tmp_path / "hub", case)


@pytest.mark.parametrize(
    "name",
    [
        "1.root.json",
        "1.targets.json",
        "2.main.json",
        "1.snapshot.json",
        "timestamp.json",
    ],
)
@pytest.mark.parametrize("content", [b"", b"{"])
def test_damaged_metadata_stops_the_start(
    tmp_path: Path, name: str, content: bytes
) -> None:
    """Were a file taken for none, its versions would begin again, and be refused."""

    async def begin(hub: Hub) -> None:
        await publish(hub, make_bundle(make_publisher(tmp_path, hub), 1))

    async def again(_: Hub) -> None:
        raise AssertionError("it has started")

    _on_hub(tmp_path / "hub", begin)
    path = tmp_path / "hub" / TRUST_FOLDER / name
    assert path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(TrustError, match=rf"{name} is damaged"):
        _on_hub(tmp_path / "hub", again)
    assert path.read_bytes() == content

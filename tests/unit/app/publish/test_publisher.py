from __future__ import annotations

import hashlib
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.app.publish.publisher import Bundle, Publisher
from skerry.core.clock import FakeClock
from skerry.core.errors import DataError, StateError, TrustError, UsageError
from skerry.core.release import (
    Blob,
    Manifest,
    ReleaseId,
    ReleaseModel,
    delta_path,
    manifest_path,
    read_manifest,
    write_manifest,
)
from skerry.edge.trust import DeviceTrust
from skerry.evolve.delta import patch
from skerry.evolve.trust import Repository, make_key, public_key

DAY_S = 86_400
OLD_MODEL = bytes(range(256)) * 20
MODEL = OLD_MODEL[:-9] + b"retrained"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> Blob:
    return Blob(sha256=_sha256(content), size_bytes=len(content))


def _release(version: int, model: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """A release whose parts are a few bytes."""
    manifest = Manifest(
        name="meter",
        version=version,
        created_at_ms=1,
        models=(
            ReleaseModel(
                target="any",
                runtime="null",
                blob=_blob(model),
                inputs=(),
                outputs=(),
            ),
        ),
        golden=_blob(b"golden"),
        task=_blob(b"task"),
    )
    return manifest, {_sha256(part): part for part in (model, b"golden", b"task")}


@pytest.fixture
def clock() -> FakeClock:
    """The time of publisher, hub and device."""
    return FakeClock()


@pytest.fixture
def hub_key() -> bytes:
    """The hub's private key."""
    return make_key()


@pytest.fixture
def publisher(tmp_path: Path, clock: FakeClock, hub_key: bytes) -> Publisher:
    """A new publisher."""
    return Publisher.create(
        tmp_path / "publisher", hub_key=public_key(hub_key), clock=clock
    )


@pytest.fixture
def repository(publisher: Publisher, clock: FakeClock) -> Repository:
    """A hub that trusts the publisher."""
    repository = Repository()
    repository.bootstrap(publisher.root, now_ms=clock.unix_ms())
    repository.accept(publisher.metadata(), now_ms=clock.unix_ms())
    return repository


def test_a_release_reaches_a_device(
    publisher: Publisher,
    repository: Repository,
    hub_key: bytes,
    clock: FakeClock,
    tmp_path: Path,
) -> None:
    """Signed by the publisher, taken by the hub, trusted by the device: all parts."""
    first, parts = _release(1, OLD_MODEL)
    publisher.release(first, parts)
    second, parts = _release(2, MODEL)
    bundle = publisher.release(
        second, parts, deltas_from={_sha256(OLD_MODEL): OLD_MODEL}
    )
    repository.accept(bundle.metadata, now_ms=clock.unix_ms())
    repository.sign_online(hub_key, now_ms=clock.unix_ms())
    root = publisher.root
    DeviceTrust.pin(tmp_path / "device", root, _sha256(root))
    served = repository.files()
    device = DeviceTrust(
        tmp_path / "device", tenant="main", fetch=served.get, clock=clock
    )
    device.refresh()
    found = device.target(manifest_path(second.id, tenant="main"))
    assert found is not None
    assert found.sha256 == bundle.manifest_sha256
    manifest = read_manifest(bundle.blobs[found.sha256])
    assert manifest == second
    for blob in manifest.blobs("any").values():
        assert device.target(f"main/blobs/{blob.sha256}") == blob
        assert len(bundle.blobs[blob.sha256]) == blob.size_bytes
    path = delta_path(_sha256(OLD_MODEL), _sha256(MODEL), tenant="main")
    delta = device.target(path)
    assert delta is not None
    assert bundle.delta_bytes == {_sha256(OLD_MODEL): delta.size_bytes}
    rebuilt = patch(OLD_MODEL, bundle.blobs[delta.sha256], largest_bytes=len(MODEL))
    assert rebuilt == MODEL
    assert device.target(manifest_path(first.id, tenant="main")) is not None


def test_keys_are_for_their_owner_alone(publisher: Publisher, tmp_path: Path) -> None:
    """Nobody else may read a private key, and none lies in the metadata."""
    folder = tmp_path / "publisher"
    assert publisher.tenant == "main"
    assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o700
    keys = sorted((folder / "keys").iterdir())
    assert [key.name for key in keys] == ["root.pem", "targets.pem", "tenant.pem"]
    for key in keys:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for path in (folder / "metadata").iterdir():
        assert b"PRIVATE" not in path.read_bytes()


def test_an_opened_publisher_goes_on(publisher: Publisher, tmp_path: Path) -> None:
    """What was released is known, and versions go on from there."""
    publisher.release(*_release(3, MODEL))
    opened = Publisher.open(tmp_path / "publisher")
    assert opened.releases == (ReleaseId(name="meter", version=3),)
    with pytest.raises(UsageError, match="at version 3 already"):
        opened.release(*_release(2, OLD_MODEL))
    with pytest.raises(UsageError, match="at version 3 already") as caught:
        opened.release(*_release(3, OLD_MODEL))
    assert "version 4" in caught.value.hint
    assert opened.release(*_release(4, OLD_MODEL)).manifest.version == 4


def test_a_release_can_be_repeated(publisher: Publisher) -> None:
    """A publication that got lost is made again, byte by byte."""

    def released() -> Bundle:
        return publisher.release(
            *_release(1, MODEL), deltas_from={_sha256(OLD_MODEL): OLD_MODEL}
        )

    assert released() == released()


def test_parts_that_were_released_before_may_be_left_out(publisher: Publisher) -> None:
    """A second release need not bring the same task again."""
    publisher.release(*_release(1, OLD_MODEL))
    manifest, _ = _release(2, MODEL)
    bundle = publisher.release(manifest, {_sha256(MODEL): MODEL})
    assert set(bundle.blobs) == {_sha256(MODEL), bundle.manifest_sha256}


def test_a_delta_must_be_worth_it(publisher: Publisher) -> None:
    """Nothing is sent as a delta that is hardly smaller than the whole."""
    noise = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(99))
    manifest, parts = _release(1, noise)
    deltas_from = {_sha256(OLD_MODEL): OLD_MODEL, _sha256(noise): noise}
    bundle = publisher.release(manifest, parts, deltas_from=deltas_from)
    assert bundle.delta_bytes == {}
    assert set(bundle.blobs) == {*parts, bundle.manifest_sha256}


def test_what_does_not_fit_is_not_signed(publisher: Publisher, tmp_path: Path) -> None:
    """A missing part, a wrong hash or size, a manifest that makes no sense."""
    manifest, parts = _release(1, MODEL)
    metadata = publisher.metadata()
    missing = {sha256: part for sha256, part in parts.items() if part != b"task"}
    with pytest.raises(UsageError, match="the task of meter/1 has 4 bytes, nothing"):
        publisher.release(manifest, missing)
    other = replace(manifest, task=Blob(sha256=_sha256(b"task"), size_bytes=5))
    with pytest.raises(UsageError, match="4 bytes was given"):
        publisher.release(other, parts)
    with pytest.raises(DataError, match="its hash is"):
        publisher.release(manifest, parts | {_sha256(b""): b"x"})
    with pytest.raises(DataError, match="its hash is"):
        publisher.release(manifest, parts, deltas_from={_sha256(b"x"): b"y"})
    with pytest.raises(DataError):
        publisher.release(replace(manifest, models=()), parts)
    with pytest.raises(UsageError):
        publisher.release(replace(manifest, name="Meter"), parts)
    assert publisher.metadata() == metadata
    assert Publisher.open(tmp_path / "publisher").releases == ()


def test_a_publisher_is_made_once(
    publisher: Publisher, hub_key: bytes, tmp_path: Path
) -> None:
    """Keys that devices trust are never written over."""
    key = (tmp_path / "publisher" / "keys" / "root.pem").read_bytes()
    with pytest.raises(UsageError, match="already"):
        Publisher.create(tmp_path / "publisher", hub_key=public_key(hub_key))
    assert (tmp_path / "publisher" / "keys" / "root.pem").read_bytes() == key
    for tenant, key in (("Main", hub_key), ("root", hub_key), ("main", b"no key")):
        with pytest.raises(UsageError):
            Publisher.create(tmp_path / "other", tenant=tenant, hub_key=key)
    assert not (tmp_path / "other").exists()
    assert publisher.root


def test_a_publisher_must_be_there_and_whole(
    publisher: Publisher, tmp_path: Path
) -> None:
    """Each thing that is lost is named."""
    folder = tmp_path / "publisher"
    with pytest.raises(StateError, match="no publisher"):
        Publisher.open(tmp_path / "none")
    (folder / "keys" / "tenant.pem").unlink()
    assert publisher.release(*_release(1, MODEL)).lacking == 1
    targets = folder / "metadata" / "1.targets.json"
    targets.write_bytes(targets.read_bytes()[:99])
    with pytest.raises(TrustError):
        Publisher.open(folder)
    targets.unlink()
    with pytest.raises(StateError, match="no targets metadata"):
        Publisher.open(folder)


def test_what_grows_old_is_signed_anew(
    publisher: Publisher, repository: Repository, hub_key: bytes, clock: FakeClock
) -> None:
    """A publisher that releases now and then never lets its lists expire."""
    publisher.release(*_release(1, MODEL))
    for _ in range(4):
        clock.advance(wall_s=60 * DAY_S)
        repository.accept(publisher.metadata(), now_ms=clock.unix_ms())
        repository.sign_online(hub_key, now_ms=clock.unix_ms())
    assert {"5.targets.json", "6.main.json"} <= set(publisher.metadata())
    assert publisher.metadata() == publisher.metadata()


def test_a_root_grows_old_too(
    publisher: Publisher, repository: Repository, clock: FakeClock
) -> None:
    """The root is followed by one of the same keys before it expires."""
    root = publisher.root
    clock.advance(wall_s=200 * DAY_S)
    repository.accept(publisher.metadata(), now_ms=clock.unix_ms())
    assert publisher.root == repository.root != root
    assert "2.root.json" in publisher.metadata()


def test_the_manifest_is_what_was_signed(publisher: Publisher) -> None:
    """The bundle's manifest bytes are the canonical ones."""
    manifest, parts = _release(1, MODEL)
    bundle = publisher.release(manifest, parts)
    assert bundle.blobs[bundle.manifest_sha256] == write_manifest(manifest)

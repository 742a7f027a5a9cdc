"""A captured hub: what an attacker can do without the publisher's keys."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.app.demo.captured import CapturedHub
from skerry.app.publish.publisher import Publisher
from skerry.core.clock import FakeClock
from skerry.core.errors import StateError, TrustError
from skerry.core.release import Blob, Manifest, ReleaseModel, manifest_path
from skerry.edge.trust import DeviceTrust
from skerry.evolve.trust import Repository, make_key, public_key

MODEL = b"a model"
BLOB = Blob(sha256=hashlib.sha256(MODEL).hexdigest(), size_bytes=len(MODEL))
MANIFEST = Manifest(
    name="meter",
    version=1,
    created_at_ms=0,
    models=(
        ReleaseModel(target="any", runtime="null", blob=BLOB, inputs=(), outputs=()),
    ),
    golden=BLOB,
    task=BLOB,
)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """The folder of a hub with one release in it."""
    clock, key = FakeClock(), make_key()
    publisher = Publisher.create(
        tmp_path / "publisher", hub_key=public_key(key), clock=clock
    )
    publisher.release(MANIFEST, {BLOB.sha256: MODEL})
    repository = Repository()
    repository.bootstrap(publisher.root, now_ms=clock.unix_ms())
    repository.accept(publisher.metadata(), now_ms=clock.unix_ms())
    repository.sign_online(key, now_ms=clock.unix_ms())
    folder = tmp_path / "hub"
    (folder / "trust").mkdir(parents=True)
    (folder / "online-key.pem").write_bytes(key)
    for name, content in repository.files().items():
        (folder / "trust" / name).write_bytes(content)
    return folder


def test_no_device_believes_what_was_forged(hub: Path, tmp_path: Path) -> None:
    """It refuses as untrusted, keeps the old list, and goes on once that is back."""
    captured, clock = CapturedHub(hub), FakeClock()
    today = captured.files()
    root = today["1.root.json"]
    DeviceTrust.pin(tmp_path / "device", root, hashlib.sha256(root).hexdigest())
    device = DeviceTrust(
        tmp_path / "device",
        tenant="main",
        fetch=lambda name: captured.files().get(name),
        clock=clock,
    )
    device.refresh()
    captured.forge(replace(MANIFEST, version=9), now_ms=clock.unix_ms())
    assert captured.files() != today
    with pytest.raises(TrustError) as caught:
        device.refresh()
    assert caught.value.reason == "untrusted"
    forged = manifest_path(replace(MANIFEST, version=9).id, tenant="main")
    assert device.target(forged) is None
    assert device.target(manifest_path(MANIFEST.id, tenant="main")) is not None
    captured.put(today)
    assert captured.files() == today
    device.refresh()


def test_an_empty_hub_gives_nothing_to_forge(tmp_path: Path) -> None:
    """There is no list to begin from."""
    (tmp_path / "trust").mkdir()
    with pytest.raises(StateError, match="nothing is published"):
        CapturedHub(tmp_path).forge(MANIFEST, now_ms=0)

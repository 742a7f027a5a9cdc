"""A publisher, a hub and devices that trust each other: what trust tests attack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from skerry.core.clock import FakeClock
from skerry.core.release import Blob, blob_path
from skerry.edge.trust import DeviceTrust
from skerry.evolve.trust import (
    Repository,
    make_key,
    public_key,
    sign_root,
    sign_targets,
    sign_tenant,
)

DAY_S = 86_400


def blob(content: bytes) -> Blob:
    """Name bytes by their hash."""
    sha256 = hashlib.sha256(content).hexdigest()
    return Blob(sha256=sha256, size_bytes=len(content))


FIRST, SECOND = blob(b"first"), blob(b"second")
FIRST_PATH = blob_path(FIRST.sha256, tenant="main")
SECOND_PATH = blob_path(SECOND.sha256, tenant="main")


class World:
    """Keys, a repository with one published list, and what the hub serves of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        names = ("root", "targets", "tenant", "hub", "stranger")
        self.keys = {name: make_key() for name in names}
        self.repository = Repository()
        self.repository.bootstrap(self.root(), now_ms=self.now_ms)
        self.publish({"1.targets.json": self.targets(1), "1.main.json": self.listed(1)})

    @property
    def now_ms(self) -> int:
        """The one time of all."""
        return self.clock.unix_ms()

    def public(self, name: str) -> bytes:
        """The public half of a key."""
        return public_key(self.keys[name])

    def root(
        self, version: int = 1, key: str = "root", previous: str | None = None
    ) -> bytes:
        """Sign a root."""
        return sign_root(
            root_key=self.keys[key],
            targets_key=self.public("targets"),
            online_key=self.public("hub"),
            now_ms=self.now_ms,
            version=version,
            previous_key=self.keys[previous] if previous else None,
        )

    def targets(self, version: int, key: str = "targets") -> bytes:
        """Sign the delegation to the tenant."""
        return sign_targets(
            key=self.keys[key],
            tenants={"main": self.public("tenant")},
            now_ms=self.now_ms,
            version=version,
        )

    def listed(self, version: int, key: str = "tenant", **more: Blob) -> bytes:
        """Sign the tenant's list: the first blob and, from version 2 on, the second."""
        blobs = {FIRST_PATH: FIRST, **more}
        if version > 1:
            blobs[SECOND_PATH] = SECOND
        return sign_tenant(
            key=self.keys[key], blobs=blobs, now_ms=self.now_ms, version=version
        )

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Have the hub take files in and sign that they are current."""
        self.repository.accept(files, now_ms=self.now_ms)
        self.sign()

    def sign(self) -> None:
        """Have the hub sign anew."""
        self.repository.sign_online(self.keys["hub"], now_ms=self.now_ms)

    def files(self) -> dict[str, bytes]:
        """What an honest hub serves."""
        return self.repository.files()

    def forged(
        self, files: Mapping[str, bytes], *, without: str = ""
    ) -> dict[str, bytes]:
        """What a hub that was broken into serves: it checks nothing, and signs."""
        kept = {name: old for name, old in self.files().items() if name != without}
        broken = Repository({**kept, **files})
        broken.sign_online(self.keys["hub"], now_ms=self.now_ms)
        return broken.files()


class Device:
    """A device with a pinned root and whatever a test lets it be served."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.served: Mapping[str, bytes | Exception] = world.files()
        root = world.files()["1.root.json"]
        DeviceTrust.pin(folder, root, hashlib.sha256(root).hexdigest())
        self.restart()

    def restart(self) -> None:
        """Read everything from the disk again."""
        self.trust = DeviceTrust(
            self.folder, tenant="main", fetch=self.fetch, clock=self.world.clock
        )

    def fetch(self, name: str) -> bytes | None:
        """Serve a file, or fail as the test wants."""
        found = self.served.get(name)
        if isinstance(found, Exception):
            raise found
        return found

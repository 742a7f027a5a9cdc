"""A repository that a test may spoil, as the simulator of tuf-conformance does."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from skerry.core.clock import FakeClock
from skerry.edge.trust import DeviceTrust
from skerry.evolve.trust import as_date
from skerry.evolve.trust.metadata import SIGNED_AT

TOP = ("root", "timestamp", "snapshot", "targets")
TENANT = "main"


class SpoiltRepository:
    """Metadata of all roles as objects, signed whenever it is asked for.

    Attributes:
        clock: The time of all.
        signers: Who signs each role, whether the role's delegator knows them or not.
        root: The root to come; `publish_root` makes a version of it.
        roots: Root files, the first at place 0.
        asked: The names of the files that were asked for.
        snapshots: Snapshot files by the versions under which they are served.
        with_hashes: Whether snapshot and timestamp give hashes.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        expires = as_date(self.clock.unix_ms()) + timedelta(days=30)
        self.signers = {
            role: [CryptoSigner.generate_ed25519()] for role in (*TOP, TENANT)
        }
        self.root = Root(expires=expires, consistent_snapshot=True)
        self.root.version = 0
        for role in TOP:
            self.root.add_key(self.signers[role][0].public_key, role)
        key = self.signers[TENANT][0].public_key
        tenant = DelegatedRole(
            TENANT,
            [key.keyid],
            1,
            terminating=True,
            paths=[f"{TENANT}/*/*", f"{TENANT}/*/*/*"],
        )
        self.targets = Targets(
            expires=expires,
            delegations=Delegations({key.keyid: key}, {TENANT: tenant}),
        )
        self.tenant = Targets(expires=expires)
        self.snapshot = Snapshot(expires=expires)
        self.timestamp = Timestamp(expires=expires)
        self.roots: list[bytes] = []
        self.asked: list[str] = []
        self.with_hashes = False
        self._signed_at_ms = self.clock.unix_ms()
        self.snapshots: dict[int, bytes] = {}
        self.publish_root()
        self.update_snapshot(is_first=True)

    def publish_root(self, *signers: CryptoSigner) -> None:
        """Make the next version of the root, signed by its signers or by these."""
        self.root.version += 1
        self.roots.append(self._sign(self.root, "root", list(signers)))

    def update_timestamp(self, *, is_first: bool = False) -> None:
        """Have the timestamp name the snapshot, in a new version."""
        if not is_first:
            self.timestamp.version += 1
        self.stamp()

    def stamp(self) -> None:
        """Have the timestamp name the snapshot, in the same version."""
        self._signed_at_ms += 1
        content = self._sign(self.snapshot, "snapshot")
        self.snapshots[self.snapshot.version] = content
        version = self.snapshot.version
        self.timestamp.snapshot_meta = self._meta(version, content)
        self.timestamp.unrecognized_fields[SIGNED_AT] = self._signed_at_ms

    def update_snapshot(self, *, is_first: bool = False) -> None:
        """Have the snapshot name the lists, and the timestamp it, in new versions."""
        if not is_first:
            self.snapshot.version += 1
        self.snapshot.meta = {
            f"{role}.json": self._meta(signed.version, self._sign(signed, role))
            for role, signed in (("targets", self.targets), (TENANT, self.tenant))
        }
        self.update_timestamp(is_first=is_first)

    def rotate(self, role: str) -> None:
        """Give a role a new key, in the root to come."""
        for signer in self.signers[role]:
            self.root.revoke_key(signer.public_key.keyid, role)
        self.signers[role] = []
        self.add_key(role)

    def add_key(self, role: str) -> None:
        """Give a role one more key, in the root to come."""
        signer = CryptoSigner.generate_ed25519()
        self.signers[role].append(signer)
        self.root.add_key(signer.public_key, role)

    def fetch(self, name: str) -> bytes | None:
        """Give a file as it is now."""
        self.asked.append(name)
        number, _, role = name.removesuffix(".json").rpartition(".")
        if role == "root":
            return dict(enumerate(self.roots, 1)).get(int(number))
        if role == "timestamp":
            return self._sign(self.timestamp, role)
        if role == "snapshot":
            return self.snapshots.get(int(number))
        signed = self.targets if role == "targets" else self.tenant
        return self._sign(signed, role)

    def device(self, folder: Path) -> DeviceTrust:
        """A device that has pinned the first root."""
        root = self.roots[0]
        DeviceTrust.pin(folder, root, hashlib.sha256(root).hexdigest())
        return DeviceTrust(folder, tenant=TENANT, fetch=self.fetch, clock=self.clock)

    def _meta(self, version: int, content: bytes) -> MetaFile:
        if self.with_hashes:
            return MetaFile.from_data(version, content, ["sha256"])
        return MetaFile(version)

    def _sign(
        self, signed: Any, role: str, signers: list[CryptoSigner] | None = None
    ) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        for signer in signers or self.signers[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()


def versions(device: DeviceTrust) -> dict[str, int]:
    """Which version of each role a device trusts."""
    found = {"root": max(device._roots)}
    for name, content in device._files.items():
        metadata: Metadata[Any] = Metadata.from_bytes(content)
        found[name.removesuffix(".json")] = metadata.signed.version
    return found

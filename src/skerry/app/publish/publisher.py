"""The publisher: who holds the keys that devices trust, and signs releases.

A publisher is a folder: `keys/` with the private keys of the root, of the targets and
of the tenant's role, and `metadata/` with all that was ever signed. What has been
released stands in the signed list itself, so there is no second record to disagree
with it. The folder belongs on the publisher's machine; a hub never sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.core import durable
from skerry.core.chunks import SMALLEST_CHUNKED_BYTES, Chunks, write_chunks
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import DataError, StateError, UsageError
from skerry.core.fleet import DEFAULT_TENANT
from skerry.core.release import (
    Blob,
    Manifest,
    ReleaseId,
    blob_path,
    chunks_path,
    delta_path,
    is_sha256,
    manifest_path,
    read_manifest,
    write_manifest,
)
from skerry.evolve.delta import diff
from skerry.evolve.trust import (
    Listing,
    check_tenant,
    is_root_due,
    make_key,
    public_key,
    read_listing,
    renew_root,
    sign_root,
    sign_targets,
    sign_tenant,
    split_name,
)

WORTHWHILE_DELTA = 0.9
"""A delta is published if it is smaller than this fraction of the whole blob."""

_ROLES = ("root", "targets", "tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A release, signed and packed: all that a hub must be given.

    Attributes:
        manifest: What the release is made of.
        manifest_sha256: The hash of the manifest's bytes, which are among the blobs.
        blobs: Bytes by their SHA-256: manifest, models, the other parts, deltas, the
            chunk lists of what is large.
        metadata: The publisher's newest TUF files by name; those that the hub has
            already do no harm.
        delta_bytes: Size of the delta from each old model that has a worthwhile one,
            by the old model's SHA-256 (the smallest, where there are several models).
    """

    manifest: Manifest
    manifest_sha256: str
    blobs: Mapping[str, bytes]
    metadata: Mapping[str, bytes]
    delta_bytes: Mapping[str, int]


class Publisher:
    """Signs releases with the keys in a folder; see `create` and `open`.

    Args:
        folder: A publisher's folder.
        clock: When it is.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        self._files = self._read_files()
        self._tenant = self._read_tenant()

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        tenant: str = DEFAULT_TENANT,
        hub_key: bytes,
        clock: Clock | None = None,
    ) -> Publisher:
        """Make a publisher: new keys, and the first root, targets and empty list.

        Args:
            folder: Where; made if it is not there.
            tenant: Whose devices it publishes for.
            hub_key: The hub's public key (PEM): the one key that the root allows to
                say what is current.
            clock: When it is.

        Raises:
            UsageError: There is a publisher already, the tenant's name cannot be one,
                or the hub's key is none.
            StorageError: The disk refused.
        """
        if (folder / "metadata" / "1.root.json").exists():
            raise UsageError(
                f"{folder} is a publisher already",
                hint="Open it, or choose another folder.",
            )
        check_tenant(tenant)
        keys = {role: make_key() for role in _ROLES}
        now_ms = (clock or SystemClock()).unix_ms()
        root = sign_root(
            root_key=keys["root"],
            targets_key=public_key(keys["targets"]),
            online_key=hub_key,
            now_ms=now_ms,
        )
        tenants = {tenant: public_key(keys["tenant"])}
        files = {
            f"1.{tenant}.json": sign_tenant(
                key=keys["tenant"], blobs={}, now_ms=now_ms
            ),
            "1.targets.json": sign_targets(
                key=keys["targets"], tenants=tenants, now_ms=now_ms
            ),
            # Last: a root in place says that the rest is.
            "1.root.json": root,
        }
        _make_private_folder(folder / "keys")
        pems = {f"{role}.pem": key for role, key in keys.items()}
        durable.write_files(folder / "keys", pems, disk=durable.PRIVATE_DISK)
        durable.make_folder(folder / "metadata")
        durable.write_files(folder / "metadata", files)
        return cls(folder, clock=clock)

    @classmethod
    def open(cls, folder: Path, *, clock: Clock | None = None) -> Publisher:
        """Open a publisher that `create` has made.

        Raises:
            StateError: There is none in this folder, or it cannot be read.
            TrustError: Its metadata is damaged.
        """
        return cls(folder, clock=clock)

    @property
    def tenant(self) -> str:
        """Whose devices it publishes for."""
        return self._tenant

    @property
    def root(self) -> bytes:
        """The newest root, which hub and devices begin with."""
        return self._newest("root")[1]

    @property
    def releases(self) -> tuple[ReleaseId, ...]:
        """What has been signed, in order of name and version."""
        prefix = f"{self._tenant}/releases/"
        listed = self._listing(self._tenant).blobs
        paths = [
            path.removeprefix(prefix) for path in listed if path.startswith(prefix)
        ]
        return tuple(sorted(ReleaseId.parse(path[: -len(".json")]) for path in paths))

    def metadata(self) -> dict[str, bytes]:
        """What a hub must know to begin with: each root, the newest of the rest.

        Raises:
            StateError: A key cannot be read.
            StorageError: The disk refused.
        """
        self._renew()
        newest = {
            f"{self._newest(role)[0]}.{role}.json" for role in ("targets", self._tenant)
        }
        return {
            name: content
            for name, content in sorted(self._files.items())
            if name in newest or name.endswith(".root.json")
        }

    def release(
        self,
        manifest: Manifest,
        blobs: Mapping[str, bytes],
        *,
        deltas_from: Mapping[str, bytes] | None = None,
    ) -> Bundle:
        """Sign a release.

        Doing it again with the same manifest and blobs gives the same release: a
        publication that did not reach the hub can be repeated.

        Args:
            manifest: What it is made of.
            blobs: Its parts by SHA-256; parts that were released before may be left
                out.
            deltas_from: Old models by SHA-256, of devices that will update; a delta is
                published only if it is worthwhile.

        Raises:
            UsageError: The version is not above the last one of that name, or a part
                is missing.
            DataError: Bytes have another hash, or the manifest makes no sense.
            StateError: A key cannot be read.
            StorageError: The disk refused.
        """
        content = write_manifest(manifest)
        read_manifest(content)
        sha256 = hashlib.sha256(content).hexdigest()
        listed = self._listing(self._tenant).blobs
        self._check_version(manifest, sha256, listed)
        for old_or_new in (blobs, deltas_from or {}):
            _check_hashes(old_or_new)
        self._check_parts(manifest, blobs, listed)
        deltas = _pack_deltas(manifest, blobs, deltas_from or {})
        added = {manifest_path(manifest.id, tenant=self._tenant): Blob.of(content)}
        for part_sha256, part in blobs.items():
            added[blob_path(part_sha256, tenant=self._tenant)] = Blob.of(part)
        for (old, new), delta in deltas.items():
            added[delta_path(old, new, tenant=self._tenant)] = Blob.of(delta)
        lists = _list_chunks([*blobs.values(), *deltas.values()])
        for of_sha256, listed_chunks in lists.items():
            path = chunks_path(of_sha256, tenant=self._tenant)
            added[path] = Blob.of(listed_chunks)
        self._sign_tenant({**listed, **added})
        smallest: dict[str, int] = {}
        for (old, _), delta in deltas.items():
            smallest[old] = min(len(delta), smallest.get(old, len(delta)))
        packed = [content, *blobs.values(), *deltas.values(), *lists.values()]
        return Bundle(
            manifest=manifest,
            manifest_sha256=sha256,
            blobs={hashlib.sha256(part).hexdigest(): part for part in packed},
            metadata=self.metadata(),
            delta_bytes=smallest,
        )

    def _check_version(
        self, manifest: Manifest, sha256: str, listed: Mapping[str, Blob]
    ) -> None:
        path = manifest_path(manifest.id, tenant=self._tenant)
        if path in listed and listed[path].sha256 == sha256:
            return
        versions = [of.version for of in self.releases if of.name == manifest.name]
        newest = max(versions, default=0)
        if manifest.version <= newest:
            raise UsageError(
                f"{manifest.id} cannot be released: {manifest.name} is at version "
                f"{newest} already",
                hint=f"Use version {newest + 1}: devices never go back.",
            )

    def _check_parts(
        self,
        manifest: Manifest,
        blobs: Mapping[str, bytes],
        listed: Mapping[str, Blob],
    ) -> None:
        given = {sha256: len(content) for sha256, content in blobs.items()}
        for model in manifest.models:
            for role, part in manifest.blobs(model.target).items():
                path = blob_path(part.sha256, tenant=self._tenant)
                before = listed[path].size_bytes if path in listed else None
                size_bytes = given.get(part.sha256, before)
                if size_bytes != part.size_bytes:
                    got = "nothing" if size_bytes is None else f"{size_bytes} bytes"
                    raise UsageError(
                        f"the {role} of {manifest.id} has {part.size_bytes} bytes, "
                        f"{got} was given",
                        hint="Give all that make_release made.",
                    )

    def _sign_tenant(self, blobs: Mapping[str, Blob]) -> None:
        listing = self._listing(self._tenant)
        if dict(listing.blobs) == dict(blobs) and not listing.is_due:
            return
        version = listing.version + 1
        content = sign_tenant(
            key=self._key("tenant"),
            blobs=blobs,
            now_ms=self._clock.unix_ms(),
            version=version,
        )
        self._write({f"{version}.{self._tenant}.json": content})

    def _renew(self) -> None:
        """Sign anew, with the same content, what has lived half of its life."""
        now_ms = self._clock.unix_ms()
        version, root = self._newest("root")
        if is_root_due(root, now_ms=now_ms):
            content = renew_root(root, key=self._key("root"), now_ms=now_ms)
            self._write({f"{version + 1}.root.json": content})
        targets = self._listing("targets")
        if targets.is_due:
            content = sign_targets(
                key=self._key("targets"),
                tenants={self._tenant: public_key(self._key("tenant"))},
                now_ms=now_ms,
                version=targets.version + 1,
            )
            self._write({f"{targets.version + 1}.targets.json": content})
        self._sign_tenant(self._listing(self._tenant).blobs)

    def _listing(self, role: str) -> Listing:
        content = self._newest(role)[1]
        now_ms = self._clock.unix_ms()
        return read_listing(content, now_ms=now_ms, name=f"the publisher's {role}")

    def _newest(self, role: str) -> tuple[int, bytes]:
        found = [
            (split[1], content)
            for name, content in self._files.items()
            if (split := split_name(name)) and split[0] == role
        ]
        if not found:
            raise StateError(
                f"the publisher in {self._folder} has no {role} metadata",
                hint="Restore the folder from a backup.",
            )
        return max(found)

    def _read_tenant(self) -> str:
        tenants = self._listing("targets").tenants
        if len(tenants) != 1:
            raise StateError(
                f"the publisher in {self._folder} has {len(tenants)} tenants, not 1",
                hint="Restore the folder from a backup.",
            )
        return tenants[0]

    def _read_files(self) -> dict[str, bytes]:
        folder = self._folder / "metadata"
        try:
            return {
                path.name: path.read_bytes()
                for path in folder.iterdir()
                if split_name(path.name)
            }
        except OSError as error:
            raise StateError(
                f"there is no publisher in {self._folder}: {error.strerror or error}",
                hint="Create one, or check the path.",
            ) from error

    def _write(self, files: Mapping[str, bytes]) -> None:
        durable.write_files(self._folder / "metadata", files)
        self._files.update(files)

    def _key(self, role: str) -> bytes:
        path = self._folder / "keys" / f"{role}.pem"
        try:
            return path.read_bytes()
        except OSError as error:
            raise StateError(
                f"the key {path} cannot be read: {error.strerror or error}",
                hint="Restore it from a backup: without it nothing can be signed.",
            ) from error


def _make_private_folder(folder: Path) -> None:
    durable.make_folder(folder)
    with durable.storage_errors(folder):
        folder.chmod(0o700)


def _check_hashes(blobs: Mapping[str, bytes]) -> None:
    for sha256, content in blobs.items():
        got = hashlib.sha256(content).hexdigest()
        if got != sha256 or not is_sha256(sha256) or not content:
            raise DataError(
                f"a blob of {len(content)} bytes is called {sha256[:80]}, its hash is "
                f"{got}",
                hint="Name each blob by the SHA-256 of its bytes.",
            )


def _list_chunks(contents: Sequence[bytes]) -> dict[str, bytes]:
    """The chunk list of each content that is worth one, by the content's SHA-256."""
    return {
        hashlib.sha256(content).hexdigest(): write_chunks(Chunks.cut(content))
        for content in contents
        if len(content) >= SMALLEST_CHUNKED_BYTES
    }


def _pack_deltas(
    manifest: Manifest, blobs: Mapping[str, bytes], deltas_from: Mapping[str, bytes]
) -> dict[tuple[str, str], bytes]:
    """Worthwhile deltas by the hashes of the old and the new model."""
    deltas = {}
    models = {model.blob.sha256 for model in manifest.models} & set(blobs)
    for old_sha256, old in deltas_from.items():
        for new_sha256 in sorted(models - {old_sha256}):
            delta = diff(old, blobs[new_sha256])
            if len(delta) < WORTHWHILE_DELTA * len(blobs[new_sha256]):
                deltas[old_sha256, new_sha256] = delta
    return deltas

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

from skerry.app.publish.folder import PublisherFolder
from skerry.app.publish.roles import Roles
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
    draft_list,
    make_key,
    public_key,
    read_listing,
    sign_root,
    sign_targets,
    sign_tenant,
)
from skerry.evolve.ways import WORTHWHILE

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
        lacking: How many people must sign the list of releases yet.
    """

    manifest: Manifest
    manifest_sha256: str
    blobs: Mapping[str, bytes]
    metadata: Mapping[str, bytes]
    delta_bytes: Mapping[str, int]
    lacking: int = 0


class Publisher:
    """Signs releases with the keys in a folder; see `create` and `open`.

    Args:
        folder: A publisher's folder.
        clock: When it is.
        keys: Private keys (PEM) that lie elsewhere, such as on a stick.

    Attributes:
        roles: Who may sign what; after a change, call `settle`.
    """

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, keys: Sequence[bytes] = ()
    ) -> None:
        self._clock = clock or SystemClock()
        self._tenant = _read_tenant(folder, now_ms=self._clock.unix_ms())
        self._folder = PublisherFolder(folder, self._tenant, keys=keys)
        self.roles = Roles(self._folder, self._tenant, clock=self._clock)

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        tenant: str = DEFAULT_TENANT,
        hub_key: bytes,
        clock: Clock | None = None,
        heir_of: Path | None = None,
    ) -> Publisher:
        """Make a publisher: new keys, and the first root, targets and empty list.

        Args:
            folder: Where; made if it is not there.
            tenant: Whose devices it publishes for.
            hub_key: The hub's public key (PEM): the one key that the root allows to
                say what is current.
            clock: When it is.
            heir_of: The folder of a publisher whose keys are lost: what it released is
                signed anew.

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
        inherited = _read_list(heir_of, tenant, now_ms=now_ms) if heir_of else {}
        files = {
            f"1.{tenant}.json": sign_tenant(
                key=keys["tenant"], blobs=inherited, now_ms=now_ms
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
    def open(
        cls, folder: Path, *, clock: Clock | None = None, keys: Sequence[bytes] = ()
    ) -> Publisher:
        """Open a publisher that `create` has made.

        Args:
            folder: Its folder.
            clock: When it is.
            keys: Private keys (PEM) that lie elsewhere, such as on a stick.

        Raises:
            StateError: There is none in this folder, or it cannot be read.
            TrustError: Its metadata is damaged.
        """
        return cls(folder, clock=clock, keys=keys)

    @property
    def tenant(self) -> str:
        """Whose devices it publishes for."""
        return self._tenant

    @property
    def root(self) -> bytes:
        """The newest root, which hub and devices begin with."""
        return self._folder.newest("root")

    @property
    def releases(self) -> tuple[ReleaseId, ...]:
        """What has been signed, or waits for it, in order of name and version."""
        return tuple(sorted(self._manifests(self._folder.planned(self._tenant))))

    @property
    def manifests(self) -> dict[ReleaseId, str]:
        """The hashes of the manifests that enough have signed."""
        return self._manifests(self._folder.newest(self._tenant))

    def settle(self) -> tuple[str, ...]:
        """Sign what waits with the keys at hand; put in place what has enough.

        Returns:
            The names of the files that were put in place.

        Raises:
            StorageError: The disk refused.
        """
        return self._folder.settle()

    def take_back(self, name: str, content: bytes) -> None:
        """Take in the signatures of a copy of a draft; see `PublisherFolder`."""
        self._folder.take_back(name, content)

    def metadata(self) -> dict[str, bytes]:
        """What a hub must know to begin with: each root, the newest of the rest.

        What has lived half of its life is signed anew first, as far as the keys at hand
        suffice.

        Raises:
            StateError: A key cannot be read.
            StorageError: The disk refused.
        """
        self.roles.renew()
        self._folder.settle()
        files = self._folder.files
        newest = {
            f"{self._folder.version(role)}.{role}.json"
            for role in ("targets", self._tenant)
        }
        return {
            name: content
            for name, content in sorted(files.items())
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
        listed = self._planned()
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
            lacking=self._folder.lacking(self._tenant),
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
        if self._planned() == dict(blobs):
            return
        newest = self._folder.newest(self._tenant)
        draft = draft_list(newest, blobs=blobs, now_ms=self._clock.unix_ms())
        self._folder.plan(self._tenant, draft)
        self._folder.settle()

    def _planned(self) -> dict[str, Blob]:
        """What the tenant's list names, or will once enough have signed it."""
        return dict(self._listing(self._folder.planned(self._tenant)).blobs)

    def _listing(self, content: bytes) -> Listing:
        now_ms = self._clock.unix_ms()
        return read_listing(content, now_ms=now_ms, name="the publisher's list")

    def _manifests(self, content: bytes) -> dict[ReleaseId, str]:
        prefix = f"{self._tenant}/releases/"
        return {
            ReleaseId.parse(path.removeprefix(prefix)[: -len(".json")]): blob.sha256
            for path, blob in self._listing(content).blobs.items()
            if path.startswith(prefix)
        }


def _read_tenant(folder: Path, *, now_ms: int) -> str:
    targets = PublisherFolder(folder, "").newest("targets")
    listing = read_listing(targets, now_ms=now_ms, name="the publisher's targets")
    if len(listing.tenants) != 1:
        raise StateError(
            f"the publisher in {folder} has {len(listing.tenants)} tenants, not 1",
            hint="Restore the folder from a backup.",
        )
    return listing.tenants[0]


def _read_list(folder: Path, tenant: str, *, now_ms: int) -> Mapping[str, Blob]:
    content = PublisherFolder(folder, tenant).newest(tenant)
    return read_listing(content, now_ms=now_ms, name="the old publisher's list").blobs


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
            if len(delta) < WORTHWHILE * len(blobs[new_sha256]):
                deltas[old_sha256, new_sha256] = delta
    return deltas

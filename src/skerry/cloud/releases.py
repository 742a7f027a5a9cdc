"""What was published: manifests in the database, signed metadata in a folder.

A publication is taken whole or not at all: its signatures hold under the root that the
hub trusts, its blobs are all here, its manifests can be read and are newer than those
before. Then the repository's files are put in place, the timestamp last, so that a
device sees the old state or the new one. The hub signs snapshot and timestamp with an
online key of its own, which can make no device run anything new.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, insert, select

from skerry.cloud import tables
from skerry.cloud.audit import write_audit
from skerry.cloud.blobs import Blobs
from skerry.cloud.database import Database
from skerry.core.clock import Clock
from skerry.core.documents import LARGEST_DOCUMENT_BYTES, Json
from skerry.core.durable import (
    PRIVATE_DISK,
    make_folder,
    storage_errors,
    write_file,
    write_files,
)
from skerry.core.errors import (
    ConflictError,
    DataError,
    SkerryError,
    TrustError,
    UsageError,
)
from skerry.core.fleet import Shadow
from skerry.core.names import did_you_mean
from skerry.core.release import (
    Blob,
    Manifest,
    ReleaseId,
    blob_path,
    manifest_path,
    read_manifest,
)
from skerry.evolve.trust import (
    Instructions,
    Repository,
    Standing,
    make_key,
    public_key,
    read_listing,
    read_standing,
    sign_instructions,
    split_name,
)

log = logging.getLogger(__name__)

TRUST_FOLDER = "trust"
KEY_FILE = "online-key.pem"
NEXT_KEY_FILE = "online-key.next.pem"
"""The key that takes over once a root names it."""

CHECK_S = 60.0
"""How often the hub looks whether it must sign anew."""

MOST_MANIFESTS = 64
"""Most manifests of one publication."""


PublishListener = Callable[[Sequence[Manifest]], Awaitable[None]]


class Releases:
    """The releases of a tenant and the repository that proves them.

    Args:
        database: Where the manifests are.
        blobs: Where their blobs are.
        folder: The hub's folder; metadata and the online key lie in it.
        tenant: Whose releases.
        clock: Says what has expired, and waits.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        folder: Path,
        *,
        tenant: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._folder = folder
        self._tenant = tenant
        self._clock = clock
        self._repository = Repository()
        self._files: Mapping[str, bytes] = {}
        self._key = b""
        self._next_key: bytes | None = None
        self._instructed_ms = 0
        self._new_key_listeners: list[Callable[[], Awaitable[None]]] = []
        self._publish_listeners: list[PublishListener] = []
        self._listed: tuple[Mapping[str, bytes], Mapping[str, Blob]] = ({}, {})
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Read what is there; at the first start make the online key.

        Raises:
            StorageError: The disk refused.
            UsageError: The file of the key holds none.
            TrustError: The metadata on the disk is damaged.
        """
        self._key, self._next_key, files = await asyncio.to_thread(self._load)
        try:
            public_key(self._key)
        except UsageError as error:
            raise UsageError(
                f"{self._folder / KEY_FILE} holds no key",
                hint="Restore it from a backup: devices trust what is signed with it.",
            ) from error
        self._repository = Repository(files)
        try:
            self._repository.check()
        except TrustError as error:
            raise TrustError(
                f"{self._folder / TRUST_FOLDER}: {error.what}",
                hint="Restore that folder from a backup: gateways serve on meanwhile.",
                reason=error.reason,
            ) from error
        self._files = self._repository.files()
        # An end in the middle of a change of keys left the old one in place.
        await self._change_key(self._repository)
        await self._sign_if_due()

    async def run(self) -> None:
        """Sign anew for ever, each time half of a timestamp's life is over."""
        while True:
            await self._clock.sleep(CHECK_S)
            try:
                await self._sign_if_due()
            except SkerryError as error:
                log.exception("trust.not_signed", extra={"what": error.what})

    @property
    def online_key(self) -> bytes:
        """The public half of the hub's key, PEM; the root must name it."""
        return public_key(self._key)

    def site_secret(self) -> bytes:
        """What the keys of sites are made of; it tells nothing of the online key."""
        return hmac.new(self._key, b"skerry.sites/1", hashlib.sha256).digest()

    async def next_online_key(self) -> bytes:
        """The public half of the hub's next key, PEM; made where there is none.

        The hub goes on signing with its key until a root names the next one.

        Raises:
            StorageError: The disk refused.
        """
        async with self._lock:
            if self._next_key is None:
                key = make_key()
                path = self._folder / NEXT_KEY_FILE
                await asyncio.to_thread(write_file, path, key, disk=PRIVATE_DISK)
                self._next_key = key
            return public_key(self._next_key)

    def on_publish(self, listener: PublishListener) -> None:
        """Have a function called after releases have been published."""
        self._publish_listeners.append(listener)

    @property
    def listed(self) -> Mapping[str, Blob]:
        """What the tenant's list names, by path; the same object until it changes."""
        files, listed = self._listed
        if files is not self._files:
            listed = _listed(self._files, self._tenant, self._clock.unix_ms())
            self._listed = (self._files, listed)
        return listed

    def on_new_key(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Have a function called after the hub has changed its online key."""
        self._new_key_listeners.append(listener)

    def instruct(self, shadow: Shadow) -> Json:
        """Sign what a device should be; None before there is a root to verify it by."""
        if self._repository.root is None:
            return None
        # In the order of time even where the clock goes back: devices judge by it.
        floor_ms = max(self._instructed_ms, self._repository.signed_at_ms)
        self._instructed_ms = max(self._clock.unix_ms(), floor_ms)
        instructions = Instructions(
            tenant=shadow.tenant,
            device=shadow.device,
            version=shadow.version,
            desired=shadow.desired,
            at_ms=self._instructed_ms,
        )
        return sign_instructions(instructions, hub_key=self._key)

    def standings(self) -> tuple[Standing, ...]:
        """What each role's newest file says of itself, by name of the role."""
        now_ms = self._clock.unix_ms()
        newest = self._repository.newest()
        return tuple(
            read_standing(newest[role], role=role, now_ms=now_ms)
            for role in sorted(newest)
        )

    @property
    def root(self) -> bytes:
        """The newest root, which new devices pin.

        Raises:
            UsageError: Nothing was published yet.
        """
        root = self._repository.root
        if root is None:
            raise UsageError(
                "this hub trusts no root yet",
                hint="Publish the first release, or the root alone, before devices.",
            )
        return root

    @property
    def root_sha256(self) -> str:
        """The hash of the newest root.

        Raises:
            UsageError: Nothing was published yet.
        """
        return hashlib.sha256(self.root).hexdigest()

    def root_of(self, sha256: str) -> bytes:
        """The root of this hash, or the newest if there is none of it.

        An enrolment token names the root of its day; that may have been replaced.
        """
        for name, content in self._files.items():
            is_root = (split_name(name) or ("", 0))[0] == "root"
            if is_root and hashlib.sha256(content).hexdigest() == sha256:
                return content
        return self.root

    def file(self, name: str) -> bytes | None:
        """A file of the repository, as a device asks for it, or None."""
        return self._files.get(name)

    async def replace(self, metadata: Mapping[str, bytes], *, who: str = "hub") -> None:
        """Forget a publisher whose keys are lost, and trust another one's root.

        Devices go on believing the old one alone until each is enrolled anew.

        Args:
            metadata: What the new publisher signed, by name.
            who: For the audit log.

        Raises:
            TrustError: Something is not signed by whom it must be, old, or damaged.
            StorageError: The disk refused.
        """
        async with self._lock:
            now_ms = self._clock.unix_ms()
            # The time of signing goes on: devices keep their time floors.
            timestamp = self._files.get("timestamp.json")
            staged = Repository({"timestamp.json": timestamp} if timestamp else {})
            _stage(staged, metadata, now_ms)
            staged.sign_online(
                _named_key(staged, (self._key, self._next_key)), now_ms=now_ms
            )
            await self._put_in_place(staged)
            await self._change_key(staged)
            root = {"root": self.root_sha256}
            await self._database.run(
                lambda connection: write_audit(
                    connection,
                    at_ms=now_ms,
                    who=who,
                    what="trust.replaced",
                    document=root,
                )
            )
        log.warning("trust.replaced", extra=root)

    async def trust(self, metadata: Mapping[str, bytes], *, who: str = "hub") -> None:
        """Take metadata alone: the first root, a new key, a tenant's first list.

        Args:
            metadata: Files of the repository by name.
            who: For the audit log.

        Raises:
            TrustError: Something is not signed by whom it must be, old, or damaged.
            StorageError: The disk refused.
        """
        await self.publish(metadata, (), who=who)

    async def publish(
        self,
        metadata: Mapping[str, bytes],
        manifests: Sequence[str],
        *,
        who: str = "hub",
    ) -> tuple[Manifest, ...]:
        """Take releases, all of them or none; the same once more is no fault.

        Args:
            metadata: New files of the repository by name.
            manifests: The manifests' hashes; they and their blobs are here already.
            who: For the audit log.

        Returns:
            The manifests.

        Raises:
            TrustError: Something is not signed by whom it must be, old, or damaged.
            DataError: A blob is missing or a manifest damaged.
            NewerSchemaError: A manifest is of a schema that only a newer hub reads.
            ConflictError: There is a release of that name and version, or a later one.
            StorageError: The disk refused.
        """
        if len(manifests) > MOST_MANIFESTS:
            raise DataError(
                f"{len(manifests)} manifests, at most {MOST_MANIFESTS} expected",
                hint="Publish in several steps.",
            )
        async with self._lock:
            now_ms = self._clock.unix_ms()
            staged = Repository(self._files)
            _stage(staged, metadata, now_ms)
            listed = _listed(staged.files(), self._tenant, now_ms)
            read = [await self._read(sha256, listed) for sha256 in manifests]
            await self._database.run(
                lambda connection: self._check_versions(connection, read)
            )
            key = _named_key(staged, (self._key, self._next_key))
            if _has_targets(staged):
                staged.sign_online(key, now_ms=now_ms)
            await self._put_in_place(staged)
            await self._change_key(staged)
            await self._database.run(
                lambda connection: self._insert(connection, read, who, now_ms)
            )
        log.info("release.published", extra={"releases": [str(m.id) for m, _ in read]})
        published = tuple(manifest for manifest, _ in read)
        for listener in self._publish_listeners:
            try:
                await listener(published)
            except Exception:  # It is published: the fault of one changes nothing.
                log.exception("release.listener_failed")
        return published

    async def list(self) -> tuple[Manifest, ...]:
        """All releases, the last published first."""
        table = tables.releases
        wanted = (
            select(table.c.document)
            .where(table.c.tenant == self._tenant)
            .order_by(table.c.created_at_ms.desc(), table.c.version.desc())
        )
        documents = await self._database.run(
            lambda connection: list(connection.execute(wanted).scalars())
        )
        return tuple(read_manifest(document.encode()) for document in documents)

    async def get(self, release: ReleaseId) -> Manifest:
        """One release.

        Raises:
            UsageError: There is no such release.
        """
        found = await self._database.run(
            lambda connection: _row_of(connection, self._tenant, release)
        )
        if found is None:
            known = [str(manifest.id) for manifest in await self.list()]
            raise UsageError(
                f"there is no release {release}",
                hint=did_you_mean(str(release), known),
            )
        return read_manifest(found[1].encode(), name=str(release))

    async def _change_key(self, repository: Repository) -> None:
        """Let the next key take over, if the root names it and no more this one."""
        key = _named_key(repository, (self._key, self._next_key))
        if key == self._key:
            return
        await asyncio.to_thread(self._write_key, key)
        self._key, self._next_key = key, None
        log.info("trust.key_changed")
        for listener in self._new_key_listeners:
            await listener()

    def _write_key(self, key: bytes) -> None:
        write_file(self._folder / KEY_FILE, key, disk=PRIVATE_DISK)
        with storage_errors(self._folder):
            (self._folder / NEXT_KEY_FILE).unlink(missing_ok=True)

    def _load(self) -> tuple[bytes, bytes | None, dict[str, bytes]]:
        folder, key_file = self._folder / TRUST_FOLDER, self._folder / KEY_FILE
        next_file = self._folder / NEXT_KEY_FILE
        make_folder(folder)
        with storage_errors(folder):
            if not key_file.exists():
                write_file(key_file, make_key(), disk=PRIVATE_DISK)
            next_key = next_file.read_bytes() if next_file.exists() else None
            files = {
                path.name: path.read_bytes()
                for path in folder.iterdir()
                if path.suffix == ".json" and not path.name.startswith(".")
            }
            return key_file.read_bytes(), next_key, files

    async def _sign_if_due(self) -> None:
        async with self._lock:
            now_ms = self._clock.unix_ms()
            if self._repository.is_due(now_ms):
                staged = Repository(self._files)
                staged.sign_online(self._key, now_ms=now_ms)
                await self._put_in_place(staged)
                log.info("trust.signed")

    async def _put_in_place(self, staged: Repository) -> None:
        files = staged.files()
        new = {
            name: content
            for name, content in files.items()
            if self._files.get(name) != content
        }
        gone = set(self._files) - set(files)
        await asyncio.to_thread(_write, self._folder / TRUST_FOLDER, new, gone)
        self._repository, self._files = staged, files

    async def _read(
        self, sha256: str, listed: Mapping[str, Blob]
    ) -> tuple[Manifest, bytes]:
        size_bytes = await self._blobs.stat(sha256)
        if size_bytes is None or size_bytes > LARGEST_DOCUMENT_BYTES:
            raise DataError(
                f"the manifest {sha256[:12]}… has {size_bytes} bytes here, 1 to "
                f"{LARGEST_DOCUMENT_BYTES} expected",
                hint="Upload it first, then publish.",
            )
        content = b"".join([piece async for piece in self._blobs.open(sha256)])
        manifest = read_manifest(content)
        signed = listed.get(manifest_path(manifest.id, tenant=self._tenant))
        if signed is None or signed.sha256 != sha256:
            raise DataError(
                f"the signed list of {self._tenant} does not name the manifest of "
                f"{manifest.id}",
                hint="Sign a list with it, and publish both.",
            )
        await self._check_blobs(manifest, listed)
        return manifest, content

    async def _check_blobs(
        self, manifest: Manifest, listed: Mapping[str, Blob]
    ) -> None:
        # Of this release alone. The list may name blobs that a publication which was
        # cut off never brought: nobody fetches those, and they must not bar the next.
        targets = {model.target for model in manifest.models}
        for target in targets:
            for role, blob in manifest.blobs(target).items():
                if listed.get(blob_path(blob.sha256, tenant=self._tenant)) != blob:
                    raise DataError(
                        f"the signed list of {self._tenant} does not name the {role} "
                        f"of {manifest.id}",
                        hint="Sign a list with all blobs of the release.",
                    )
                size_bytes = await self._blobs.stat(blob.sha256)
                if size_bytes != blob.size_bytes:
                    got = (
                        "is not here"
                        if size_bytes is None
                        else f"has {size_bytes} bytes"
                    )
                    raise DataError(
                        f"the {role} of {manifest.id}: blob {blob.sha256[:12]}… {got}, "
                        f"{blob.size_bytes} bytes expected",
                        hint="Upload it first, then publish.",
                    )

    def _check_versions(
        self, connection: Connection, read: Sequence[tuple[Manifest, bytes]]
    ) -> None:
        table = tables.releases
        for manifest, content in read:
            last = connection.execute(
                select(table.c.version)
                .where(table.c.tenant == self._tenant, table.c.name == manifest.name)
                .order_by(table.c.version.desc())
                .limit(1)
            ).scalar()
            same = _row_of(connection, self._tenant, manifest.id)
            if same is not None and same[1] == content.decode():
                continue
            if last is not None and manifest.version <= last:
                raise ConflictError(
                    f"{manifest.id} is published, but {manifest.name}/{last} is here",
                    hint=f"Publish it as version {last + 1}.",
                )

    def _insert(
        self,
        connection: Connection,
        read: Sequence[tuple[Manifest, bytes]],
        who: str,
        now_ms: int,
    ) -> None:
        for manifest, content in read:
            if _row_of(connection, self._tenant, manifest.id) is not None:
                continue
            sha256 = hashlib.sha256(content).hexdigest()
            connection.execute(
                insert(tables.releases).values(
                    tenant=self._tenant,
                    name=manifest.name,
                    version=manifest.version,
                    manifest_sha256=sha256,
                    document=content.decode(),
                    created_at_ms=now_ms,
                )
            )
            write_audit(
                connection,
                at_ms=now_ms,
                who=who,
                what="release.published",
                document={"release": str(manifest.id), "manifest": sha256},
            )


def _stage(staged: Repository, metadata: Mapping[str, bytes], now_ms: int) -> None:
    roots = [
        split[1]
        for name in metadata
        if (split := split_name(name)) and split[0] == "root"
    ]
    if staged.root is None and roots:
        staged.bootstrap(metadata[f"{min(roots)}.root.json"], now_ms=now_ms)
    staged.accept(metadata, now_ms=now_ms)


def _named_key(repository: Repository, keys: Sequence[bytes | None]) -> bytes:
    """The first of the hub's keys that the root names; the very first if none is."""
    here = [key for key in keys if key is not None]
    named = (key for key in here if repository.names_online(public_key(key)))
    return next(named, here[0])


def _has_targets(repository: Repository) -> bool:
    return any(
        (split_name(name) or ("", 0))[0] == "targets" for name in repository.files()
    )


def _listed(files: Mapping[str, bytes], tenant: str, now_ms: int) -> Mapping[str, Blob]:
    versions = [
        split[1] for name in files if (split := split_name(name)) and split[0] == tenant
    ]
    if not versions:
        return {}
    name = f"{max(versions)}.{tenant}.json"
    return read_listing(files[name], now_ms=now_ms, name=name).blobs


def _write(folder: Path, new: Mapping[str, bytes], gone: set[str]) -> None:
    write_files(folder, new)
    with storage_errors(folder):
        for name in gone:
            (folder / name).unlink(missing_ok=True)


def _row_of(
    connection: Connection, tenant: str, release: ReleaseId
) -> tuple[str, str] | None:
    """A release's manifest: its hash and its text."""
    table = tables.releases
    row = connection.execute(
        select(table.c.manifest_sha256, table.c.document).where(
            table.c.tenant == tenant,
            table.c.name == release.name,
            table.c.version == release.version,
        )
    ).first()
    return None if row is None else (row[0], row[1])

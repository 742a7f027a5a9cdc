"""An attacker who owns the hub: its disk, its online key and its restart.

He can write whatever he likes into the hub's folder and start the hub on it. What he
has not got is the publisher's keys; the demo shows what that comes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from skerry.cloud.packed import PACKED_FOLDER
from skerry.core.durable import storage_errors, write_files
from skerry.core.errors import StateError
from skerry.core.fleet import DEFAULT_TENANT
from skerry.core.release import Blob, Manifest, blob_path, manifest_path, write_manifest
from skerry.evolve.trust import (
    Repository,
    make_key,
    read_listing,
    sign_tenant,
    split_name,
)

_TRUST_FOLDER = "trust"
_KEY_FILE = "online-key.pem"


class CapturedHub:
    """The folder of a hub, in the wrong hands; the hub itself is stopped meanwhile.

    Args:
        folder: The hub's folder.
        tenant: Whose devices are to be led astray.
    """

    def __init__(self, folder: Path, *, tenant: str = DEFAULT_TENANT) -> None:
        self._folder = folder
        self._tenant = tenant

    def files(self) -> dict[str, bytes]:
        """The signed metadata as it lies there."""
        return {
            path.name: path.read_bytes()
            for path in (self._folder / _TRUST_FOLDER).glob("*.json")
        }

    def put(self, files: Mapping[str, bytes]) -> None:
        """Put this metadata in the place of all that lies there."""
        folder = self._folder / _TRUST_FOLDER
        gone = set(self.files()) - set(files)
        write_files(folder, files)
        with storage_errors(folder):
            for name in gone:
                (folder / name).unlink(missing_ok=True)

    def forge(self, manifest: Manifest, *, now_ms: int) -> None:
        """Sign a list that names a release with a key that nobody knows.

        Snapshot and timestamp are signed with the hub's own online key, as they would
        be for any list.

        Args:
            manifest: The release that devices are to run.
            now_ms: When, milliseconds since 1970.

        Raises:
            StateError: There is no list to begin from.
        """
        files = self.files()
        versions = [
            split[1]
            for name in files
            if (split := split_name(name)) and split[0] == self._tenant
        ]
        if not versions:
            raise StateError("nothing is published here", hint="Publish first.")
        name = f"{max(versions)}.{self._tenant}.json"
        listed = read_listing(files[name], now_ms=now_ms, name=name)
        content = write_manifest(manifest)
        named = {manifest_path(manifest.id, tenant=self._tenant): Blob.of(content)}
        for model in manifest.models:
            for blob in manifest.blobs(model.target).values():
                named[blob_path(blob.sha256, tenant=self._tenant)] = blob
        forged = sign_tenant(
            key=make_key(),
            blobs={**listed.blobs, **named},
            now_ms=now_ms,
            version=listed.version + 1,
        )
        repository = Repository(
            {**files, f"{listed.version + 1}.{self._tenant}.json": forged}
        )
        repository.sign_online((self._folder / _KEY_FILE).read_bytes(), now_ms=now_ms)
        self.put(repository.files())

    def blob(self, sha256: str) -> Path:
        """Where a blob lies."""
        return self._folder / "blobs" / sha256[:2] / sha256

    def deltas(self, sha256: str) -> list[Path]:
        """Where the deltas lie that the hub has made and that give a blob."""
        made = (self._folder / PACKED_FOLDER).glob(f"*-{sha256}-*")
        return [path for path in made if path.stat().st_size]

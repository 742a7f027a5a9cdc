"""The cases of theupdateframework/tuf-conformance, by their names, on `DeviceTrust`.

Those of `test_updater_key_rotations.py` are in `test_tuf_rotations.py`.

One thing is stricter here: a refresh that fails keeps nothing of it but newer roots,
where the suite lets a client keep the files before the one that failed.

Not reproduced, and why:

- `test_implicit_refresh`: `DeviceTrust.target` never fetches; the agent refreshes.
- `test_graph_traversal`, `test_targetfile_search`: a device asks one delegated role,
  its tenant's, which delegates no further; that another role's paths are not its own is
  `test_targetpath_is_not_delegated_by_all_roles_in_the_chain`.
- `test_unusual_role_name`: roles are named `a-z0-9-`, others are refused.
- `test_static_repo`: other projects' repositories; one of ours is read for ever in
  `test_golden_folder_is_read_for_ever`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Role, TargetFile

from skerry.comms.download import download
from skerry.core.errors import LinkError, SkerryError, TrustError
from skerry.core.release import Blob
from skerry.edge.trust import DeviceTrust
from tests.conforming import TENANT, SpoiltRepository, versions

DAY = timedelta(days=1)
FIRST = {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1, TENANT: 1}


@pytest.fixture
def repo() -> SpoiltRepository:
    """A repository with the first version of everything."""
    return SpoiltRepository()


@pytest.fixture
def client(repo: SpoiltRepository, tmp_path: Path) -> DeviceTrust:
    """A device that has pinned the first root."""
    return repo.device(tmp_path)


def fails(client: DeviceTrust) -> None:
    """A refresh is refused."""
    with pytest.raises((TrustError, LinkError)):
        client.refresh()


# test_basic.py


def test_timestamp_content_changes(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """Another timestamp of the same version is not believed."""
    client.refresh()
    repo.timestamp.snapshot_meta.version = 100
    client.refresh()
    assert versions(client) == FIRST


def test_timestamp_eq_versions_check(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """Nor is it kept."""
    client.refresh()
    kept = client._files["timestamp.json"]
    repo.timestamp.snapshot_meta.version = 100
    client.refresh()
    assert client._files["timestamp.json"] == kept


def test_new_targets_hash_mismatch(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """Targets must be those that the snapshot names."""
    repo.with_hashes = True
    repo.update_snapshot()
    client.refresh()
    repo.targets.version += 1
    repo.snapshot.meta["targets.json"].version = repo.targets.version
    repo.snapshot.version += 1
    repo.update_timestamp()
    fails(client)
    assert versions(client)["snapshot"] == 2
    assert versions(client)["targets"] == 1


def test_new_targets_version_mismatch(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """Targets that no snapshot names are not looked at."""
    client.refresh()
    repo.targets.version += 1
    client.refresh()
    assert versions(client) == FIRST


def test_basic_init_and_refresh(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """Each file is asked for once, in order."""
    client.refresh()
    assert repo.asked == [
        "2.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
        f"1.{TENANT}.json",
    ]
    assert versions(client) == FIRST


def test_invalid_initial_root(repo: SpoiltRepository, tmp_path: Path) -> None:
    """A root without a version is not pinned; nothing is asked for."""
    document = json.loads(repo.roots[0])
    del document["signed"]["version"]
    repo.roots[0] = json.dumps(document).encode()
    with pytest.raises(TrustError):
        repo.device(tmp_path)
    assert repo.asked == []


def test_unsigned_initial_root(repo: SpoiltRepository, tmp_path: Path) -> None:
    """A root that its own key did not sign is not pinned; nothing is asked."""
    repo.root.version = 0
    repo.roots = []
    repo.publish_root(CryptoSigner.generate_ed25519())
    with pytest.raises(TrustError):
        repo.device(tmp_path)
    assert repo.asked == []


def test_custom_fields(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """Fields that nobody knows are signed, and do not matter."""
    client.refresh()
    repo.root.unrecognized_fields["custom-field"] = "value"
    keyid = repo.root.roles["root"].keyids[0]
    repo.root.keys[keyid].unrecognized_fields["extra-field"] = {"a": 1, "b": 2}
    repo.root.roles["root"].unrecognized_fields["another-field"] = "value"
    repo.publish_root()
    client.refresh()
    assert versions(client)["root"] == 2


# test_expiration.py


def test_root_expired(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """An expired root is kept; nothing else is."""
    client.refresh()
    repo.publish_root()
    client.refresh()
    repo.root.expires -= 40 * DAY
    repo.publish_root()
    repo.targets.version += 1
    repo.update_snapshot()
    fails(client)
    assert versions(client) == FIRST | {"root": 3}


@pytest.mark.parametrize("role", ["snapshot", "targets", "tenant", "timestamp"])
def test_role_expired(client: DeviceTrust, repo: SpoiltRepository, role: str) -> None:
    """`test_{snapshot,targets,timestamp}_expired`: nothing of it is kept."""
    client.refresh()
    getattr(repo, role).expires -= 35 * DAY
    repo.targets.version += 1
    repo.tenant.version += 1
    repo.update_snapshot()
    fails(client)
    assert versions(client) == FIRST


def test_expired_metadata(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """What is trusted and has expired still leads to what follows."""
    repo.timestamp.expires = repo.root.expires - 23 * DAY
    repo.stamp()
    client.refresh()
    repo.targets.version += 1
    repo.update_snapshot()
    repo.timestamp.expires = repo.root.expires - 9 * DAY
    repo.update_timestamp()
    repo.clock.advance(wall_s=18 * DAY.total_seconds())
    client.refresh()
    assert versions(client) == FIRST | {"timestamp": 3, "snapshot": 2, "targets": 2}


# test_file_download.py


class Store:
    """A store that gives what it likes."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give a blob, or what stands in its place."""
        yield self.contents[sha256][offset:end]

    async def put(self, sha256: str, content: bytes) -> None:
        """Keep a blob."""
        self.contents[sha256] = content

    async def stat(self, sha256: str) -> int | None:
        """Its size."""
        return len(self.contents[sha256])


def publish_target(
    repo: SpoiltRepository, store: Store, path: str, what: bytes
) -> Blob:
    """List a target, and keep it."""
    blob = Blob.of(what)
    store.contents[blob.sha256] = what
    repo.tenant.targets[path] = TargetFile(len(what), {"sha256": blob.sha256}, path)
    repo.tenant.version += 1
    repo.update_snapshot()
    return blob


def get(client: DeviceTrust, store: Store, path: str, into: Path) -> bytes:
    """Refresh, and download a target.

    Raises:
        SkerryError: It is not to be had.
    """
    client.refresh()
    blob = client.target(path)
    assert blob is not None
    asyncio.run(download(store, blob, into))
    return into.read_bytes()


def test_client_downloads_expected_file(
    client: DeviceTrust, repo: SpoiltRepository, tmp_path: Path
) -> None:
    """The target that is listed comes."""
    store, content = Store(), b"target file contents"
    publish_target(repo, store, "main/blobs/1", content)
    assert get(client, store, "main/blobs/1", tmp_path / "got") == content


def test_client_downloads_expected_file_in_sub_dir(
    client: DeviceTrust, repo: SpoiltRepository, tmp_path: Path
) -> None:
    """So does one in a folder below."""
    store, content = Store(), b"target file contents"
    publish_target(repo, store, "main/releases/meter/1.json", content)
    assert get(client, store, "main/releases/meter/1.json", tmp_path / "got") == content


def test_repository_substitutes_target_file(
    client: DeviceTrust, repo: SpoiltRepository, tmp_path: Path
) -> None:
    """Other bytes in the place of a target's are not kept."""
    store = Store()
    one = publish_target(repo, store, "main/blobs/1", b"target file contents")
    two = publish_target(repo, store, "main/blobs/2", b"content")
    assert get(client, store, "main/blobs/1", tmp_path / "1")
    store.contents[one.sha256] = b"malicious data - should not download"
    store.contents[two.sha256] = b"malicious data - should not download"
    with pytest.raises(TrustError):
        get(client, store, "main/blobs/2", tmp_path / "2")
    assert not (tmp_path / "2").exists()
    assert get(client, store, "main/blobs/1", tmp_path / "1") == b"target file contents"


def test_multiple_changes_to_target(
    client: DeviceTrust, repo: SpoiltRepository, tmp_path: Path
) -> None:
    """Each rightful change comes, no other does."""
    store = Store()
    for turn in range(3):
        content = f"modified file contents {turn}".encode()
        blob = publish_target(repo, store, "main/blobs/1", content)
        assert get(client, store, "main/blobs/1", tmp_path / f"{turn}") == content
        store.contents[blob.sha256] = f"malicious file contents {turn}".encode()
        repo.tenant.version += 1
        repo.update_snapshot()
        with pytest.raises(SkerryError):
            get(client, store, "main/blobs/1", tmp_path / "bad")
        assert not (tmp_path / "bad").exists()


def test_targetpath_is_not_delegated_by_all_roles_in_the_chain(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """What a tenant lists outside of its own paths is not found."""
    path = "other/blobs/1"
    publish_target(repo, Store(), path, b"x release by another")
    client.refresh()
    assert client.target(path) is None


# test_keys.py


def three_of_four(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """Ask for three signatures of a snapshot, of four keys."""
    client.refresh()
    repo.root.roles["snapshot"].threshold = 3
    repo.add_key("snapshot")
    repo.publish_root()
    repo.update_snapshot()
    fails(client)
    repo.add_key("snapshot")
    repo.add_key("snapshot")
    repo.publish_root()
    repo.update_snapshot()
    client.refresh()
    assert versions(client)["snapshot"] == 3


def test_root_has_keys_but_not_snapshot(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """Keys that only the root has sign nothing."""
    three_of_four(client, repo)
    repo.root.roles["snapshot"].threshold = 5
    stranger = CryptoSigner.generate_ed25519()
    repo.root.add_key(stranger.public_key, "snapshot")
    repo.publish_root()
    repo.update_snapshot()
    fails(client)
    assert client._set is None or versions(client)["snapshot"] == 3


def test_wrong_hashing_algorithm(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """A field of a key that TUF does not define does not matter."""
    three_of_four(client, repo)
    keyid = repo.root.roles["snapshot"].keyids[0]
    repo.root.keys[keyid].unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    repo.publish_root()
    repo.update_snapshot()
    client.refresh()
    assert versions(client)["snapshot"] == 4


def test_snapshot_threshold(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """A threshold above the number of keys is never met."""
    client.refresh()
    for _ in range(4):
        repo.add_key("snapshot")
    repo.root.roles["snapshot"].threshold = 6
    repo.publish_root()
    repo.update_snapshot()
    fails(client)
    assert versions(client)["snapshot"] == 1


def test_duplicate_keys_root(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """One key is one signature, however often it is named."""
    client.refresh()
    keyid = repo.root.roles["snapshot"].keyids[0]
    with pytest.raises(ValueError, match="unique"):
        Role([keyid] * 10, 6)
    repo.root.roles["snapshot"].threshold = 6
    repo.publish_root()
    repo.update_snapshot()
    fails(client)
    repo.roots[-1] = repo.roots[-1].replace(
        f'"{keyid}"'.encode() + b"\n", f'"{keyid}", "{keyid}"'.encode() + b"\n"
    )
    fails(client)
    assert versions(client)["snapshot"] == 1


# test_rollback.py


def test_simple_snapshot_rollback(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """A snapshot that the timestamp does not name is not asked for."""
    repo.update_snapshot()
    client.refresh()
    repo.snapshot.version -= 1
    client.refresh()
    assert versions(client)["snapshot"] == 2
    assert repo.asked[-1] == "timestamp.json"


def test_new_timestamp_version_rollback(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """An older timestamp is refused."""
    repo.update_timestamp()
    client.refresh()
    repo.timestamp.version -= 1
    fails(client)
    assert versions(client)["timestamp"] == 2
    assert repo.asked[-1] == "timestamp.json"


@pytest.mark.parametrize("with_hashes", [False, True], ids=["basic", "with hashes"])
def test_snapshot_rollback(
    client: DeviceTrust, repo: SpoiltRepository, *, with_hashes: bool
) -> None:
    """An older snapshot under a newer timestamp is refused."""
    repo.with_hashes = with_hashes
    repo.update_snapshot()
    client.refresh()
    repo.snapshot.version = 1
    repo.update_timestamp()
    fails(client)
    assert versions(client)["timestamp"] == 2
    assert versions(client)["snapshot"] == 2


@pytest.mark.parametrize("with_hashes", [False, True], ids=["basic", "with hashes"])
def test_targets_rollback(
    client: DeviceTrust, repo: SpoiltRepository, *, with_hashes: bool
) -> None:
    """Older targets under a newer snapshot are refused."""
    repo.with_hashes = with_hashes
    repo.targets.version = 3
    repo.update_snapshot()
    client.refresh()
    repo.targets.version = 1
    repo.update_snapshot()
    fails(client)
    assert versions(client)["targets"] == 3


def test_new_targets_fast_forward_recovery(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """A new snapshot key takes a version of targets back that was set too high."""
    repo.targets.version = 100
    repo.update_snapshot()
    client.refresh()
    repo.rotate("snapshot")
    repo.publish_root()
    repo.targets.version = 2
    repo.update_snapshot()
    client.refresh()
    assert versions(client)["targets"] == 2


def test_new_snapshot_fast_forward_recovery(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """New keys of snapshot and timestamp take back a version of the snapshot."""
    repo.snapshot.version = 99999
    repo.update_timestamp()
    client.refresh()
    repo.rotate("snapshot")
    repo.rotate("timestamp")
    repo.publish_root()
    repo.snapshot.version = 1
    repo.update_timestamp()
    client.refresh()
    assert versions(client)["snapshot"] == 1


def test_new_timestamp_fast_forward_recovery(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """A new timestamp key takes back a version of the timestamp."""
    repo.timestamp.version = 100
    repo.stamp()
    client.refresh()
    repo.rotate("timestamp")
    repo.publish_root()
    repo.timestamp.version = 1
    client.refresh()
    assert versions(client)["timestamp"] == 1


def test_new_snapshot_version_mismatch(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """A snapshot of another version than the timestamp names is refused."""
    repo.snapshot.version = 2
    repo.stamp()
    repo.timestamp.snapshot_meta.version = 1
    repo.snapshots[1] = repo.snapshots[2]
    fails(client)
    assert versions(client) == {"root": 1}


# test_delegated_expiration.py


def test_delegated_targets_expired(client: DeviceTrust, repo: SpoiltRepository) -> None:
    """A list that has expired when it is first seen vouches for nothing."""
    publish_target(repo, Store(), "main/blobs/1", b"delegated content")
    repo.tenant.expires -= 31 * DAY
    repo.update_snapshot()
    fails(client)
    assert client.target("main/blobs/1") is None


def test_expired_local_delegated_targets(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """A list that has expired since stops each update, which begins with a refresh."""
    repo.tenant.expires -= 23 * DAY
    publish_target(repo, Store(), "main/blobs/1", b"first")
    client.refresh()
    repo.clock.advance(wall_s=18 * DAY.total_seconds())
    fails(client)


def test_expired_local_delegated_targets_updates(
    client: DeviceTrust, repo: SpoiltRepository
) -> None:
    """A newer list takes its place."""
    repo.tenant.expires -= 23 * DAY
    publish_target(repo, Store(), "main/blobs/1", b"first")
    client.refresh()
    repo.tenant.expires += 14 * DAY
    publish_target(repo, Store(), "main/blobs/2", b"second")
    repo.clock.advance(wall_s=18 * DAY.total_seconds())
    client.refresh()
    assert client.target("main/blobs/2") is not None

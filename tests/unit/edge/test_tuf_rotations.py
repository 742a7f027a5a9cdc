"""The cases of tuf-conformance's `test_updater_key_rotations.py`, by their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Role

from skerry.core.errors import LinkError, TrustError
from skerry.edge.trust import DeviceTrust
from tests.conforming import TENANT, TOP, SpoiltRepository, versions


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A version of a role: whose keys it names, how many must sign, and who did."""

    keys: tuple[int, ...]
    threshold: int
    by: tuple[int, ...]
    holds: bool = True


def signed(keys: str, threshold: int, by: str, *, holds: bool = True) -> Signed:
    """Write a version shortly: each digit is a key."""
    return Signed(
        keys=tuple(map(int, keys)),
        threshold=threshold,
        by=tuple(map(int, by)),
        holds=holds,
    )


ROOT_ROTATIONS = {
    "1-of-1-key-rotation": (
        signed("1", 1, "1"),
        signed("2", 1, "21"),
        signed("2", 1, "2"),
    ),
    "1-of-1-key-rotation-unused-signatures": (
        signed("1", 1, "314"),
        signed("2", 1, "3214"),
        signed("2", 1, "324"),
    ),
    "3-of-5-sign-with-different-keycombos": (
        signed("01234", 3, "024"),
        signed("01234", 3, "041"),
        signed("01234", 3, "013"),
        signed("01234", 3, "013"),
    ),
    "3-of-5-one-key-rotated": (signed("01234", 3, "024"), signed("01345", 3, "041")),
    "3-of-5-one-key-rotated-with-intermediate-step": (
        signed("01234", 3, "024"),
        signed("01345", 3, "0245"),
        signed("01345", 3, "045"),
    ),
    "3-of-5-all-keys-rotated-with-intermediate-step": (
        signed("01234", 3, "024"),
        signed("56789", 3, "024567"),
        signed("56789", 3, "567"),
    ),
    "1-of-3-threshold-increase-to-2-of-3": (
        signed("123", 1, "1"),
        signed("123", 2, "12"),
    ),
    "2-of-3-threshold-decrease-to-1-of-3": (
        signed("123", 2, "12"),
        signed("123", 1, "12"),
        signed("123", 1, "1"),
    ),
    "1-of-2-threshold-increase-to-2-of-2": (signed("1", 1, "1"), signed("12", 2, "12")),
    "1-of-1-key-rotation-fail-not-signed-with-old-key": (
        signed("1", 1, "1"),
        signed("2", 1, "234", holds=False),
    ),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": (
        signed("1", 1, "1"),
        signed("2", 1, "134", holds=False),
    ),
    "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys": (
        signed("01234", 3, "024"),
        signed("01345", 3, "024", holds=False),
    ),
    "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys": (
        signed("01234", 3, "024"),
        signed("01345", 3, "045", holds=False),
    ),
    "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached": (
        signed("123", 1, "1"),
        signed("123", 2, "2", holds=False),
    ),
    "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-eached": (
        signed("123", 2, "12"),
        signed("123", 1, "1", holds=False),
    ),
}

ROTATIONS = {
    "1-of-1-key-rotation": signed("2", 1, "2"),
    "1-of-1-key-rotation-unused-signatures": signed("1", 1, "314"),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": signed(
        "2", 1, "134", holds=False
    ),
    "3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys": signed(
        "01345", 3, "024", holds=False
    ),
    "2-of-5-one-key-signature-mising-threshold-not-reached": signed(
        "01345", 3, "04", holds=False
    ),
    "3-of-5-sign-first-combo": signed("01234", 3, "024"),
    "3-of-5-sign-second-combo": signed("01234", 3, "041"),
    "3-of-5-sign-third-combo": signed("01234", 3, "013"),
    "3-of-5-sign-fourth-combo": signed("01234", 3, "123"),
    "3-of-5-sign-fifth-combo": signed("01234", 3, "234"),
}


@pytest.mark.parametrize("chain", ROOT_ROTATIONS.values(), ids=ROOT_ROTATIONS)
def test_root_rotation(
    repo: SpoiltRepository, tmp_path: Path, chain: tuple[Signed, ...]
) -> None:
    """A root must be signed by enough of its own keys and of those before it."""
    people = [CryptoSigner.generate_ed25519() for _ in range(10)]
    repo.root.version, repo.roots = 0, []
    for each in chain:
        repo.root.roles["root"] = Role([], each.threshold)
        for number in each.keys:
            repo.root.add_key(people[number].public_key, "root")
        repo.publish_root(*(people[number] for number in each.by))
    client = repo.device(tmp_path)
    if chain[-1].holds:
        client.refresh()
    else:
        fails(client)
    assert versions(client)["root"] == len(chain) - (not chain[-1].holds)


@pytest.mark.parametrize("role", [*TOP[1:], TENANT])
@pytest.mark.parametrize("each", ROTATIONS.values(), ids=ROTATIONS)
def test_non_root_rotations(
    repo: SpoiltRepository, client: DeviceTrust, role: str, each: Signed
) -> None:
    """Any other role must be signed by enough of the keys that its delegator names."""
    client.refresh()
    people = [CryptoSigner.generate_ed25519() for _ in range(10)]
    delegator = repo.targets if role == TENANT else repo.root
    found = delegator.get_delegated_role(role)
    for keyid in list(found.keyids):
        delegator.revoke_key(keyid, role)
    found.threshold = each.threshold
    for number in each.keys:
        delegator.add_key(people[number].public_key, role)
    repo.signers[role] = [people[number] for number in each.by]
    repo.publish_root()
    repo.targets.version += 1
    repo.tenant.version += 1
    repo.update_snapshot()
    if each.holds:
        client.refresh()
    else:
        fails(client)
    assert versions(client)["targets"] == 1 + each.holds

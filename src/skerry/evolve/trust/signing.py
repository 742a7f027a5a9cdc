"""Keys, and the metadata that is signed with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from skerry.core.errors import MissingExtraError, UsageError
from skerry.core.names import check_name
from skerry.core.release import Blob
from skerry.evolve.trust.metadata import (
    ONLINE_ROLES,
    ROOT_LIFETIME,
    SIGNED_AT,
    TARGETS_LIFETIME,
    as_date,
)

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
        load_pem_public_key,
    )
    from securesystemslib.signer import CryptoSigner, SSlibKey
    from tuf.api.metadata import (
        TOP_LEVEL_ROLE_NAMES,
        DelegatedRole,
        Delegations,
        Key,
        Metadata,
        Role,
        Root,
        Snapshot,
        TargetFile,
        Targets,
        Timestamp,
    )
except ImportError as error:
    raise MissingExtraError(error.name or "tuf", extra="gateway") from error


def make_key() -> bytes:
    """Make a private key: Ed25519, PKCS #8, PEM without a pass phrase."""
    return CryptoSigner.generate_ed25519().private_bytes


def public_key(private_key: bytes) -> bytes:
    """The public half of a private key, as PEM.

    Raises:
        UsageError: That is no private Ed25519 key.
    """
    return to_pem(load_signer(private_key).public_key)


def to_pem(key: Key) -> bytes:
    """A public key of metadata, as PEM.

    Raises:
        UsageError: It is of another kind than ours.
    """
    with _key_errors("public"):
        raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign_root(
    *,
    root_key: bytes,
    targets_key: bytes,
    online_key: bytes,
    now_ms: int,
    version: int = 1,
    previous_key: bytes | None = None,
) -> bytes:
    """Write the root: which key signs what.

    Args:
        root_key: The private key that signs it, and the next one.
        targets_key: The public key of `targets`.
        online_key: The hub's public key, of `snapshot` and `timestamp`.
        now_ms: When, milliseconds since 1970.
        version: One more than the last.
        previous_key: The private key of the last root, where it was another one:
            section 5.3.4 has devices ask for the signatures of both.

    Returns:
        The content of `{version}.root.json`.

    Raises:
        UsageError: One of them is not such a key.
    """
    signer = load_signer(root_key)
    keys = {
        "root": signer.public_key,
        "targets": load_public(targets_key),
        **dict.fromkeys(ONLINE_ROLES, load_public(online_key)),
    }
    root = Root(
        version=version,
        expires=as_date(now_ms) + ROOT_LIFETIME,
        keys={key.keyid: key for key in keys.values()},
        roles={role: Role([key.keyid], 1) for role, key in keys.items()},
        consistent_snapshot=True,
        unrecognized_fields={SIGNED_AT: now_ms},
    )
    metadata = Metadata(root)
    metadata.sign(signer)
    if previous_key is not None:
        metadata.sign(load_signer(previous_key), append=True)
    return metadata.to_bytes()


def sign_targets(
    *, key: bytes, tenants: Mapping[str, bytes], now_ms: int, version: int = 1
) -> bytes:
    """Write the top-level targets: which key signs a tenant's list.

    Args:
        key: The private key of `targets`.
        tenants: Each tenant's public key by its name.
        now_ms: When, milliseconds since 1970.
        version: One more than the last.

    Returns:
        The content of `{version}.targets.json`.

    Raises:
        UsageError: A tenant's name cannot be one, or a key is none.
    """
    targets = make_targets(
        {name: ([public], 1) for name, public in tenants.items()}, version=version
    )
    targets.expires = as_date(now_ms) + TARGETS_LIFETIME
    return sign(targets, key)


def make_targets(
    tenants: Mapping[str, tuple[list[bytes], int]], *, version: int
) -> Targets:
    """Make the top-level targets: whose lists whose keys sign.

    Args:
        tenants: Each tenant's public keys and its threshold, by its name.
        version: Their version.

    Raises:
        UsageError: A tenant's name cannot be one, or a key is none.
    """
    keys = {name: [load_public(one) for one in of] for name, (of, _) in tenants.items()}
    roles = {
        check_tenant(name): DelegatedRole(
            name=name,
            keyids=[key.keyid for key in keys[name]],
            threshold=threshold,
            terminating=True,
            paths=[f"{name}/*/*", f"{name}/*/*/*"],
        )
        for name, (_, threshold) in tenants.items()
    }
    known: dict[str, Key] = {key.keyid: key for of in keys.values() for key in of}
    return Targets(version=version, delegations=Delegations(keys=known, roles=roles))


def sign_tenant(
    *, key: bytes, blobs: Mapping[str, Blob], now_ms: int, version: int = 1
) -> bytes:
    """Write a tenant's list: all that its devices may fetch.

    Args:
        key: The private key of the tenant's role.
        blobs: What there is, by its TUF target path.
        now_ms: When, milliseconds since 1970.
        version: One more than the last.

    Returns:
        The content of `{version}.{tenant}.json`.

    Raises:
        UsageError: That is no such key.
    """
    targets = Targets(
        version=version,
        expires=as_date(now_ms) + TARGETS_LIFETIME,
        targets=make_listed(blobs),
    )
    return sign(targets, key)


def make_listed(blobs: Mapping[str, Blob]) -> dict[str, TargetFile]:
    """Write blobs by path as a list has them."""
    return {
        path: TargetFile(blob.size_bytes, {"sha256": blob.sha256}, path)
        for path, blob in blobs.items()
    }


def check_tenant(tenant: str) -> str:
    """Check that a tenant can have a role of its name; returns the name.

    Raises:
        UsageError: It is not a name, or one of TUF's own roles.
    """
    if check_name(tenant, kind="tenant") in TOP_LEVEL_ROLE_NAMES:
        raise UsageError(
            f"{tenant!r} cannot be the name of a tenant: it is a role of TUF",
            hint="Choose another name.",
        )
    return tenant


def sign(signed: Root | Timestamp | Snapshot | Targets, key: bytes) -> bytes:
    """Sign a role's metadata and write it as a file.

    Raises:
        UsageError: That is no private Ed25519 key.
    """
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(load_signer(key))
    return metadata.to_bytes()


def load_signer(private_key: bytes) -> CryptoSigner:
    """Read a private key.

    Raises:
        UsageError: That is no private Ed25519 key.
    """
    with _key_errors("private"):
        loaded = load_pem_private_key(private_key, None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise TypeError(type(loaded).__name__)
        return CryptoSigner(loaded)


def load_public(content: bytes) -> SSlibKey:
    """Read a public key.

    Raises:
        UsageError: That is no public Ed25519 key.
    """
    with _key_errors("public"):
        loaded = load_pem_public_key(content)
        if not isinstance(loaded, Ed25519PublicKey):
            raise TypeError(type(loaded).__name__)
        return SSlibKey.from_crypto(loaded)


@contextmanager
def _key_errors(kind: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The message of the library may quote what it was given: it is left out.
        raise UsageError(
            f"that is not a {kind} Ed25519 key in PEM", hint="Make one with make_key."
        ) from error

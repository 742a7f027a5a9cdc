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
    TARGETS_LIFETIME,
    as_date,
    read_metadata,
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
    public = load_signer(private_key).public_key
    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public.keyval["public"]))
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
        "targets": _public(targets_key),
        **dict.fromkeys(ONLINE_ROLES, _public(online_key)),
    }
    root = Root(
        version=version,
        expires=as_date(now_ms) + ROOT_LIFETIME,
        keys={key.keyid: key for key in keys.values()},
        roles={role: Role([key.keyid], 1) for role, key in keys.items()},
        consistent_snapshot=True,
    )
    metadata = Metadata(root)
    metadata.sign(signer)
    if previous_key is not None:
        metadata.sign(load_signer(previous_key), append=True)
    return metadata.to_bytes()


def renew_root(root: bytes, *, key: bytes, now_ms: int) -> bytes:
    """Write the root that follows one, with the same keys and a new life.

    Args:
        root: The newest root.
        key: The private key of the root.
        now_ms: When, milliseconds since 1970.

    Returns:
        The content of the next version's file.

    Raises:
        TrustError: The root is damaged.
        UsageError: That is no such key.
    """
    following = read_metadata(root, Root, name="the root").signed
    following.version += 1
    following.expires = as_date(now_ms) + ROOT_LIFETIME
    return sign(following, key)


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
    keys = {check_tenant(name): _public(public) for name, public in tenants.items()}
    roles = {
        name: DelegatedRole(
            name=name,
            keyids=[public.keyid],
            threshold=1,
            terminating=True,
            paths=[f"{name}/*/*", f"{name}/*/*/*"],
        )
        for name, public in keys.items()
    }
    targets = Targets(
        version=version,
        expires=as_date(now_ms) + TARGETS_LIFETIME,
        delegations=Delegations(
            keys={public.keyid: public for public in keys.values()}, roles=roles
        ),
    )
    return sign(targets, key)


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
        targets={
            path: TargetFile(blob.size_bytes, {"sha256": blob.sha256}, path)
            for path, blob in blobs.items()
        },
    )
    return sign(targets, key)


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


def _public(content: bytes) -> SSlibKey:
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

"""Who signs a role, how many must, and files on their way to enough signatures.

A draft is the next version of a root, of `targets` or of a tenant's list, signed by
nobody or by some. It is made on one machine, signed on others, and published once each
delegator's threshold is met: for a root, its own and that of the root before it
(section 5.3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skerry.core.errors import MissingExtraError, UsageError
from skerry.core.release import Blob, Reason
from skerry.evolve.trust.metadata import (
    LIFETIMES,
    SIGNED_AT,
    as_date,
    as_ms,
    is_due_at,
    read_metadata,
    refusal,
    trust_errors,
)
from skerry.evolve.trust.signing import (
    load_public,
    load_signer,
    make_listed,
    make_targets,
    to_pem,
)

try:
    from tuf.api.metadata import Key, Metadata, Role, Root, Targets
except ImportError as error:
    raise MissingExtraError(error.name or "tuf", extra="gateway") from error

MOST_KEYS = 16
"""Most keys of one role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """Who may sign a role.

    Attributes:
        keys: Public keys, PEM, by their ids.
        threshold: How many of them must.
    """

    keys: Mapping[str, bytes]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a signed file says of itself.

    Attributes:
        role: Whose file it is.
        version: Its version.
        expires_at_ms: When it expires, milliseconds since 1970.
        is_due: Whether more than half of its life is over: it should be signed anew.
        is_expired: Whether all of it is.
        signed_by: Ids of the keys whose signatures it carries; they are not verified.
    """

    role: str
    version: int
    expires_at_ms: int
    is_due: bool
    is_expired: bool
    signed_by: tuple[str, ...]


def make_role(public_keys: Iterable[bytes], *, threshold: int) -> RoleKeys:
    """Name who may sign a role.

    Args:
        public_keys: Public keys, PEM.
        threshold: How many of them must sign.

    Raises:
        UsageError: A key is none, there are too many, or the threshold cannot be met.
    """
    keys = {key_id(public): public for public in public_keys}
    if not 1 <= threshold <= len(keys) <= MOST_KEYS:
        raise UsageError(
            f"{threshold} of {len(keys)} keys cannot be asked to sign",
            hint=f"Give 1 to {MOST_KEYS} keys and a threshold of at most as many.",
        )
    return RoleKeys(keys=keys, threshold=threshold)


def key_id(public: bytes) -> str:
    """The id of a public key (PEM), 64 hexadecimal digits.

    Raises:
        UsageError: That is no public Ed25519 key.
    """
    return load_public(public).keyid


def read_role(delegator: bytes, role: str) -> RoleKeys:
    """Who may sign a role, as a root or the `targets` say; nothing is verified.

    Args:
        delegator: A root, for TUF's four roles; else the `targets`, for a tenant.
        role: Which.

    Raises:
        TrustError: The file is damaged, or does not know the role.
    """
    signed = _read_any(delegator).signed
    with trust_errors("the delegation"):
        found = signed.get_delegated_role(role)
        known = signed.keys if isinstance(signed, Root) else signed.delegations.keys
        keys = {keyid: to_pem(known[keyid]) for keyid in found.keyids}
    return RoleKeys(keys=keys, threshold=found.threshold)


def read_standing(content: bytes, *, role: str, now_ms: int) -> Standing:
    """Read how long a signed file holds; nothing is verified.

    Args:
        content: The file.
        role: Whose it is.
        now_ms: The time, milliseconds since 1970.

    Raises:
        TrustError: It is damaged.
    """
    metadata = _read_any(content)
    signed = metadata.signed
    return Standing(
        role=role,
        version=signed.version,
        expires_at_ms=as_ms(signed.expires),
        is_due=is_due_at(signed, LIFETIMES[signed.type], now_ms),
        is_expired=signed.is_expired(as_date(now_ms)),
        signed_by=tuple(metadata.signatures),
    )


def draft_root(
    root: bytes, *, roles: Mapping[str, RoleKeys] | None = None, now_ms: int
) -> bytes:
    """Write the root that follows one, signed by nobody yet.

    Args:
        root: The newest root.
        roles: Who may sign what from now on; what is not named stays.
        now_ms: When, milliseconds since 1970.

    Raises:
        TrustError: The root is damaged.
        UsageError: A key is none.
    """
    signed = read_metadata(root, Root, name="the root").signed
    known: dict[str, Key] = dict(signed.keys)
    for role, keys in (roles or {}).items():
        known |= {keyid: load_public(pem) for keyid, pem in keys.keys.items()}
        signed.roles[role] = Role(list(keys.keys), keys.threshold)
    named = {keyid for role in signed.roles.values() for keyid in role.keyids}
    signed.keys = {keyid: key for keyid, key in known.items() if keyid in named}
    signed.unrecognized_fields[SIGNED_AT] = now_ms
    return _next(signed, now_ms)


def draft_targets(
    targets: bytes, *, tenants: Mapping[str, RoleKeys] | None = None, now_ms: int
) -> bytes:
    """Write the `targets` that follow some, signed by nobody yet.

    Args:
        targets: The newest.
        tenants: Who may sign whose list from now on; what is not named stays.
        now_ms: When, milliseconds since 1970.

    Raises:
        TrustError: They are damaged.
        UsageError: A key or a tenant's name is none.
    """
    signed = read_metadata(targets, Targets, name="the targets").signed
    before = signed.delegations.roles if signed.delegations else None
    roles = {name: read_role(targets, name) for name in before or ()}
    roles |= dict(tenants or {})
    return _next(
        make_targets(
            {
                name: (list(one.keys.values()), one.threshold)
                for name, one in roles.items()
            },
            version=signed.version,
        ),
        now_ms,
    )


def draft_list(listing: bytes, *, blobs: Mapping[str, Blob], now_ms: int) -> bytes:
    """Write the tenant's list that follows one, signed by nobody yet.

    Args:
        listing: The newest.
        blobs: All that it names, by TUF target path.
        now_ms: When, milliseconds since 1970.

    Raises:
        TrustError: It is damaged.
    """
    signed = read_metadata(listing, Targets, name="the list").signed
    signed.targets = make_listed(blobs)
    return _next(signed, now_ms)


def countersign(content: bytes, key: bytes) -> bytes:
    """Add a signature to a file; one that is there already is made anew.

    Raises:
        TrustError: The file is damaged.
        UsageError: That is no private Ed25519 key.
    """
    metadata = _read_any(content)
    metadata.sign(load_signer(key), append=True)
    return metadata.to_bytes()


def join_signatures(
    content: bytes, others: bytes, role: str, *delegators: bytes
) -> bytes:
    """Add the signatures of a copy of a file to it, but for those that are not good.

    Args:
        content: The file.
        others: Its copy.
        role: Its role.
        delegators: Files that say who may sign it.

    Raises:
        TrustError: One is damaged, or they are not the same but for the signatures.
    """
    one, other = _read_any(content), _read_any(others)
    if one.signed_bytes != other.signed_bytes:
        raise refusal(
            Reason.CORRUPT, "the two copies differ in more than their signatures"
        )
    for delegator in delegators:
        signed = _read_any(delegator).signed
        with trust_errors("the delegation"):
            good = signed.get_verification_result(
                role, other.signed_bytes, other.signatures
            ).signed
        one.signatures |= {keyid: other.signatures[keyid] for keyid in good}
    return one.to_bytes()


def lacking(content: bytes, role: str, *delegators: bytes) -> int:
    """How many signatures a file still needs.

    Args:
        content: The file.
        role: Its role.
        delegators: Files of which each must find its threshold met.

    Raises:
        TrustError: One is damaged, or does not know the role.
    """
    metadata, most = _read_any(content), 0
    for delegator in delegators:
        signed = _read_any(delegator).signed
        with trust_errors("the delegation"):
            found = signed.get_verification_result(
                role, metadata.signed_bytes, metadata.signatures
            )
        most = max(most, found.missing)
    return most


def _read_any(content: bytes) -> Metadata[Any]:
    """Read a file of whichever role."""
    with trust_errors("the file"):
        kind = Metadata.from_bytes(content).signed
    return read_metadata(content, type(kind), name="the file")


def _next(signed: Root | Targets, now_ms: int) -> bytes:
    signed.version += 1
    signed.expires = as_date(now_ms) + LIFETIMES[signed.type]
    metadata: Metadata[Any] = Metadata(signed)
    return metadata.to_bytes()

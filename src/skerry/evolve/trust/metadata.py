"""Read and verify signed metadata; nothing that comes from outside is believed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from skerry.core.errors import MissingExtraError, TrustError
from skerry.core.release import Blob, Reason, is_sha256

try:
    from tuf.api.exceptions import (
        BadVersionNumberError,
        ExpiredMetadataError,
        RepositoryError,
        UnsignedMetadataError,
    )
    from tuf.api.metadata import (
        Metadata,
        Root,
        Snapshot,
        T,
        TargetFile,
        Targets,
        Timestamp,
    )
except ImportError as error:
    raise MissingExtraError(error.name or "tuf", extra="gateway") from error

ROOT_LIFETIME = timedelta(days=365)
TARGETS_LIFETIME = timedelta(days=90)
"""Of `targets` and of a tenant's role."""
SNAPSHOT_LIFETIME = timedelta(days=7)
TIMESTAMP_LIFETIME = timedelta(days=1)
LIFETIMES: Mapping[str, timedelta] = {
    "root": ROOT_LIFETIME,
    "targets": TARGETS_LIFETIME,
    "snapshot": SNAPSHOT_LIFETIME,
    "timestamp": TIMESTAMP_LIFETIME,
}
"""By the kind that a file says it is."""

LARGEST_BYTES = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000}
"""Most bytes of a role's file."""
LARGEST_TARGETS_BYTES = 5_000_000
"""Most bytes of the file of `targets` or of a tenant."""
SIGNED_AT = "x-skerry-signed-at-ms"
"""A signed field of timestamp and root: when it was signed, milliseconds since 1970."""

ONLINE_ROLES = ("snapshot", "timestamp")
"""What the hub's online key signs."""

_NAME = re.compile(r"([1-9][0-9]{0,8})\.([a-z0-9-]{1,63})\.json")
_LAST_MS = 253_402_300_799_000  # datetime ends with the year 9999

_HINTS = {
    Reason.UNTRUSTED: "Sign with the publisher's keys that the pinned root leads to.",
    Reason.REPLAYED: "Publish a newer version, and ask who still serves the old ones.",
    Reason.EXPIRED: "Let hub and publisher sign anew, and check this machine's clock.",
    Reason.CORRUPT: "Fetch it again; if that does not help, publish it again.",
}


def refusal(reason: Reason, what: str) -> TrustError:
    """Make the error for metadata that is refused: untrusted, replayed …."""
    return TrustError(what, hint=_HINTS[reason], reason=reason.value)


@contextmanager
def trust_errors(name: str) -> Iterator[None]:
    """Turn what tuf raises for metadata from outside into a `TrustError`.

    Args:
        name: Whose metadata it is, for messages.

    Raises:
        TrustError: Its reason says what was wrong.
    """
    try:
        yield
    except ExpiredMetadataError as error:
        raise refusal(Reason.EXPIRED, f"{name}: {error}") from error
    except BadVersionNumberError as error:
        what = f"{name} is older than what was already seen: {error}"
        raise refusal(Reason.REPLAYED, what) from error
    except UnsignedMetadataError as error:
        raise refusal(
            Reason.UNTRUSTED, f"{name} is not signed by whom it must be: {error}"
        ) from error
    except (RepositoryError, ValueError, TypeError, LookupError) as error:
        raise refusal(Reason.CORRUPT, f"{name} is damaged: {error}") from error
    except (AttributeError, ArithmeticError, RecursionError) as error:
        raise refusal(Reason.CORRUPT, f"{name} is damaged: {error}") from error


def as_date(at_ms: int) -> datetime:
    """Milliseconds since 1970 as tuf takes a time, in UTC; clipped to its years."""
    return datetime.fromtimestamp(min(max(at_ms, 0), _LAST_MS) // 1000, UTC)


def as_ms(date: datetime) -> int:
    """A time of metadata as milliseconds since 1970."""
    return round(date.timestamp() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a file of `targets` or of a tenant says, whoever signed it.

    Attributes:
        version: Its version.
        is_due: Whether more than half of its life is over.
        tenants: To whom it delegates.
        blobs: What it lists, by path.
    """

    version: int
    is_due: bool
    tenants: tuple[str, ...]
    blobs: Mapping[str, Blob]


def read_listing(content: bytes, *, now_ms: int, name: str) -> Listing:
    """Read a file of one's own: nothing is verified.

    Raises:
        TrustError: It is damaged.
    """
    targets = read_metadata(content, Targets, name=name).signed
    delegations = targets.delegations
    return Listing(
        version=targets.version,
        is_due=is_due_at(targets, TARGETS_LIFETIME, now_ms),
        tenants=tuple((delegations.roles if delegations else None) or ()),
        blobs={path: blob_of(file, name) for path, file in targets.targets.items()},
    )


def split_name(name: str) -> tuple[str, int] | None:
    """The role and the version of a file named as `2.main.json`; None for others."""
    match = _NAME.fullmatch(name)
    return (match[2], int(match[1])) if match else None


def root_version(root: bytes) -> int:
    """Check that a file can be the first root: signed by itself; returns its version.

    Raises:
        TrustError: It is damaged, or not signed by itself.
    """
    version = read_metadata(root, Root, name="the root").signed.version
    return verify_roots({version: root}).version


def is_root_due(root: bytes, *, now_ms: int) -> bool:
    """Whether more than half of a root's life is over.

    Raises:
        TrustError: It is damaged.
    """
    metadata = read_metadata(root, Root, name="the root")
    return is_due_at(metadata.signed, ROOT_LIFETIME, now_ms)


def verify_roots(roots: Mapping[int, bytes]) -> Root:
    """Follow a chain of roots from one that is trusted (section 5.3).

    Args:
        roots: Root files by version; the lowest is trusted, no version is left out.

    Returns:
        The last one.

    Raises:
        TrustError: One is missing, damaged, or not signed as the one before it says.
    """
    root: Root | None = None
    for version, content in sorted(roots.items()):
        root = next_root(root, version, content)
    if root is None:
        raise refusal(Reason.UNTRUSTED, "there is no root to trust")
    return root


def next_root(root: Root | None, version: int, content: bytes) -> Root:
    """Verify the root of a version by the one before it and by itself.

    Args:
        root: The one before it; None where this one is trusted already.
        version: Its version, as its file's name says.
        content: Its file.

    Raises:
        TrustError: It is damaged, or not signed as both say.
    """
    name = f"{version}.root.json"
    metadata = read_metadata(content, Root, name=name)
    following = metadata.signed
    if following.version != version or not following.consistent_snapshot:
        raise refusal(
            Reason.CORRUPT,
            f"{name} says that it is version {following.version}, with consistent "
            f"snapshots: {following.consistent_snapshot}",
        )
    if root is not None:
        if version != root.version + 1:
            raise refusal(
                Reason.UNTRUSTED, f"{name} does not follow version {root.version}"
            )
        check_signatures(root, "root", metadata, name)
    check_signatures(following, "root", metadata, name)
    return following


def check_signatures(
    delegator: Root | Targets, role: str, metadata: Metadata[Any], name: str
) -> None:
    """Check that a role's metadata is signed as its delegator says.

    Raises:
        TrustError: It is not, or the delegator does not know the role.
    """
    with trust_errors(name):
        try:
            delegator.get_delegated_role(role)
        except ValueError as error:
            raise UnsignedMetadataError(str(error)) from error
        payload = metadata.signed_bytes
        delegator.verify_delegate(role, payload, metadata.signatures)


def read_metadata(content: bytes, kind: type[T], *, name: str) -> Metadata[T]:
    """Read a file of bounded size; nothing is verified.

    Args:
        content: The file.
        kind: Which role's it must be; a tenant's is `Targets`.
        name: Its name, for messages.

    Raises:
        TrustError: It is too large, damaged, or another role's.
    """
    largest = LARGEST_BYTES.get(kind.type, LARGEST_TARGETS_BYTES)
    if len(content) > largest:
        raise refusal(
            Reason.CORRUPT,
            f"{name} has {len(content)} bytes, at most {largest} expected",
        )
    with trust_errors(name):
        metadata: Metadata[T] = Metadata.from_bytes(content)
        if metadata.signed.type != kind.type:
            raise RepositoryError(f"it is {metadata.signed.type}, not {kind.type}")
        if type(metadata.signed.version) is not int:
            raise RepositoryError("its version is not a whole number")
    return metadata


def signed_at_ms_of(timestamp: Timestamp) -> int:
    """When the hub signed a timestamp, milliseconds since 1970.

    Raises:
        TrustError: The timestamp does not say so, or says nonsense.
    """
    signed_at_ms = timestamp.unrecognized_fields.get(SIGNED_AT)
    expires_ms = as_ms(timestamp.expires)
    if type(signed_at_ms) is not int or not 0 < signed_at_ms <= expires_ms:
        raise refusal(Reason.CORRUPT, "the timestamp does not say when it was signed")
    return signed_at_ms


def root_signed_at_ms(root: bytes) -> int:
    """When a root was signed, milliseconds since 1970; 0 where it does not say so.

    Raises:
        TrustError: It is damaged.
    """
    signed = read_metadata(root, Root, name="the root").signed
    signed_at_ms = signed.unrecognized_fields.get(SIGNED_AT)
    if type(signed_at_ms) is not int or signed_at_ms > as_ms(signed.expires):
        return 0
    return max(signed_at_ms, 0)


def blob_of(file: TargetFile, name: str) -> Blob:
    """The blob that a list of that name tells of.

    Raises:
        TrustError: Its hash or size is missing.
    """
    sha256 = file.hashes.get("sha256", "")
    if not is_sha256(sha256) or type(file.length) is not int or file.length < 1:
        raise refusal(
            Reason.CORRUPT,
            f"{name} lists {file.path[:80]!r} without its SHA-256 and size",
        )
    return Blob(sha256=sha256, size_bytes=file.length)


def is_due_at(
    signed: Targets | Snapshot | Timestamp | Root, lifetime: timedelta, now_ms: int
) -> bool:
    """Whether more than half of the life of metadata is over."""
    return signed.expires - as_date(now_ms) < lifetime / 2


def check_time(signed: Root | Targets, name: str, now_ms: int) -> None:
    """Check that metadata has not expired.

    Raises:
        TrustError: It has.
    """
    if signed.is_expired(as_date(now_ms)):
        raise refusal(Reason.EXPIRED, f"{name} expired on {signed.expires:%Y-%m-%d}")

"""What a device has verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from skerry.core.errors import MissingExtraError
from skerry.core.release import Blob, Reason
from skerry.evolve.trust.metadata import (
    as_date,
    blob_of,
    check_signatures,
    read_metadata,
    refusal,
    signed_at_ms_of,
    trust_errors,
    verify_roots,
)

try:
    from tuf.api.metadata import DelegatedRole, Root, Snapshot, T, Targets, Timestamp
except ImportError as error:
    raise MissingExtraError(error.name or "tuf", extra="gateway") from error


class TrustedSet:
    """What a device has verified: everything that a finished refresh left.

    Args:
        roots: Root files by version, the pinned one first, without a gap.
        files: `timestamp.json`, `snapshot.json`, `targets.json`, `{tenant}.json`.
        tenant: Whose device it is.

    Raises:
        TrustError: A file is missing or damaged, or not signed by whom it must be.
    """

    def __init__(
        self, roots: Mapping[int, bytes], files: Mapping[str, bytes], *, tenant: str
    ) -> None:
        root = verify_roots(roots)
        self._root = root
        self._timestamp = _verified(root, "timestamp", Timestamp, files)
        self._snapshot = _verified(root, "snapshot", Snapshot, files)
        self._targets = _verified(root, "targets", Targets, files)
        self._listed = _verified(self._targets, tenant, Targets, files)
        self._tenant = tenant
        for name in ("targets.json", f"{tenant}.json"):
            with trust_errors(name):
                self._snapshot.meta[name].verify_length_and_hashes(files[name])

    @property
    def signed_at_ms(self) -> int:
        """When the hub signed the timestamp, milliseconds since 1970.

        Raises:
            TrustError: The timestamp does not say so, or says nonsense.
        """
        return signed_at_ms_of(self._timestamp)

    def check_times(self, now_ms: int) -> None:
        """Check that nothing in it has expired.

        Raises:
            TrustError: Something has; its reason is `expired`.
        """
        signed = {
            "root": self._root,
            "timestamp": self._timestamp,
            "snapshot": self._snapshot,
            "targets": self._targets,
            self._tenant: self._listed,
        }
        for role, metadata in signed.items():
            if metadata.is_expired(as_date(now_ms)):
                raise refusal(
                    Reason.EXPIRED,
                    f"{role}.json expired on {metadata.expires:%Y-%m-%d}",
                )

    def find(self, path: str) -> Blob | None:
        """What the tenant's list says of a path that it may speak of, or None."""
        role = self._targets.get_delegated_role(self._tenant)
        file = self._listed.targets.get(path)
        if file is None or not cast("DelegatedRole", role).is_delegated_path(path):
            return None
        return blob_of(file, f"{self._tenant}.json")


def _verified(
    delegator: Root | Targets, role: str, kind: type[T], files: Mapping[str, bytes]
) -> T:
    name = f"{role}.json"
    if name not in files:
        raise refusal(Reason.CORRUPT, f"{name} is missing")
    metadata = read_metadata(files[name], kind, name=name)
    check_signatures(delegator, role, metadata, name)
    return metadata.signed

"""Who may say what a device runs: signed metadata of The Update Framework (TUF).

Section numbers are those of the TUF specification 1.0.31. The publisher holds the keys
of `root`, of `targets` and of one delegated role a tenant, named after it, whose list
says which manifest, blob and delta is whose. The hub holds one online key, for
`snapshot` and `timestamp` alone: it can say which of the publisher's lists are current,
and can make none itself. Files are named as for consistent snapshots (section 6.2).

This is the door to `tuf.api`; all of it is pure, files are bytes by name.
"""

from __future__ import annotations

from skerry.evolve.trust.metadata import (
    LARGEST_BYTES,
    LARGEST_TARGETS_BYTES,
    Listing,
    as_date,
    is_root_due,
    read_listing,
    root_version,
    split_name,
    trust_errors,
    verify_roots,
)
from skerry.evolve.trust.repository import Repository
from skerry.evolve.trust.signing import (
    check_tenant,
    make_key,
    public_key,
    renew_root,
    sign_root,
    sign_targets,
    sign_tenant,
)
from skerry.evolve.trust.trusted import TrustedSet

__all__ = [
    "LARGEST_BYTES",
    "LARGEST_TARGETS_BYTES",
    "Listing",
    "Repository",
    "TrustedSet",
    "as_date",
    "check_tenant",
    "is_root_due",
    "make_key",
    "public_key",
    "read_listing",
    "renew_root",
    "root_version",
    "sign_root",
    "sign_targets",
    "sign_tenant",
    "split_name",
    "trust_errors",
    "verify_roots",
]

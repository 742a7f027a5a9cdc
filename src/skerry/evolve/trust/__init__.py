"""Who may say what a device runs: signed metadata of The Update Framework (TUF).

Section numbers are those of the TUF specification 1.0.31. The publisher holds the keys
of `root`, of `targets` and of one delegated role a tenant, named after it, whose list
says which manifest, blob and delta is whose. The hub holds one online key, for
`snapshot` and `timestamp` alone: it can say which of the publisher's lists are current,
and can make none itself. Files are named as for consistent snapshots (section 6.2).

Root, `targets` and the tenants' roles may be signed by several people (`roles`); what
a device is told to run is signed by the hub's online key (`instructions`).

This is the door to `tuf.api`; all of it is pure, files are bytes by name.
"""

from __future__ import annotations

from skerry.evolve.trust.instructions import (
    Instructions,
    online_keys,
    sign_instructions,
    verify_instructions,
)
from skerry.evolve.trust.metadata import (
    LARGEST_BYTES,
    LARGEST_TARGETS_BYTES,
    Listing,
    as_date,
    is_root_due,
    read_listing,
    root_signed_at_ms,
    root_version,
    split_name,
    trust_errors,
    verify_roots,
)
from skerry.evolve.trust.repository import Repository
from skerry.evolve.trust.roles import (
    RoleKeys,
    Standing,
    countersign,
    draft_list,
    draft_root,
    draft_targets,
    join_signatures,
    key_id,
    lacking,
    make_role,
    read_role,
    read_standing,
)
from skerry.evolve.trust.signing import (
    check_tenant,
    make_key,
    public_key,
    sign_root,
    sign_targets,
    sign_tenant,
)
from skerry.evolve.trust.trusted import TrustedSet

__all__ = [
    "LARGEST_BYTES",
    "LARGEST_TARGETS_BYTES",
    "Instructions",
    "Listing",
    "Repository",
    "RoleKeys",
    "Standing",
    "TrustedSet",
    "as_date",
    "check_tenant",
    "countersign",
    "draft_list",
    "draft_root",
    "draft_targets",
    "is_root_due",
    "join_signatures",
    "key_id",
    "lacking",
    "make_key",
    "make_role",
    "online_keys",
    "public_key",
    "read_listing",
    "read_role",
    "read_standing",
    "root_signed_at_ms",
    "root_version",
    "sign_instructions",
    "sign_root",
    "sign_targets",
    "sign_tenant",
    "split_name",
    "trust_errors",
    "verify_instructions",
    "verify_roots",
]

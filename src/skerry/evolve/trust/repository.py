"""A hub's repository: what the publisher signed, and what the hub adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from skerry.core.errors import MissingExtraError, StateError
from skerry.core.release import Reason
from skerry.evolve.trust.metadata import (
    ONLINE_ROLES,
    SIGNED_AT,
    SNAPSHOT_LIFETIME,
    TIMESTAMP_LIFETIME,
    as_date,
    check_signatures,
    check_time,
    is_due_at,
    next_root,
    read_metadata,
    refusal,
    root_version,
    signed_at_ms_of,
    split_name,
    verify_roots,
)
from skerry.evolve.trust.signing import (
    load_public,
    public_key,
    sign,
)

try:
    from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp
except ImportError as error:
    raise MissingExtraError(error.name or "tuf", extra="gateway") from error

MOST_FILES = 64
"""Most files of one publication."""


_KEPT_VERSIONS = 2  # a device in the middle of a refresh still finds the last one


class Repository:
    """A hub's TUF repository: the publisher's files and the hub's own.

    Args:
        files: What `files` gave before; other names are left out.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self._files = {
            name: content
            for name, content in (files or {}).items()
            if name == "timestamp.json" or split_name(name)
        }

    @property
    def root(self) -> bytes | None:
        """The newest root, which new devices pin, or None before there is one."""
        found = _newest(self._files, "root")
        return found[1] if found else None

    @property
    def signed_at_ms(self) -> int:
        """When the timestamp was signed, milliseconds since 1970; 0 without one."""
        timestamp = self._timestamp()
        return signed_at_ms_of(timestamp) if timestamp else 0

    def newest(self) -> dict[str, bytes]:
        """The newest file of each role, by the role's name."""
        roles = {split[0] for name in self._files if (split := split_name(name))}
        found = {role: _newest(self._files, role) for role in roles}
        newest = {role: one[1] for role, one in found.items() if one}
        timestamp = self._files.get("timestamp.json")
        return newest if timestamp is None else {**newest, "timestamp": timestamp}

    def names_online(self, public: bytes) -> bool:
        """Whether the newest root lets a key (PEM) sign snapshot and timestamp."""
        if self.root is None:
            return False
        roles = read_metadata(self.root, Root, name="root").signed.roles
        keyid = load_public(public).keyid
        return all(keyid in roles[role].keyids for role in ONLINE_ROLES)

    def files(self) -> dict[str, bytes]:
        """All files by name, in the order to put them in place: timestamp last."""
        order = ("root", "", "targets", "snapshot", "timestamp")

        def rank(name: str) -> tuple[int, str, int]:
            role, version = split_name(name) or ("timestamp", 0)
            return order.index(role if role in order else ""), role, version

        return {name: self._files[name] for name in sorted(self._files, key=rank)}

    def check(self) -> None:
        """Read the newest file of each role, as after a start.

        A file that is damaged must not be taken for one that was never there: the
        versions would begin again at 1, and devices would refuse them as replayed.

        Raises:
            TrustError: One is damaged.
        """
        for role in {split[0] for name in self._files if (split := split_name(name))}:
            version, content = cast("tuple[int, bytes]", _newest(self._files, role))
            kinds: dict[str, type[Any]] = {"root": Root, "snapshot": Snapshot}
            kind = kinds.get(role, Targets)
            read_metadata(content, kind, name=f"{version}.{role}.json")
        self._timestamp()

    def bootstrap(self, root: bytes, *, now_ms: int) -> None:
        """Trust a first root; the same one again is no fault.

        Raises:
            TrustError: It is damaged, expired, not signed by itself, or another one
                is trusted already.
        """
        version = root_version(root)
        if self.root is not None:
            if self._files.get(f"{version}.root.json") == root:
                return
            raise refusal(Reason.UNTRUSTED, "this hub trusts another root already")
        check_time(verify_roots({version: root}), "the root", now_ms)
        self._files[f"{version}.root.json"] = root

    def accept(self, files: Mapping[str, bytes], *, now_ms: int) -> None:
        """Take a publication in, all of it or nothing.

        Args:
            files: New versions of roots, of `targets` and of tenants' roles; files
                that are here already may be among them.
            now_ms: The hub's time, milliseconds since 1970.

        Raises:
            TrustError: With the reason `untrusted` (not signed by whom it must be),
                `replayed` (not newer than what is here), `expired`, or `corrupt`.
        """
        if len(files) > MOST_FILES:
            raise refusal(Reason.CORRUPT, f"the publication has {len(files)} files")
        offered = sorted(map(_offered, files))
        staged = dict(self._files)
        for _, version, role in offered:
            name = f"{version}.{role}.json"
            if staged.get(name) != files[name]:
                _stage(staged, role, version, files[name])
        _check_chain(staged)
        for role in {role for _, _, role in offered}:
            newest, content = cast("tuple[int, bytes]", _newest(staged, role))
            name = f"{newest}.{role}.json"
            if self._files.get(name) == content:
                continue
            if role == "root":
                root = read_metadata(content, Root, name=name).signed
                check_time(root, name, now_ms)
            else:
                listing = read_metadata(content, Targets, name=name).signed
                check_time(listing, name, now_ms)
        self._files = _pruned(staged)

    def sign_online(
        self, hub_key: bytes, *, now_ms: int, least_version: int = 1
    ) -> None:
        """Sign a new timestamp, and a new snapshot where one is needed.

        The timestamp never says that it was signed before the last one was, even
        where the hub's clock went back: devices would take it for a replay.

        Args:
            hub_key: The hub's private key.
            now_ms: The hub's time, milliseconds since 1970.
            least_version: The least version of both; for a hub that has lost count.

        Raises:
            TrustError: The root does not name this key.
            StateError: Nothing has been published yet.
        """
        root = self._check_online_key(hub_key)
        last = self._timestamp()
        signed_at_ms = max(now_ms, signed_at_ms_of(last) if last else 0)
        version, content = self._sign_snapshot(
            root, hub_key, signed_at_ms, least_version
        )
        timestamp = Timestamp(
            version=max(last.version + 1 if last else 1, least_version),
            expires=as_date(signed_at_ms) + TIMESTAMP_LIFETIME,
            snapshot_meta=MetaFile.from_data(version, content, ["sha256"]),
            unrecognized_fields={SIGNED_AT: signed_at_ms},
        )
        self._files[f"{version}.snapshot.json"] = content
        self._files["timestamp.json"] = sign(timestamp, hub_key)
        self._files = _pruned(self._files)

    def is_due(self, now_ms: int) -> bool:
        """Whether `sign_online` should be called: half of the timestamp's life is over.

        Before the first call it is not: publishing makes it.
        """
        timestamp = self._timestamp()
        return timestamp is not None and is_due_at(
            timestamp, TIMESTAMP_LIFETIME, now_ms
        )

    def _timestamp(self) -> Timestamp | None:
        content = self._files.get("timestamp.json")
        if content is None:
            return None
        return read_metadata(content, Timestamp, name="timestamp.json").signed

    def _check_online_key(self, hub_key: bytes) -> Root:
        if self.root is None or _newest(self._files, "targets") is None:
            raise StateError(
                "nothing has been published to this hub yet",
                hint="Publish the root and the targets first.",
            )
        root = read_metadata(self.root, Root, name="root").signed
        if not self.names_online(public_key(hub_key)):
            raise refusal(Reason.UNTRUSTED, "the root does not name this hub's key")
        return root

    def _sign_snapshot(
        self, root: Root, hub_key: bytes, now_ms: int, least_version: int
    ) -> tuple[int, bytes]:
        roles = {role for name in self._files if (role := _listed_role(name))}
        meta = {}
        for role in sorted(roles):
            version, content = cast("tuple[int, bytes]", _newest(self._files, role))
            meta[f"{role}.json"] = MetaFile.from_data(version, content, ["sha256"])
        last = _newest(self._files, "snapshot")
        is_counted = last is not None and last[0] >= least_version
        if last and is_counted and _is_current(last[1], root, meta, now_ms):
            return last
        snapshot = Snapshot(
            version=max(last[0] + 1 if last else 1, least_version),
            expires=as_date(now_ms) + SNAPSHOT_LIFETIME,
            meta=meta,
        )
        return snapshot.version, sign(snapshot, hub_key)


def _is_current(
    content: bytes, root: Root, meta: Mapping[str, MetaFile], now_ms: int
) -> bool:
    metadata = read_metadata(content, Snapshot, name="snapshot")
    is_signed = root.get_verification_result(
        "snapshot", metadata.signed_bytes, metadata.signatures
    )
    is_due = is_due_at(metadata.signed, SNAPSHOT_LIFETIME, now_ms)
    return bool(is_signed) and not is_due and metadata.signed.meta == meta


def _offered(name: str) -> tuple[int, int, str]:
    """Rank, version and role of a publication's file: roots come first, in order."""
    role, version = split_name(name) or ("", 0)
    if not role or role in ONLINE_ROLES:
        raise refusal(
            Reason.CORRUPT,
            f"{name[:80]!r} is not of a publication: N.root.json, N.targets.json and "
            "N.TENANT.json are",
        )
    return ("root", "targets", role).index(role), version, role


def _stage(staged: dict[str, bytes], role: str, version: int, content: bytes) -> None:
    """Verify one file by those that are here and put it beside them."""
    name = f"{version}.{role}.json"
    last = _newest(staged, role)
    if last and version <= last[0]:
        raise refusal(
            Reason.REPLAYED,
            f"{name} is not newer than version {last[0]}, which is here",
        )
    root_content = _newest(staged, "root")
    if root_content is None:
        raise refusal(Reason.UNTRUSTED, "this hub trusts no root yet")
    root = read_metadata(root_content[1], Root, name="root").signed
    if role == "root":
        next_root(root, version, content)
    elif role == "targets":
        _verify(root, role, version, content)
    else:
        targets = _newest(staged, "targets")
        if targets is None:
            raise refusal(
                Reason.UNTRUSTED, f"{name}: there are no targets that delegate to it"
            )
        delegator = read_metadata(targets[1], Targets, name="targets").signed
        _verify(delegator, role, version, content)
    staged[name] = content


def _check_chain(staged: Mapping[str, bytes]) -> None:
    """Check that what is here holds under the newest root and targets."""
    root = _newest(staged, "root")
    targets = _newest(staged, "targets")
    if root is None or targets is None:
        return
    signed = read_metadata(root[1], Root, name="root").signed
    delegator = _verify(signed, "targets", *targets)
    roles = delegator.delegations.roles if delegator.delegations else None
    for role in roles or ():
        listed = _newest(staged, role)
        if listed:
            _verify(delegator, role, *listed)


def _verify(
    delegator: Root | Targets, role: str, version: int, content: bytes
) -> Targets:
    name = f"{version}.{role}.json"
    metadata = read_metadata(content, Targets, name=name)
    check_signatures(delegator, role, metadata, name)
    if metadata.signed.version != version:
        raise refusal(
            Reason.CORRUPT, f"{name} says that it is version {metadata.signed.version}"
        )
    return metadata.signed


def _newest(files: Mapping[str, bytes], role: str) -> tuple[int, bytes] | None:
    split = {name: split_name(name) or ("", 0) for name in files}
    found = [
        (version, files[name]) for name, (of, version) in split.items() if of == role
    ]
    return max(found, default=None)


def _listed_role(name: str) -> str | None:
    """The role of a file that a snapshot lists; None for others."""
    role = (split_name(name) or ("root", 0))[0]
    return None if role in {"root", *ONLINE_ROLES} else role


def _pruned(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Leave out what no device asks for any more; each root is asked for for ever."""
    newest = {
        role: found[0]
        for role, _ in filter(None, map(split_name, files))
        if (found := _newest(files, role))
    }

    def is_kept(name: str) -> bool:
        role, version = split_name(name) or ("root", 0)
        return role == "root" or version > newest[role] - _KEPT_VERSIONS

    return {name: content for name, content in files.items() if is_kept(name)}

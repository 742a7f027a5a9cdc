"""Change who may sign what: add, revoke and rotate the keys of a publisher's roles.

Each change is a draft of the next root, or of the next `targets` for the tenant's keys,
with whatever must be signed anew under it. With one key a role, all of it is signed at
once; where several people must sign, the drafts wait for them. A change that has been
made already changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.app.publish.folder import PublisherFolder
from skerry.core.clock import Clock
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.evolve.trust import (
    RoleKeys,
    Standing,
    draft_list,
    draft_root,
    draft_targets,
    key_id,
    make_key,
    make_role,
    public_key,
    read_listing,
    read_role,
    read_standing,
)

ROLES = ("root", "targets", "tenant", "online")
"""Whose keys can be changed; `online` is the hub's, of snapshot and timestamp."""

_ONLINE = ("snapshot", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleState:
    """A role, who may sign it, and what waits.

    Attributes:
        role: One of `ROLES`.
        threshold: How many of its keys must sign.
        keys: Its keys' ids.
        here: Those of them whose private halves are at hand.
        standing: What its newest file says of itself; None for `online`.
        draft: The file that waits for signatures, or empty.
        lacking: How many it still needs.
    """

    role: str
    threshold: int
    keys: tuple[str, ...]
    here: tuple[str, ...]
    standing: Standing | None
    draft: str
    lacking: int


class Roles:
    """The roles of a publisher.

    Args:
        folder: What it has on its disk.
        tenant: Whose devices it publishes for.
        clock: When it is.
    """

    def __init__(self, folder: PublisherFolder, tenant: str, *, clock: Clock) -> None:
        self._folder = folder
        self._tenant = tenant
        self._clock = clock

    def states(self) -> tuple[RoleState, ...]:
        """Each role, who may sign it, and what waits."""
        here = set(self._folder.keys)
        return tuple(self._state(role, here) for role in ROLES)

    def add(self, role: str, public: bytes, *, threshold: int | None = None) -> str:
        """Let another key sign a role; returns the key's id.

        Args:
            role: One of `ROLES`.
            public: The public key, PEM.
            threshold: How many must sign from now on; as before by default.

        Raises:
            UsageError: There is no such role or that is no key.
        """
        keys = self._keys(role)
        wanted = {*keys.keys.values(), public}
        self._change(role, make_role(wanted, threshold=threshold or keys.threshold))
        return key_id(public)

    def revoke(self, role: str, keyid: str, *, threshold: int | None = None) -> str:
        """Let a key sign a role no more; returns its id.

        Args:
            role: One of `ROLES`.
            keyid: The first digits of its id.
            threshold: How many must sign from now on; as before by default, but never
                more than there are keys.

        Raises:
            UsageError: There is no such role or key, or no key would be left.
        """
        keys = self._keys(role)
        found = self.find(role, keyid)
        if found not in keys.keys:
            return found
        left = [public for one, public in keys.keys.items() if one != found]
        if not left:
            raise UsageError(
                f"{found[:12]} is the only key of {role}",
                hint=f"Give it another first: skerry release key rotate {role}.",
            )
        wanted = threshold or min(keys.threshold, len(left))
        self._change(role, make_role(left, threshold=wanted))
        return found

    def rotate(self, role: str, keyid: str = "") -> str:
        """Put a new key in the place of one, on this machine; returns its id.

        Args:
            role: One of `ROLES` but `online`.
            keyid: The first digits of the old one's id; may be left out if it is the
                only one.

        Raises:
            UsageError: There is no such role or key.
            StorageError: The disk refused.
        """
        keys = self._keys(role)
        if not keyid and len(keys.keys) > 1:
            raise UsageError(
                f"{role} has {len(keys.keys)} keys",
                hint="Say which: skerry release key ls.",
            )
        old = self.find(role, keyid) if keyid else next(iter(keys.keys))
        if old not in keys.keys:
            return old
        new = self._fresh_key() or self._make_key(role)
        self.replace(role, {old: public_key(new)})
        return key_id(public_key(new))

    def replace(self, role: str, keys: dict[str, bytes]) -> None:
        """Put public keys (PEM) in the places of others, by the old ones' ids."""
        before = self._keys(role)
        wanted = [keys.get(keyid, pem) for keyid, pem in before.keys.items()]
        self._change(role, make_role(wanted, threshold=before.threshold))

    def renew(self) -> None:
        """Draft anew, with the same content, what has lived half of its life."""
        for role in ("root", "targets", self._tenant):
            newest = self._folder.newest(role)
            now_ms = self._clock.unix_ms()
            standing = read_standing(newest, role=role, now_ms=now_ms)
            if standing.is_due and role not in self._folder.drafts:
                self._draft(role)

    def _keys(self, role: str) -> RoleKeys:
        return read_role(self._folder.planned(self._above(role)), self._name(role))

    def _state(self, role: str, here: set[str]) -> RoleState:
        keys, name = self._keys(role), self._name(role)
        standing, lacks, draft = None, 0, ""
        if role != "online":
            standing = read_standing(
                self._folder.newest(name), role=role, now_ms=self._clock.unix_ms()
            )
            lacks = self._folder.lacking(name)
            draft = str(self._folder.draft_path(name)) if lacks else ""
        return RoleState(
            role=role,
            threshold=keys.threshold,
            keys=tuple(keys.keys),
            here=tuple(keyid for keyid in keys.keys if keyid in here),
            standing=standing,
            draft=draft,
            lacking=lacks,
        )

    def _change(self, role: str, keys: RoleKeys) -> None:
        if keys == self._keys(role):
            return
        if role == "tenant":
            self._draft("targets", {self._tenant: keys})
            self._draft(self._tenant)
            return
        named = _ONLINE if role == "online" else (role,)
        self._draft("root", dict.fromkeys(named, keys))
        if role == "targets":
            self._draft("targets")

    def _draft(self, role: str, changed: dict[str, RoleKeys] | None = None) -> None:
        """Draft the next version of what is planned, with what is changed in it."""
        folder, now_ms = self._folder, self._clock.unix_ms()
        newest, planned = folder.newest(role), folder.planned(role)
        if role == "root":
            names = ("root", "targets", *_ONLINE)
            roles = {name: read_role(planned, name) for name in names}
            content = draft_root(newest, roles=roles | (changed or {}), now_ms=now_ms)
        elif role == "targets":
            tenants = {self._tenant: read_role(planned, self._tenant)}
            content = draft_targets(
                newest, tenants=tenants | (changed or {}), now_ms=now_ms
            )
        else:
            blobs = read_listing(planned, now_ms=now_ms, name="the list").blobs
            content = draft_list(newest, blobs=blobs, now_ms=now_ms)
        folder.plan(role, content)

    def find(self, role: str, keyid: str) -> str:
        """The id that begins so, among all keys that the role ever had."""
        above, name = self._above(role), self._name(role)
        ever = [self._folder.planned(above)]
        ever += [
            content
            for file, content in self._folder.files.items()
            if file.endswith(f".{above}.json")
        ]
        known = {one for content in ever for one in read_role(content, name).keys}
        found = [one for one in known if keyid and one.startswith(keyid)]
        if len(found) != 1:
            raise UsageError(
                f"{len(found)} keys of {role} begin with {keyid[:64]!r}",
                hint=did_you_mean(keyid, [one[:12] for one in known]),
            )
        return found[0]

    def _fresh_key(self) -> bytes | None:
        """A key of ours that nothing has named yet: left by a rotation cut short."""
        named: set[str] = set()
        for name, content in self._folder.files.items():
            named |= self._named_in(name.split(".")[1], content)
        for role, content in self._folder.drafts.items():
            named |= self._named_in(role, content)
        fresh = (key for keyid, key in self._folder.keys.items() if keyid not in named)
        return next(fresh, None)

    def _named_in(self, role: str, content: bytes) -> set[str]:
        names = {"root": ("root", "targets", *_ONLINE), "targets": (self._tenant,)}
        roles = names.get(role, ())
        return {keyid for one in roles for keyid in read_role(content, one).keys}

    def _make_key(self, role: str) -> bytes:
        key = make_key()
        self._folder.add_private_key(role, key)
        return key

    def _above(self, role: str) -> str:
        return "targets" if role == "tenant" else "root"

    def _name(self, role: str) -> str:
        if role not in ROLES:
            raise UsageError(
                f"there is no role {role[:80]!r}", hint=did_you_mean(role, ROLES)
            )
        return {"tenant": self._tenant, "online": "timestamp"}.get(role, role)

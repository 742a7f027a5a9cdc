"""A publisher's folder: private keys, all that was signed, what waits for signatures.

`keys/` holds the private keys that are on this machine, in files of any name; others
may be with other people, or in a safe. `metadata/` holds all that enough have signed.
`drafts/` holds the next version of a file while it still lacks signatures; it is put in
place as soon as, together with other drafts or alone, it makes a chain that holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from skerry.core import durable
from skerry.core.errors import StateError, UsageError
from skerry.evolve.trust import (
    countersign,
    join_signatures,
    key_id,
    lacking,
    public_key,
    read_role,
    split_name,
)

KEYS, METADATA, DRAFTS = "keys", "metadata", "drafts"


class PublisherFolder:
    """What a publisher has on its disk.

    Args:
        path: The folder.
        tenant: Whose devices it publishes for.
        keys: Private keys (PEM) that lie elsewhere, such as on a stick.

    Attributes:
        path: The folder.
        files: All that was signed by enough, by name.
        drafts: What lacks signatures, by role.

    Raises:
        StateError: There is no publisher in this folder.
    """

    def __init__(self, path: Path, tenant: str, *, keys: Sequence[bytes] = ()) -> None:
        self.path = path
        self.files = read_metadata_files(path)
        self.drafts: dict[str, bytes] = {}
        self._tenant = tenant
        self._keys = {key_id(public_key(key)): key for key in keys}
        # A version that is in place was a draft once; the end came before its removal.
        for name, content in _read_folder(path / DRAFTS).items():
            role, version = split_name(name) or ("", 0)
            if role and version > self.version(role):
                self.drafts[role] = content

    @property
    def keys(self) -> dict[str, bytes]:
        """The private keys at hand, by id.

        Raises:
            UsageError: A file of the folder holds none.
            StateError: One cannot be read.
        """
        here = _read_folder(self.path / KEYS).values()
        return {key_id(public_key(key)): key for key in here} | self._keys

    def add_private_key(self, role: str, key: bytes) -> None:
        """Keep a new private key."""
        name = f"{role}-{key_id(public_key(key))[:12]}.pem"
        durable.write_file(self.path / KEYS / name, key, disk=durable.PRIVATE_DISK)

    def version(self, role: str) -> int:
        """The version of a role's newest file that is in place; 0 without one."""
        return max((version for version, _ in self._of(role)), default=0)

    def newest(self, role: str) -> bytes:
        """The newest file of a role that is in place.

        Raises:
            StateError: There is none.
        """
        found = list(self._of(role))
        if not found:
            raise StateError(
                f"the publisher in {self.path} has no {role} metadata",
                hint="Restore the folder from a backup.",
            )
        return max(found)[1]

    def planned(self, role: str) -> bytes:
        """The file of a role that is to be in place: its draft, else the newest."""
        return self.drafts.get(role) or self.newest(role)

    def plan(self, role: str, content: bytes) -> None:
        """Make a file the draft of its role."""
        self.drafts[role] = content

    def take_back(self, name: str, content: bytes) -> None:
        """Take in the signatures of a copy of a draft that others have signed.

        Raises:
            UsageError: No such draft waits.
            TrustError: It is damaged, or has been changed.
        """
        role, version = split_name(name) or ("", 0)
        if role in self.drafts and version == self.version(role) + 1:
            self.drafts[role] = join_signatures(
                self.drafts[role], content, role, *self._delegators(role, self.drafts)
            )
        elif not role or version > self.version(role):
            waiting = ", ".join(sorted(map(self._draft_name, self.drafts))) or "nothing"
            raise UsageError(
                f"{name} does not wait for signatures here, {waiting} does",
                hint="Give the file that you sent to be signed, under its own name.",
            )

    def lacking(self, role: str) -> int:
        """How many signatures the draft of a role still needs; 0 without a draft."""
        draft = self.drafts.get(role)
        if draft is None:
            return 0
        return lacking(draft, role, *self._delegators(role, self.drafts))

    def settle(self) -> tuple[str, ...]:
        """Sign the drafts with the keys at hand; put in place what has enough.

        Returns:
            The names of the files that were put in place.

        Raises:
            StorageError: The disk refused.
        """
        for role in self.drafts:
            self._countersign(role)
        placed = next(filter(self._holds, self._choices()))
        new = {self._draft_name(role): self.drafts[role] for role in placed}
        left = {role: one for role, one in self.drafts.items() if role not in placed}
        durable.make_folder(self.path / DRAFTS)
        durable.write_files(
            self.path / DRAFTS,
            {self._draft_name(role): content for role, content in left.items()},
        )
        durable.write_files(self.path / METADATA, new)
        self.files.update(new)
        self.drafts = left
        self._clear_drafts()
        return tuple(new)

    def draft_path(self, role: str) -> Path:
        """Where the draft of a role lies."""
        return self.path / DRAFTS / self._draft_name(role)

    def _clear_drafts(self) -> None:
        kept = {self._draft_name(role) for role in self.drafts}
        with durable.storage_errors(self.path / DRAFTS):
            for path in (self.path / DRAFTS).iterdir():
                if split_name(path.name) and path.name not in kept:
                    path.unlink(missing_ok=True)

    def _countersign(self, role: str) -> None:
        delegators = self._delegators(role, self.drafts)
        named = {keyid for one in delegators for keyid in read_role(one, role).keys}
        for keyid, key in self.keys.items():
            if keyid in named:
                self.drafts[role] = countersign(self.drafts[role], key)

    def _choices(self) -> Iterator[tuple[str, ...]]:
        for count in range(len(self.drafts), -1, -1):
            yield from combinations(sorted(self.drafts), count)

    def _holds(self, placed: tuple[str, ...]) -> bool:
        """Whether all is signed by enough once these drafts are in place.

        What waits must find them so as well: a list under a threshold to come is not
        put in place under the old one, for then nobody would sign it any more.
        """
        if not placed:
            return True
        if any(self.lacking(role) for role in placed):
            return False
        drafts = {role: self.drafts[role] for role in placed}
        return not any(
            lacking(
                drafts.get(role) or self.newest(role),
                role,
                *self._delegators(role, drafts),
            )
            for role in ("root", "targets", self._tenant)
        )

    def _delegators(self, role: str, drafts: Mapping[str, bytes]) -> list[bytes]:
        if role == "root":
            root = self.newest("root")
            return [root, drafts.get("root", root)]
        above = "root" if role == "targets" else "targets"
        return [drafts.get(above) or self.newest(above)]

    def _draft_name(self, role: str) -> str:
        return f"{self.version(role) + 1}.{role}.json"

    def _of(self, role: str) -> Iterator[tuple[int, bytes]]:
        for name, content in self.files.items():
            of, version = split_name(name) or ("", 0)
            if of == role:
                yield version, content


def read_metadata_files(path: Path) -> dict[str, bytes]:
    """All that a publisher ever signed, by name.

    Raises:
        StateError: There is no publisher in this folder.
    """
    try:
        return {
            file.name: file.read_bytes()
            for file in (path / METADATA).iterdir()
            if split_name(file.name)
        }
    except OSError as error:
        raise StateError(
            f"there is no publisher in {path}: {error.strerror or error}",
            hint="Create one, or check the path.",
        ) from error


def _read_folder(path: Path) -> dict[str, bytes]:
    """The files of a folder that may not be there."""
    try:
        return {
            file.name: file.read_bytes()
            for file in sorted(path.iterdir())
            if file.suffix in {".pem", ".json"} and not file.name.startswith(".")
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Run this as the user whose folder it is.",
        ) from error

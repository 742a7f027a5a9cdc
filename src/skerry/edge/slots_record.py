"""The record of the slots on a gateway's disk: what lies in them and which serves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from skerry.core.documents import from_json
from skerry.core.errors import DataError, UsageError
from skerry.core.names import check_name
from skerry.core.release import Blob
from skerry.core.schemas import Schemas
from skerry.evolve.update_state import Refused

SLOTS_SCHEMA = "skerry.slots/1"
Place = Literal["a", "b"]

FILE_NAMES = {
    "model": "model.onnx",
    "golden": "golden.npz",
    "task": "task.toml",
    "drift": "drift.json",
    "gallery": "gallery.npz",
}
"""The name of each blob's file in a slot, by role; those of libraries are numbered."""

_LIBRARY_ROLE = re.compile(r"library\.([0-9]{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A whole release in a slot.

    Attributes:
        version: The release's.
        manifest: The hash and size of its manifest's file.
        files: The hash and size of each other file, by role.
        spoken: The schemas in which it is served; its own where None.
    """

    version: int
    manifest: Blob
    files: Mapping[str, Blob]
    spoken: Schemas | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The active release is on probation.

    Attributes:
        rollout: What asked for it.
        strikes: How often the gateway died meanwhile.
        is_paused: Whether the gateway was stopped on purpose meanwhile.
    """

    rollout: str
    strikes: int = 0
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRecord:
    """The slots of one release name.

    Attributes:
        a: What lies in slot `a`, or None.
        b: What lies in slot `b`, or None.
        active: Which of them serves, or None.
        trial: What the active one is on probation for, or None.
        counter: The highest version ever accepted; 0 before the first.
        refused: What was refused for good and not asked for otherwise since, or None.
    """

    a: Kept | None = None
    b: Kept | None = None
    active: Place | None = None
    trial: Trial | None = None
    counter: int = 0
    refused: Refused | None = None

    def kept(self, place: Place | None) -> Kept | None:
        """What lies in a slot."""
        return self.a if place == "a" else self.b if place == "b" else None

    @property
    def standby(self) -> Place:
        """The slot that does not serve."""
        return "b" if self.active == "a" else "a"

    def with_kept(self, place: Place, kept: Kept | None) -> NameRecord:
        """The same with another content of one slot."""
        return replace(self, a=kept) if place == "a" else replace(self, b=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsRecord:
    """The whole record, by release name."""

    names: Mapping[str, NameRecord] = field(default_factory=dict)


def read_slots(content: bytes, *, name: str) -> dict[str, NameRecord]:
    """Read the record of a gateway's slots.

    Raises:
        NewerSchemaError: It was written by a newer Skerry.
        DataError: It is damaged, or a field makes no sense.
    """
    record = from_json(SlotsRecord, content, schema=SLOTS_SCHEMA, name=name)
    for release, slots in record.names.items():
        try:
            check_name(release, kind="release")
        except UsageError as error:
            raise DataError(f"{name}: {error.what}", hint=error.hint) from error
        roles = {role for kept in (slots.a, slots.b) if kept for role in kept.files}
        is_empty = slots.active is not None and slots.kept(slots.active) is None
        if is_empty or not all(map(_is_role, roles)):
            raise DataError(
                f"{name}: the slots of {release} contradict each other",
                hint="Remove it: it is made again from the slots.",
            )
    return dict(record.names)


def _is_role(role: str) -> bool:
    return role in FILE_NAMES or _LIBRARY_ROLE.fullmatch(role) is not None


def file_name(role: str) -> str:
    """What the file of a role is called in a slot."""
    library = _LIBRARY_ROLE.fullmatch(role)
    return f"library-{library[1]}.so" if library else FILE_NAMES[role]


def rolled_back(
    record: NameRecord, *, keep: bool, refused: Refused | None
) -> NameRecord:
    """The record once the standby slot's release is active again.

    Args:
        record: The one before.
        keep: Whether what was active is good to go back to.
        refused: What was active and why it is refused, or None.
    """
    back = record.standby if record.kept(record.standby) is not None else None
    changed = replace(record, active=back, trial=None, refused=refused)
    if record.active is not None and not keep:
        changed = changed.with_kept(record.active, None)
    return changed

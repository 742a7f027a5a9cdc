"""Two slots a release name on a gateway's disk, and the one record of them.

```
FOLDER/slots.json           the record: skerry.slots/1
FOLDER/slots-copy.json      the same once more
FOLDER/slots/NAME/a|b/      manifest.json model.onnx golden.npz task.toml drift.json
                            gallery.npz library-0.so …
```

The record alone says which slot is active. A slot is written only while the record
does not name it, each file by `core.durable`, and the record is replaced last: a power
cut at any instruction leaves a record that names whole files only, of the old release
or of the new one.

At the start every named file is hashed. A damaged active slot gives way to the standby
one; where both are damaged nothing is active, and the agent fetches the release again.
A record that is no record (a bad disk: a power cut cannot do it) is read from its copy:
it alone knows what this device must never run again. Where both are spoilt, it is made
again from the slots: the release with the highest version is put on trial, so that it
is checked again in full and the other one stands behind it. A record of a newer schema
is left as it is, and the gateway does not start: half-reading it could make a device
forget what it must never run again.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from skerry.core.documents import from_json, to_json
from skerry.core.durable import REAL_DISK, Disk, make_folder, write_files
from skerry.core.errors import (
    DataError,
    NewerSchemaError,
    SkerryError,
    StateError,
    StorageError,
    TrustError,
    UsageError,
)
from skerry.core.names import check_name
from skerry.core.release import Blob, Reason, ReleaseId, read_manifest
from skerry.edge.installed import Installed
from skerry.evolve.update_state import Facts, Refused, Want

SLOTS_SCHEMA = "skerry.slots/1"
MOST_STRIKES = 2
"""A release during whose probation the gateway died this often is given up."""

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
_LIBRARY_FILES = "library-*.so"

_RECORD = "slots.json"
_COPY = "slots-copy.json"
_MANIFEST = "manifest.json"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A whole release in a slot.

    Attributes:
        version: The release's.
        manifest: The hash and size of its manifest's file.
        files: The hash and size of each other file, by role.
    """

    version: int
    manifest: Blob
    files: Mapping[str, Blob]


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


class Slots:
    """The releases on a gateway's disk; may be used from several threads.

    Args:
        folder: The gateway's folder.
        target: The device's target, which chooses the model of a release.
        abi: What machine its libraries of operators are for; all are kept where None.
        disk: Where it writes.

    Attributes:
        troubles: What was found damaged at the start, a sentence each.

    Raises:
        NewerSchemaError: The record was written by a newer Skerry.
        StorageError: The disk refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        target: str,
        abi: str | None = None,
        disk: Disk = REAL_DISK,
    ) -> None:
        self._folder = folder
        self._target = target
        self._abi = abi
        self._disk = disk
        self._lock = threading.RLock()
        self._staged: dict[str, Kept] = {}
        self.troubles: list[str] = []
        make_folder(folder / "slots")
        read = self._read_record()
        self._names = {name: self._verified(name, read[name]) for name in sorted(read)}
        if self.troubles:
            self._save_quietly()

    def names(self) -> tuple[str, ...]:
        """The release names that were ever installed here."""
        return tuple(self._names)

    def facts(self, name: str) -> Facts:
        """What the update machine is told."""
        record = self._record(name)
        active, standby = record.kept(record.active), record.kept(record.standby)
        trial = None
        if active is not None and record.trial is not None:
            trial = Want(version=active.version, rollout=record.trial.rollout)
        return Facts(
            active=active.version if active else None,
            standby=standby.version if standby else None,
            counter=record.counter,
            trial=trial,
            refused=record.refused,
        )

    def active(self, name: str) -> Installed | None:
        """The release that serves."""
        record = self._record(name)
        return self._installed(name, record.active, record.kept(record.active))

    def standby(self, name: str) -> Installed | None:
        """The release that served before it."""
        record = self._record(name)
        return self._installed(name, record.standby, record.kept(record.standby))

    def find(self, name: str, blob: Blob) -> bytes | None:
        """Look for a blob among the files of a name; it is hashed once more."""
        for place in ("a", "b"):
            folder = self._place(name, place)
            files = [folder / each for each in (*FILE_NAMES.values(), _MANIFEST)]
            for path in (*files, *sorted(folder.glob(_LIBRARY_FILES))):
                content = _read(path, blob)
                if content is not None:
                    return content
        return None

    def check(self, installed: Installed) -> None:
        """Hash the files of a release once more, before it is loaded.

        Raises:
            TrustError: One is missing, or not what was signed (`corrupt`).
        """
        manifest = installed.manifest
        blobs = manifest.blobs(self._target, abi=self._abi)
        for role, path in installed.files.items():
            if _sha256(path) != blobs[role].sha256:
                raise TrustError(
                    f"{path.name} of {installed.id} is missing or not what was signed",
                    hint="Check the disk.",
                    reason=Reason.CORRUPT.value,
                )

    def install(self, signed: bytes, contents: Mapping[str, bytes]) -> Installed:
        """Write a release into the standby slot; the record does not name it yet.

        Args:
            signed: The bytes of the manifest.
            contents: The bytes of each blob, by role; checked by the caller.

        Raises:
            DataError: The manifest is none.
            StorageError: The disk refused; what serves is not touched.
        """
        manifest = read_manifest(signed)
        files = {_MANIFEST: signed}
        files |= {file_name(role): content for role, content in contents.items()}
        name = manifest.name
        with self._lock:
            record = self._record(name)
            place = record.standby
            self._staged.pop(name, None)
            if record.kept(place) is not None:
                self._save(name, record.with_kept(place, None))
            folder = self._place(name, place)
            make_folder(folder)
            write_files(folder, files, disk=self._disk)
            kept = Kept(
                version=manifest.version,
                manifest=Blob.of(files[_MANIFEST]),
                files={role: Blob.of(content) for role, content in contents.items()},
            )
            installed = self._installed(name, place, kept)
            if installed is None:
                raise StateError(
                    f"{manifest.id} cannot be read back from {folder}",
                    hint="Check the disk.",
                )
            self._staged[name] = kept
            return installed

    def switch(self, release: ReleaseId, *, rollout: str) -> None:
        """Make the standby slot's release the active one, on probation.

        Raises:
            StateError: The release is not in the standby slot.
            StorageError: The disk refused; nothing has changed.
        """
        with self._lock:
            record = self._record(release.name)
            place = record.standby
            kept = self._staged.get(release.name) or record.kept(place)
            if kept is None or kept.version != release.version:
                raise StateError(
                    f"{release} is not in the standby slot",
                    hint="Install it first.",
                )
            changed = replace(
                record.with_kept(place, kept),
                active=place,
                trial=Trial(rollout=rollout),
                counter=max(record.counter, release.version),
                refused=None,
            )
            self._save(release.name, changed)
            self._staged.pop(release.name, None)

    def settle(self, name: str) -> None:
        """Probation is over: the active release stays.

        Raises:
            StorageError: The disk refused; it is still on probation.
        """
        self._change(name, trial=None)

    def roll_back(self, name: str, *, keep: bool, refused: Refused | None) -> None:
        """Make the standby slot's release the active one again, without probation.

        Args:
            name: The release's name.
            keep: Whether what was active is good to go back to.
            refused: What was active and why it is refused, or None.

        Raises:
            StorageError: The disk refused; nothing has changed.
        """
        with self._lock:
            record = self._record(name)
            self._save(name, _rolled_back(record, keep=keep, refused=refused))

    def refuse(self, name: str, refused: Refused | None) -> None:
        """Keep a refusal, or forget it.

        Raises:
            StorageError: The disk refused.
        """
        if self._record(name).refused != refused:
            self._change(name, refused=refused)

    def strike(self, name: str) -> int:
        """Count that the gateway starts while a release is on trial.

        A stop on purpose does not count.

        Returns:
            How often it died on this trial; `MOST_STRIKES` is once too often.

        Raises:
            StorageError: The disk refused.
        """
        trial = self._record(name).trial
        if trial is None:
            return 0
        strikes = trial.strikes + (0 if trial.is_paused else 1)
        self._change(name, trial=replace(trial, strikes=strikes, is_paused=False))
        return strikes

    def pause(self) -> None:
        """The gateway stops on purpose: no trial is to blame.

        Raises:
            StorageError: The disk refused.
        """
        for name, record in list(self._names.items()):
            if record.trial is not None:
                self._change(name, trial=replace(record.trial, is_paused=True))

    def _record(self, name: str) -> NameRecord:
        return self._names.get(name, NameRecord())

    def _change(self, name: str, **changes: object) -> None:
        with self._lock:
            self._save(name, replace(self._record(name), **changes))  # type: ignore[arg-type]

    def _save(self, name: str, record: NameRecord) -> None:
        names = {**self._names, name: record}
        if record == NameRecord():
            # Whoever may ask for names must not fill the record, which has a bound.
            del names[name]
        self._write(names)
        self._names = names

    def _save_quietly(self) -> None:
        """Write down what was repaired; if the disk refuses, it is found again."""
        try:
            self._write(self._names)
        except StorageError as error:
            self.troubles.append(error.what)

    def _write(self, names: Mapping[str, NameRecord]) -> None:
        content = to_json(SlotsRecord(names=names), schema=SLOTS_SCHEMA)
        files = dict.fromkeys((_COPY, _RECORD), content)
        write_files(self._folder, files, disk=self._disk)

    def _place(self, name: str, place: str) -> Path:
        return self._folder / "slots" / name / place

    def _read_record(self) -> dict[str, NameRecord]:
        is_damaged = False
        for name in (_RECORD, _COPY):
            path = self._folder / name
            try:
                return read_slots(path.read_bytes(), name=str(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(
                    f"cannot read {path}: {error.strerror or error}",
                    hint="Check the disk and its permissions.",
                ) from error
            except NewerSchemaError:
                raise
            except DataError as error:
                is_damaged = True
                self.troubles.append(error.what)
        if is_damaged:
            self.troubles.append("the record is made again from the slots")
        return dict(self._rebuilt()) if is_damaged else {}

    def _rebuilt(self) -> Iterator[tuple[str, NameRecord]]:
        for folder in sorted((self._folder / "slots").iterdir()):
            a, b = self._look(folder.name, "a"), self._look(folder.name, "b")
            whole = {"a": a, "b": b}
            found = {place: kept for place, kept in whole.items() if kept is not None}
            if not found:
                continue
            best = max(found, key=lambda place: found[place].version)
            yield (
                folder.name,
                NameRecord(
                    a=a,
                    b=b,
                    active="a" if best == "a" else "b",
                    trial=Trial(rollout="", is_paused=True) if a and b else None,
                    counter=found[best].version,
                ),
            )

    def _look(self, name: str, place: Place) -> Kept | None:
        """What lies in a slot, judged by its own manifest; None unless it is whole."""
        folder = self._place(name, place)
        try:
            content = (folder / _MANIFEST).read_bytes()
            manifest = read_manifest(content)
            files = manifest.blobs(self._target, abi=self._abi)
        except (OSError, SkerryError):
            return None
        kept = Kept(version=manifest.version, manifest=Blob.of(content), files=files)
        is_it = manifest.name == name and self._damage(name, place, kept) == ""
        return kept if is_it else None

    def _verified(self, name: str, record: NameRecord) -> NameRecord:
        damages: dict[Place, str] = {}
        for place in ("a", "b"):
            kept = record.kept(place)
            damage = self._damage(name, place, kept) if kept else ""
            if damage:
                damages[place] = damage
                self.troubles.append(damage)
                record = record.with_kept(place, None)
        if record.active is not None and record.active in damages:
            other = record.standby
            is_whole = record.kept(other) is not None
            record = replace(record, active=other if is_whole else None, trial=None)
        return record

    def _damage(self, name: str, place: Place, kept: Kept) -> str:
        wanted = {file_name(role): blob for role, blob in kept.files.items()}
        wanted[_MANIFEST] = kept.manifest
        for each, blob in wanted.items():
            path = self._place(name, place) / each
            if _sha256(path) != blob.sha256:
                return (
                    f"slot {place} of {name}/{kept.version} is damaged: {each} "
                    f"is missing or not what was installed"
                )
        if self._installed(name, place, kept) is None:
            return f"slot {place} of {name}/{kept.version} has no model for this target"
        return ""

    def _installed(
        self, name: str, place: Place | None, kept: Kept | None
    ) -> Installed | None:
        if place is None or kept is None:
            return None
        folder = self._place(name, place)
        try:
            manifest = read_manifest((folder / _MANIFEST).read_bytes())
        except (OSError, SkerryError):
            return None
        model = manifest.model_for(self._target)
        if model is None:
            return None
        files = {role: folder / file_name(role) for role in kept.files}
        return Installed(manifest=manifest, model=model, files=files)


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


def _rolled_back(
    record: NameRecord, *, keep: bool, refused: Refused | None
) -> NameRecord:
    back = record.standby if record.kept(record.standby) is not None else None
    changed = replace(record, active=back, trial=None, refused=refused)
    if record.active is not None and not keep:
        changed = changed.with_kept(record.active, None)
    return changed


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def _read(path: Path, blob: Blob) -> bytes | None:
    try:
        if path.stat().st_size != blob.size_bytes:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return content if Blob.of(content) == blob else None

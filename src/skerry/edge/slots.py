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
import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from skerry.core.documents import to_json
from skerry.core.durable import REAL_DISK, Disk, make_folder, storage_errors
from skerry.core.errors import (
    DataError,
    NewerSchemaError,
    SkerryError,
    StateError,
    StorageError,
    TrustError,
)
from skerry.core.release import Blob, Reason, ReleaseId, read_manifest
from skerry.core.schemas import Schemas
from skerry.edge.adapters import Adapter
from skerry.edge.installed import Installed
from skerry.edge.slots_record import (
    FILE_NAMES,
    SLOTS_SCHEMA,
    Kept,
    NameRecord,
    Place,
    SlotsRecord,
    Trial,
    file_name,
    read_slots,
    rolled_back,
)
from skerry.edge.vault import CLEAR, Vault
from skerry.evolve.update_state import Facts, Refused, Want

MOST_STRIKES = 2
"""A release during whose probation the gateway died this often is given up."""

_LIBRARY_FILES = "library-*.so"

_RECORD = "slots.json"
_COPY = "slots-copy.json"
_MANIFEST = "manifest.json"


class Slots:
    """The releases on a gateway's disk; may be used from several threads.

    Args:
        folder: The gateway's folder.
        target: The device's target, which chooses the model of a release.
        abi: What machine its libraries of operators are for; all are kept where None.
        schemas: What producers here send and consumers read, by release name, where
            somebody has said it; else what was spoken before is spoken on.
        disk: Where it writes.
        vault: Keeps the files.

    Attributes:
        troubles: What was found damaged at the start, a sentence each.
        vault: As given.

    Raises:
        NewerSchemaError: The record was written by a newer Skerry.
        TrustError: The record is sealed, and there is no key.
        StorageError: The disk refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        target: str,
        abi: str | None = None,
        schemas: Mapping[str, Schemas] | None = None,
        disk: Disk = REAL_DISK,
        vault: Vault = CLEAR,
    ) -> None:
        self.vault = vault
        self._folder = folder
        self._target = target
        self._abi = abi
        self._schemas = schemas or {}
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
            spoken=self._spoken(name),
        )

    def active(self, name: str) -> Installed | None:
        """The release that serves."""
        record = self._record(name)
        return self._installed(name, record.active, record.kept(record.active))

    def standby(self, name: str) -> Installed | None:
        """The release that served before it."""
        record = self._record(name)
        return self._installed(name, record.standby, record.kept(record.standby))

    def find(self, name: str, blob: Blob) -> Path | None:
        """Look for a blob among the files of a name; it is hashed once more."""
        for place in ("a", "b"):
            folder = self._place(name, place)
            files = [folder / each for each in (*FILE_NAMES.values(), _MANIFEST)]
            for path in (*files, *sorted(folder.glob(_LIBRARY_FILES))):
                if self.vault.holds(path, blob):
                    return path
        return None

    def check(self, installed: Installed) -> None:
        """Hash the files of a release once more, before it is loaded.

        Raises:
            TrustError: One is missing, or not what was signed (`corrupt`).
        """
        manifest = installed.manifest
        blobs = manifest.blobs(self._target, abi=self._abi)
        for role, path in installed.files.items():
            if not self.vault.holds(path, blobs[role]):
                raise TrustError(
                    f"{path.name} of {installed.id} is missing or not what was signed",
                    hint="Check the disk.",
                    reason=Reason.CORRUPT.value,
                )

    def shared(self, sha256: str) -> Path | None:
        """Where a blob lies that belongs to a release in a slot, of whatever name."""
        for name, record in self._names.items():
            for place in ("a", "b"):
                kept = record.kept(place)
                for role, blob in kept.files.items() if kept else ():
                    if blob.sha256 == sha256:
                        return self._place(name, place) / file_name(role)
        return None

    def sweep(self, spared: Container[str], served: Container[Path]) -> None:
        """Remove what lies in slots and belongs to no release there.

        Args:
            spared: Release names of which something is under way.
            served: Files that the engine serves from, whatever the record says.

        Raises:
            StorageError: The disk refused.
        """
        with self._lock:
            for path in sorted((self._folder / "slots").glob("*/[ab]/*")):
                name, place = path.parts[-3], path.parts[-2]
                if name in spared or name in self._staged or path in served:
                    continue
                kept = self._record(name).kept("a" if place == "a" else "b")
                roles = kept.files if kept else ()
                if kept is None or path.name not in {_MANIFEST, *map(file_name, roles)}:
                    with storage_errors(path):
                        self._disk.remove(path)

    def install(self, signed: bytes, contents: Mapping[str, bytes | Path]) -> Installed:
        """Write a release into the standby slot; the record does not name it yet.

        Args:
            signed: The bytes of the manifest.
            contents: Each blob by role: its bytes, or the file that holds them, which
                is read a piece at a time.

        Raises:
            DataError: The manifest is none.
            TrustError: A blob is not the one that the manifest names (`corrupt`).
            StorageError: The disk refused; what serves is not touched.
        """
        manifest = read_manifest(signed)
        sources = {
            role: _Source(
                self.vault.pieces(content) if isinstance(content, Path) else (content,)
            )
            for role, content in contents.items()
        }
        files = {file_name(role): source for role, source in sources.items()}
        name = manifest.name
        with self._lock:
            record = self._record(name)
            place = record.standby
            self._staged.pop(name, None)
            if record.kept(place) is not None:
                self._save(name, record.with_kept(place, None))
            folder = self._place(name, place)
            make_folder(folder)
            placed: dict[str, bytes | Iterable[bytes]] = {_MANIFEST: signed, **files}
            self.vault.write_files(folder, placed, disk=self._disk)
            kept = Kept(
                version=manifest.version,
                manifest=Blob.of(signed),
                files={role: source.blob for role, source in sources.items()},
                spoken=self._spoken(name),
            )
            _check_files(kept, manifest.blobs(self._target), manifest.id)
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
            self._save(name, rolled_back(record, keep=keep, refused=refused))

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

    def _spoken(self, name: str) -> Schemas | None:
        """What is spoken here to a release; None where nothing serves yet."""
        active = self.active(name)
        if name in self._schemas or active is None:
            return self._schemas.get(name)
        record = self._record(name)
        kept = record.kept(record.active)
        return kept.spoken if kept and kept.spoken else active.manifest.schemas

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
        self.vault.write_files(self._folder, files, disk=self._disk)

    def _place(self, name: str, place: str) -> Path:
        return self._folder / "slots" / name / place

    def _read_record(self) -> dict[str, NameRecord]:
        is_damaged = False
        for name in (_RECORD, _COPY):
            path = self._folder / name
            try:
                return read_slots(self.vault.read(path), name=str(path))
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
            content = self.vault.read(folder / _MANIFEST)
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
            if not self.vault.holds(self._place(name, place) / each, blob):
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
            manifest = read_manifest(self.vault.read(folder / _MANIFEST))
        except (OSError, SkerryError):
            return None
        model = manifest.model_for(self._target)
        if model is None:
            return None
        files = {role: folder / file_name(role) for role in kept.files}
        spoken = self._schemas.get(name)
        if spoken is None or manifest.ways(spoken) is None:
            spoken = kept.spoken or manifest.schemas
        return Installed(
            manifest=manifest,
            model=model,
            files=files,
            adapter=Adapter.between(spoken, manifest, model),
            vault=self.vault,
        )


class _Source:
    """The content of a file to be, which is hashed as it is read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._digest.update(piece)
            self._size_bytes += len(piece)
            yield piece

    @property
    def blob(self) -> Blob:
        """What was read."""
        return Blob(sha256=self._digest.hexdigest(), size_bytes=self._size_bytes)


def _check_files(kept: Kept, signed: Mapping[str, Blob], release: ReleaseId) -> None:
    for role, blob in kept.files.items():
        if signed.get(role) != blob:
            raise TrustError(
                f"the {role} of {release} became {blob.sha256[:12]} of "
                f"{blob.size_bytes} bytes on the way into its slot",
                hint="Check the disk and the memory of this machine.",
                reason=Reason.CORRUPT,
            )

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry.core.errors import (
    DataError,
    NewerSchemaError,
    StateError,
    StorageError,
    TrustError,
)
from skerry.core.release import (
    Library,
    Reason,
    Refusal,
    ReleaseId,
    write_manifest,
)
from skerry.core.schemas import Schemas
from skerry.edge.slots import Slots
from skerry.edge.slots_record import SLOTS_SCHEMA, read_slots
from skerry.evolve.update_state import Facts, Refused, Want
from skerry.testing import SimulatedDisk
from tests.releases import NAME, blob_of, small_release

GOLDEN = Path(__file__).parents[2] / "golden" / "slots-1.json"
REFUSED = Refused(
    refusal=Refusal(
        release="meter/3", reason=Reason.LATENCY, what="slow", at_ms=5, measured=2.5
    ),
    rollout="r3",
)


def install(slots: Slots, version: int, *, settle: bool = True) -> None:
    """Install a release and let it serve."""
    release = small_release(version)
    slots.install(release.signed, release.contents)
    slots.switch(release.manifest.id, rollout=f"r{version}")
    if settle:
        slots.settle(NAME)


def served(**facts: Any) -> Facts:
    """Facts where something serves, in the schemas of the small releases."""
    return Facts(spoken=Schemas(), **facts)


def open_slots(folder: Path) -> Slots:
    """Start anew."""
    return Slots(folder, target="any")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gateway that runs version 2, with version 1 in its standby slot."""
    slots = open_slots(tmp_path)
    install(slots, 1)
    install(slots, 2)
    return tmp_path


def test_nothing_at_first(tmp_path: Path) -> None:
    """No name, no facts, no trouble."""
    slots = open_slots(tmp_path)
    assert slots.names() == ()
    assert slots.facts(NAME) == Facts()
    assert slots.active(NAME) is None
    assert slots.troubles == []


def test_what_is_installed_is_there_after_a_restart(folder: Path) -> None:
    """Both slots, their files and the counter."""
    slots = open_slots(folder)
    assert slots.names() == (NAME,)
    assert slots.facts(NAME) == served(active=2, standby=1, counter=2)
    active, standby = slots.active(NAME), slots.standby(NAME)
    assert active is not None
    assert standby is not None
    assert active.id == ReleaseId(name=NAME, version=2)
    for installed, version in ((active, 2), (standby, 1)):
        contents = small_release(version).contents
        assert {
            role: path.read_bytes() for role, path in installed.files.items()
        } == contents
    assert slots.troubles == []


def test_an_installed_release_does_not_serve_before_the_switch(folder: Path) -> None:
    """The record forgets the standby slot first, and names the new one at the end."""
    slots = open_slots(folder)
    release = small_release(3)
    installed = slots.install(release.signed, release.contents)
    assert installed.manifest == release.manifest
    assert slots.facts(NAME) == served(active=2, counter=2)
    assert open_slots(folder).facts(NAME) == served(active=2, counter=2)
    slots.switch(release.manifest.id, rollout="r3")
    on_trial = served(
        active=3, standby=2, counter=3, trial=Want(version=3, rollout="r3")
    )
    assert slots.facts(NAME) == open_slots(folder).facts(NAME) == on_trial
    slots.settle(NAME)
    assert open_slots(folder).facts(NAME) == served(active=3, standby=2, counter=3)


@pytest.mark.parametrize("spoilt", [b"", b"another model"])
def test_what_is_not_what_was_signed_is_not_installed(
    folder: Path, spoilt: bytes
) -> None:
    """The slot is judged by what was written; what serves is not touched."""
    slots = open_slots(folder)
    release = small_release(3)
    with pytest.raises(TrustError, match="the model of meter/3 became") as caught:
        slots.install(release.signed, {**release.contents, "model": spoilt})
    assert caught.value.reason == Reason.CORRUPT
    assert slots.facts(NAME) == open_slots(folder).facts(NAME)
    assert slots.facts(NAME).active == 2
    with pytest.raises(StateError):
        slots.switch(release.manifest.id, rollout="r3")


def test_only_what_is_in_the_standby_slot_can_serve(folder: Path) -> None:
    """Anything else is a bug, and says so."""
    with pytest.raises(StateError, match="meter/7 is not in the standby slot"):
        open_slots(folder).switch(ReleaseId(name=NAME, version=7), rollout="")


def test_going_back_to_the_standby_slot(folder: Path) -> None:
    """The counter stays, and the way forward again."""
    slots = open_slots(folder)
    slots.switch(ReleaseId(name=NAME, version=1), rollout="undo")
    slots.settle(NAME)
    assert open_slots(folder).facts(NAME) == served(active=1, standby=2, counter=2)


@pytest.mark.parametrize("keep", [True, False])
def test_rolling_back(folder: Path, *, keep: bool) -> None:
    """What failed on probation is not gone back to; what was only undone may be."""
    slots = open_slots(folder)
    install(slots, 3, settle=False)
    slots.roll_back(NAME, keep=keep, refused=None if keep else REFUSED)
    assert open_slots(folder).facts(NAME) == served(
        active=2,
        standby=3 if keep else None,
        counter=3,
        refused=None if keep else REFUSED,
    )


def test_a_refusal_is_kept_until_it_is_forgotten(folder: Path) -> None:
    """A restart does not try again what was refused."""
    open_slots(folder).refuse(NAME, REFUSED)
    slots = open_slots(folder)
    assert slots.facts(NAME).refused == REFUSED
    slots.refuse(NAME, None)
    assert open_slots(folder).facts(NAME).refused is None


def test_strikes_are_counted_on_trial_only(folder: Path) -> None:
    """Each start is one, unless the gateway was stopped on purpose."""
    slots = open_slots(folder)
    assert slots.strike(NAME) == 0
    install(slots, 3, settle=False)
    assert open_slots(folder).strike(NAME) == 1
    slots = open_slots(folder)
    slots.pause()
    slots = open_slots(folder)
    assert slots.strike(NAME) == 1
    assert open_slots(folder).strike(NAME) == 2


def test_blobs_are_found_in_both_slots(folder: Path) -> None:
    """By their hash; a damaged one is not found."""
    slots = open_slots(folder)
    for version in (1, 2):
        release = small_release(version)
        for content in (*release.contents.values(), release.signed):
            path = slots.find(NAME, blob_of(content))
            assert path is not None
            assert path.read_bytes() == content
    assert slots.find(NAME, blob_of(b"other")) is None
    model = small_release(2).contents["model"]
    _damage(folder, "b", "model.onnx")
    assert slots.find(NAME, blob_of(model)) is None


def _spoil_records(folder: Path, content: bytes) -> None:
    for name in ("slots.json", "slots-copy.json"):
        (folder / name).write_bytes(content)


def _damage(folder: Path, place: str, name: str) -> None:
    path = folder / "slots" / NAME / place / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = ["model.onnx", "golden.npz", "task.toml", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_active_slot_gives_way(folder: Path, name: str) -> None:
    """One flipped bit in any file, and the standby slot serves; it is reported."""
    _damage(folder, "b", name)
    slots = open_slots(folder)
    assert slots.facts(NAME) == served(active=1, counter=2)
    assert name in slots.troubles[0]
    again = open_slots(folder)
    assert again.facts(NAME) == served(active=1, counter=2)
    assert again.troubles == []


def test_a_damaged_standby_slot_is_forgotten(folder: Path) -> None:
    """It is nothing to go back to."""
    (folder / "slots" / NAME / "a" / "task.toml").unlink()
    assert open_slots(folder).facts(NAME) == served(active=2, counter=2)


def test_two_damaged_slots_serve_nothing(folder: Path) -> None:
    """The counter stays; the release can be installed again."""
    for place in "ab":
        _damage(folder, place, "model.onnx")
    slots = open_slots(folder)
    assert slots.facts(NAME) == Facts(counter=2)
    assert slots.active(NAME) is None
    install(slots, 2)
    assert open_slots(folder).facts(NAME) == served(active=2, counter=2)


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema":"skerry.slots/1"}', b"[]"])
def test_a_damaged_record_is_made_again(folder: Path, content: bytes) -> None:
    """The higher version is put on trial with the other one behind it."""
    _spoil_records(folder, content)
    slots = open_slots(folder)
    if content.endswith(b'/1"}'):
        # A whole record of nothing, as it stands before the first release.
        assert slots.names() == ()
        return
    assert slots.facts(NAME) == served(
        active=2, standby=1, counter=2, trial=Want(version=2, rollout="")
    )
    assert "made again" in slots.troubles[-1]
    assert slots.strike(NAME) == 0
    assert open_slots(folder).troubles == []


def test_only_whole_slots_are_taken_into_a_new_record(folder: Path) -> None:
    """A damaged one is as good as none."""
    _spoil_records(folder, b"?")
    _damage(folder, "b", "golden.npz")
    assert open_slots(folder).facts(NAME) == served(active=1, counter=1)


def test_a_damaged_record_is_read_from_its_copy(folder: Path) -> None:
    """Nothing is lost, not even what the slots do not tell; both are whole again."""
    slots = open_slots(folder)
    before = slots.facts(NAME)
    for name in ("slots.json", "slots-copy.json"):
        (folder / name).write_bytes(b"{")
        again = open_slots(folder)
        assert again.facts(NAME) == before
        assert len(again.troubles) == (1 if name == "slots.json" else 0)
    again.refuse(NAME, None)
    again.settle(NAME)
    records = [folder / name for name in ("slots.json", "slots-copy.json")]
    assert records[0].read_bytes() == records[1].read_bytes()


def test_what_lies_in_a_slot_is_checked_again(folder: Path) -> None:
    """A byte that changed while the gateway ran is found before it is loaded."""
    slots = open_slots(folder)
    installed = slots.active(NAME)
    assert installed is not None
    slots.check(installed)
    path = installed.files["model"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(TrustError, match=r"model\.onnx of meter/\d is missing or not"):
        slots.check(installed)


def test_a_newer_record_is_left_as_it_is(folder: Path) -> None:
    """The gateway says so instead of forgetting what it must never run again."""
    path = folder / "slots.json"
    newer = path.read_bytes().replace(b"slots/1", b"slots/2")
    path.write_bytes(newer)
    with pytest.raises(NewerSchemaError, match="slots/2"):
        open_slots(folder)
    assert path.read_bytes() == newer


def test_the_first_version_is_read_for_ever() -> None:
    """A record of version 1 with everything in it."""
    record = read_slots(GOLDEN.read_bytes(), name="slots.json")["meter"]
    assert record.active == "b"
    assert record.trial is not None
    assert (record.trial.rollout, record.trial.strikes) == ("r3", 1)
    assert record.counter == 3
    assert record.refused == REFUSED
    assert record.b is not None
    assert set(record.b.files) == {"model", "golden", "task", "drift"}


@pytest.mark.parametrize(
    "names",
    [
        {"Meter!": {}},
        {"meter": {"active": "a"}},
        {"meter": {"active": "c"}},
        {"meter": {"counter": "x"}},
        {"meter": 3},
        {
            "meter": {
                "a": {
                    "version": 1,
                    "manifest": {"sha256": "a", "size_bytes": 1},
                    "files": {"../x": {"sha256": "a", "size_bytes": 1}},
                }
            }
        },
    ],
)
def test_a_record_that_contradicts_itself(names: object) -> None:
    """It is no record."""
    content = json.dumps({"schema": SLOTS_SCHEMA, "names": names}).encode()
    with pytest.raises(DataError):
        read_slots(content, name="slots.json")


def test_a_disk_that_refuses_changes_nothing_that_serves(folder: Path) -> None:
    """At whatever call; afterwards the same update goes through."""
    release = small_release(3)
    for call in range(100):
        files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        disk = SimulatedDisk(files, refuse_at=call)
        slots = Slots(folder, target="any", disk=disk)
        try:
            slots.install(release.signed, release.contents)
            slots.switch(release.manifest.id, rollout="r3")
        except StorageError:
            assert slots.facts(NAME).active == 2
            slots.install(release.signed, release.contents)
            slots.switch(release.manifest.id, rollout="r3")
            assert slots.facts(NAME).active == 3
        else:
            break
    assert call > 15


def library_release(version: int) -> tuple[bytes, dict[str, bytes]]:
    """A release with a library for each of two machines, signed; and its contents."""
    release = small_release(version)
    contents = {**release.contents, "library.1": b"operators"}
    (own,) = release.manifest.models
    libraries = (
        Library(abi="linux-aarch64", blob=blob_of(b"others")),
        Library(abi="linux-x86_64", blob=blob_of(contents["library.1"])),
    )
    manifest = replace(release.manifest, models=(replace(own, libraries=libraries),))
    return write_manifest(manifest), contents


def test_libraries_lie_in_the_slot(tmp_path: Path) -> None:
    """Those of this machine, numbered as in the manifest; found again, and checked."""

    def start() -> Slots:
        return Slots(tmp_path, target="any", abi="linux-x86_64")

    slots = start()
    signed, contents = library_release(1)
    slots.install(signed, contents)
    slots.switch(ReleaseId(name=NAME, version=1), rollout="r1")
    slots.settle(NAME)
    for again in (slots, start()):
        active = again.active(NAME)
        assert active is not None
        (path,) = active.libraries("linux-x86_64")
        assert (path.name, path.read_bytes()) == ("library-1.so", b"operators")
        with pytest.raises(KeyError):
            active.libraries("linux-aarch64")
        assert again.find(NAME, blob_of(b"operators")) == path
    _spoil_records(tmp_path, b"no record at all")
    assert start().facts(NAME).active == 1
    path.write_bytes(b"tampered")
    damaged = start()
    assert damaged.active(NAME) is None
    assert "library-1.so is missing or not what was" in " ".join(damaged.troubles)


@pytest.mark.parametrize("role", ["library.", "library.-1", "library.1/../x", "other"])
def test_a_role_that_is_none_is_refused(folder: Path, role: str) -> None:
    """A record cannot name a file outside its slot."""
    record = json.loads((folder / "slots.json").read_bytes())
    kept = record["names"][NAME]
    for place in ("a", "b"):
        kept[place]["files"][role] = kept[place]["files"]["model"]
    with pytest.raises(DataError, match="contradict each other"):
        read_slots(json.dumps(record).encode(), name="the record")

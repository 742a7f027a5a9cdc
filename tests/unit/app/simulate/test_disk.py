from __future__ import annotations

import errno
from pathlib import Path

import pytest

from skerry.testing import PowerCut, SimulatedDisk

A, B = Path("f/a"), Path("f/b")


def outcomes(disk: SimulatedDisk) -> set[frozenset[tuple[Path, bytes]]]:
    """The possible states, each once."""
    return {frozenset(state.items()) for state in disk.after_power_cut()}


def test_a_running_program_sees_what_it_wrote() -> None:
    """Sync or not."""
    disk = SimulatedDisk({A: b"1"})
    disk.write(B, b"2")
    assert disk.files == {A: b"1", B: b"2"}
    disk.replace(B, A)
    assert disk.files == {A: b"2"}
    disk.remove(A)
    disk.remove(A)
    assert disk.files == {}


def test_unsynced_content_may_be_anything_between() -> None:
    """Old, empty, part, zeros, or new; also when the bytes are the same."""
    disk = SimulatedDisk({A: b"old!"})
    disk.write(A, b"new!")
    states = {b"old!", b"", b"ne", b"\0\0\0\0", b"new!"}
    assert outcomes(disk) == {frozenset({(A, content)}) for content in states}
    same = SimulatedDisk({A: b"old!"})
    same.write(A, b"old!")
    assert frozenset({(A, b"")}) in outcomes(same)


def test_synced_content_is_safe_but_its_name_is_not() -> None:
    """A new file's name needs the sync of its folder."""
    disk = SimulatedDisk()
    disk.write(A, b"new")
    disk.sync(A)
    assert outcomes(disk) == {frozenset(), frozenset({(A, b"new")})}
    disk.sync(A.parent)
    assert outcomes(disk) == {frozenset({(A, b"new")})}


def test_unsynced_renames_are_independent_and_atomic() -> None:
    """Either may have happened without the other; the target never is missing."""
    disk = SimulatedDisk({A: b"1", B: b"2", Path("f/c"): b"3"})
    disk.replace(A, B)
    disk.replace(Path("f/c"), Path("f/d"))
    assert len(outcomes(disk)) == 4
    assert all(B in state for state in disk.after_power_cut())


def test_the_sync_of_another_folder_does_not_count() -> None:
    """Each folder is flushed for itself."""
    disk = SimulatedDisk()
    disk.write(A, b"")
    disk.sync(A)
    disk.sync(Path("g"))
    assert frozenset() in outcomes(disk)


def test_after_the_cut_nothing_runs() -> None:
    """Each later call raises it again, so no clean-up can help."""
    disk = SimulatedDisk(cut_at=1)
    disk.write(A, b"1")
    for _ in range(2):
        with pytest.raises(PowerCut):
            disk.write(B, b"2")
    assert disk.calls == 2


def test_a_refused_write_leaves_a_part() -> None:
    """As a full disk does; the next call is served again."""
    disk = SimulatedDisk(refuse_at=0, refusal=errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        disk.write(A, b"1234")
    assert disk.files == {A: b"12"}
    disk.remove(A)
    assert disk.files == {}

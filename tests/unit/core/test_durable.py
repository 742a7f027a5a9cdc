"""Files are whole whatever happens: power cut or refusal, at each single call."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from skerry.core import durable
from skerry.core.durable import Disk
from skerry.core.errors import ConflictError, StorageError
from skerry.testing import PowerCut, SimulatedDisk

FOLDER = Path("models")
OLD = {FOLDER / "a": b"old a", FOLDER / "b": b"old b, longer"}
NEW = {"a": b"new a, longer still", "b": b"new b", "c": b"new c"}
Writer = Callable[[Disk], None]


def write_all(disk: Disk) -> None:
    """Put all the new files in place, as the code under test does."""
    durable.write_files(FOLDER, NEW, disk=disk)


def torn(states: list[Mapping[Path, bytes]]) -> list[Mapping[Path, bytes]]:
    """The states in which some file is neither the whole old nor the whole new one."""
    return [
        state
        for state in states
        if any(
            state.get(FOLDER / name) not in {OLD.get(FOLDER / name), content}
            for name, content in NEW.items()
        )
    ]


def states_after_a_cut_at_each_call(writer: Writer) -> list[Mapping[Path, bytes]]:
    """Everything the disk may hold, over all calls at which the power may be cut."""
    whole = SimulatedDisk(OLD)
    writer(whole)
    states: list[Mapping[Path, bytes]] = list(whole.after_power_cut())
    for call in range(whole.calls):
        disk = SimulatedDisk(OLD, cut_at=call)
        with pytest.raises(PowerCut):
            writer(disk)
        states += disk.after_power_cut()
    return states


def test_a_power_cut_at_any_call_leaves_whole_files() -> None:
    """Each file is the old one or the new one, or still missing."""
    states = states_after_a_cut_at_each_call(write_all)
    assert len(states) > 100
    assert torn(states) == []


def test_files_are_safe_once_the_call_returns() -> None:
    """A power cut after it changes nothing."""
    disk = SimulatedDisk(OLD)
    write_all(disk)
    expected = {FOLDER / name: content for name, content in NEW.items()}
    assert all(state == expected for state in disk.after_power_cut())


def test_one_file_is_the_same_as_many() -> None:
    """`write_file` leaves its neighbours alone."""
    disk = SimulatedDisk(OLD)
    durable.write_file(FOLDER / "a", b"new", disk=disk)
    assert disk.files == {**OLD, FOLDER / "a": b"new"}


def without(step: str) -> Writer:
    """A writer that forgets one kind of call; the tests above must notice."""

    def writer(disk: Disk) -> None:
        assert isinstance(disk, SimulatedDisk)
        real_sync, real_replace = disk.sync, disk.replace

        def sync(path: Path) -> None:
            kind = "folder" if path == FOLDER else "file"
            if step != f"sync of the {kind}":
                real_sync(path)

        def replace(source: Path, target: Path) -> None:
            if step == "rename":
                disk.write(target, disk.files[source])
            else:
                real_replace(source, target)

        disk.sync, disk.replace = sync, replace  # type: ignore[method-assign]
        write_all(disk)

    return writer


@pytest.mark.parametrize("step", ["sync of the file", "rename"])
def test_a_writer_that_forgets_a_step_is_found_out(step: str) -> None:
    """The check above can fail: each of these tears a file."""
    assert torn(states_after_a_cut_at_each_call(without(step))) != []


def test_a_writer_that_forgets_the_folder_is_found_out() -> None:
    """Without its sync a file that was promised may be gone after a power cut."""
    disk = SimulatedDisk(OLD)
    without("sync of the folder")(disk)
    expected = {FOLDER / name: content for name, content in NEW.items()}
    assert not all(state == expected for state in disk.after_power_cut())


@pytest.mark.parametrize("refusal", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_refusal_at_any_call_is_an_error_of_ours(refusal: int) -> None:
    """Files stay whole, nothing half-written is left, and the reason is named."""
    whole = SimulatedDisk(OLD)
    write_all(whole)
    for call in range(whole.calls):
        disk = SimulatedDisk(OLD, refuse_at=call, refusal=refusal)
        with pytest.raises(StorageError, match=os.strerror(refusal)):
            write_all(disk)
        assert torn([disk.files]) == []
        assert set(disk.files) <= {FOLDER / name for name in NEW}


def test_a_full_disk_leaves_none_of_several_files() -> None:
    """Nothing is renamed before everything is safely written."""
    for call in range(2 * len(NEW)):
        disk = SimulatedDisk(OLD, refuse_at=call)
        with pytest.raises(StorageError):
            write_all(disk)
        assert disk.files == OLD


def test_a_leftover_that_cannot_be_removed_does_not_hide_the_reason() -> None:
    """The first refusal is the one that is reported."""

    class Stuck(SimulatedDisk):
        def remove(self, path: Path) -> None:
            raise OSError(errno.EIO, f"cannot remove {path}")

    disk = Stuck(OLD, refuse_at=1)
    with pytest.raises(StorageError, match="No space left"):
        write_all(disk)
    (leftover,) = set(disk.files) - set(OLD)
    assert leftover.name.endswith(durable.TEMPORARY_SUFFIX)


def test_a_real_file_is_put_in_place(tmp_path: Path) -> None:
    """The disk of this machine behaves as the simulated one does."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    durable.write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_refusal_leaves_nothing(tmp_path: Path) -> None:
    """A folder stands where the file should: the error says so, no leftover stays."""
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(StorageError, match="Is a directory") as caught:
        durable.write_file(tmp_path / "net.onnx", b"new")
    assert "name of a file" in caught.value.hint
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """Folders are made by `make_folder`, never by the way."""
    with pytest.raises(StorageError, match="No such file"):
        durable.write_file(tmp_path / "none" / "net.onnx", b"new")


def test_folders_are_made_and_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new folder's parent is flushed, or its files could vanish with it."""
    synced: list[Path] = []
    monkeypatch.setattr(durable.REAL_DISK, "sync", synced.append)
    durable.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert sorted(synced) == [tmp_path, tmp_path / "a"]
    durable.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_where_a_folder_is_needed_is_refused(tmp_path: Path, place: str) -> None:
    """Whether it stands at the end of the path or in the middle."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        durable.make_folder(tmp_path / place)


def test_a_secret_is_its_owners_alone_from_the_first_moment(tmp_path: Path) -> None:
    """The private disk creates files that nobody else may read, however it is set."""
    before = os.umask(0)
    try:
        durable.write_file(tmp_path / "secret", b"1", disk=durable.PRIVATE_DISK)
        durable.write_file(tmp_path / "secret", b"2", disk=durable.PRIVATE_DISK)
    finally:
        os.umask(before)
    assert (tmp_path / "secret").read_bytes() == b"2"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    """The second is told who is there; after the first has left it may come in."""
    lock = tmp_path / "hub.lock"
    with (
        durable.hold(lock, who="hub"),
        pytest.raises(ConflictError, match="another hub runs in"),
        durable.hold(lock, who="hub"),
    ):
        pass
    with durable.hold(lock, who="hub"):
        pass
    with (
        pytest.raises(StorageError),
        durable.hold(tmp_path / "gone" / "hub.lock", who="hub"),
    ):
        pass

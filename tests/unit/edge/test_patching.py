"""A delta is applied from file to file, and a power cut costs only time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import DataError, StorageError
from skerry.core.release import Blob
from skerry.edge import patching
from skerry.edge.patching import patch_file
from skerry.evolve.delta import Read, diff

OLD = np.random.default_rng(4).normal(0, 30, 200_000).astype(np.int8).tobytes()
NEW = OLD[:90_000] + b"a new layer" + OLD[90_000:-7] + bytes(7)
WANTED = Blob.of(NEW)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The old blob, a delta, and where the new one goes."""
    old, delta = tmp_path / "old", tmp_path / "delta"
    old.write_bytes(OLD)
    delta.write_bytes(diff(OLD, NEW))
    return old, delta, tmp_path / "new"


def test_the_new_file_is_made(files: tuple[Path, Path, Path]) -> None:
    """Whatever lay there before; the old one stays."""
    files[2].write_bytes(b"junk" * 99)
    patch_file(*files, WANTED)
    assert files[2].read_bytes() == NEW
    assert files[0].read_bytes() == OLD


def test_a_power_cut_half_way_costs_only_time(
    files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves is not the new blob, and is made again."""

    def half(old: Read, delta: Read, *, largest_bytes: int) -> Iterator[bytes]:
        pieces = rebuild(old, delta, largest_bytes=largest_bytes)
        yield next(pieces)
        raise KeyboardInterrupt

    rebuild = patching.rebuild
    monkeypatch.setattr(patching, "rebuild", half)
    with pytest.raises(KeyboardInterrupt):
        patch_file(*files, WANTED)
    assert 0 < files[2].stat().st_size < len(NEW)
    assert files[0].read_bytes() == OLD
    monkeypatch.undo()
    patch_file(*files, WANTED)
    assert files[2].read_bytes() == NEW


@pytest.mark.parametrize("wanted", [Blob.of(b"other"), Blob.of(NEW + b"?")])
def test_what_was_not_wanted_is_removed(
    files: tuple[Path, Path, Path], wanted: Blob
) -> None:
    """A download does not go on behind it."""
    with pytest.raises(DataError):
        patch_file(*files, wanted)
    assert not files[2].exists()
    assert files[0].read_bytes() == OLD


def test_a_damaged_delta_leaves_nothing(files: tuple[Path, Path, Path]) -> None:
    """The old blob is untouched."""
    files[1].write_bytes(files[1].read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be applied"):
        patch_file(*files, WANTED)
    assert not files[2].exists()
    assert files[0].read_bytes() == OLD


def test_a_file_that_is_not_there(files: tuple[Path, Path, Path]) -> None:
    """The disk's refusal is told as such."""
    files[0].unlink()
    with pytest.raises(StorageError):
        patch_file(*files, WANTED)

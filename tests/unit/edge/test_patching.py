"""A delta is applied from file to file, and a power cut costs only time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import DataError, StorageError
from skerry.core.release import Blob
from skerry.edge import patching
from skerry.edge.patching import patch_file
from skerry.edge.sealed_vault import SealedVault
from skerry.edge.vault import CLEAR, DOWNLOADS, Vault
from skerry.evolve.delta import Read, diff
from skerry.evolve.trust.at_rest import DeviceKey

OLD = np.random.default_rng(4).normal(0, 30, 200_000).astype(np.int8).tobytes()
NEW = OLD[:90_000] + b"a new layer" + OLD[90_000:-7] + bytes(7)
WANTED = Blob.of(NEW)


Files = tuple[Path, Path, Path]


@pytest.fixture(params=["clear", "sealed"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    """What keeps the files."""
    key = DeviceKey(bytes(32))
    sealed = SealedVault(tmp_path, key, level="file")
    return sealed if request.param == "sealed" else CLEAR


@pytest.fixture
def files(tmp_path: Path, vault: Vault) -> Files:
    """The old blob, a delta, and where the new one goes."""
    downloads = tmp_path / DOWNLOADS
    downloads.mkdir()
    old, delta = tmp_path / "old", downloads / "delta"
    vault.write_file(old, OLD)
    grow(vault, delta, diff(OLD, NEW))
    return old, delta, downloads / "new"


def grow(vault: Vault, path: Path, content: bytes) -> None:
    """Write a download."""
    with io.BufferedWriter(vault.open_growing(path)) as file:
        file.truncate(0)
        file.write(content)


def test_the_new_file_is_made(vault: Vault, files: Files) -> None:
    """Whatever lay there before; the old one stays."""
    grow(vault, files[2], b"junk" * 99)
    patch_file(vault, *files, WANTED)
    assert vault.read(files[2]) == NEW
    assert vault.read(files[0]) == OLD


def test_a_power_cut_half_way_costs_only_time(
    vault: Vault, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves is not the new blob, and is made again."""

    def half(old: Read, delta: Read, *, largest_bytes: int) -> Iterator[bytes]:
        pieces = rebuild(old, delta, largest_bytes=largest_bytes)
        yield next(pieces)
        raise KeyboardInterrupt

    rebuild = patching.rebuild
    monkeypatch.setattr(patching, "rebuild", half)
    with pytest.raises(KeyboardInterrupt):
        patch_file(vault, *files, WANTED)
    assert 0 < vault.size_bytes(files[2]) < len(NEW)
    assert vault.read(files[0]) == OLD
    monkeypatch.undo()
    patch_file(vault, *files, WANTED)
    assert vault.read(files[2]) == NEW


@pytest.mark.parametrize("wanted", [Blob.of(b"other"), Blob.of(NEW + b"?")])
def test_what_was_not_wanted_is_removed(
    vault: Vault, files: Files, wanted: Blob
) -> None:
    """A download does not go on behind it."""
    with pytest.raises(DataError):
        patch_file(vault, *files, wanted)
    assert not files[2].exists()
    assert vault.read(files[0]) == OLD


def test_a_damaged_delta_leaves_nothing(vault: Vault, files: Files) -> None:
    """The old blob is untouched."""
    grow(vault, files[1], vault.read(files[1])[:-40])
    with pytest.raises(DataError, match="cannot be applied"):
        patch_file(vault, *files, WANTED)
    assert not files[2].exists()
    assert vault.read(files[0]) == OLD


def test_a_file_that_is_not_there(vault: Vault, files: Files) -> None:
    """The disk's refusal is told as such."""
    files[0].unlink()
    with pytest.raises(StorageError):
        patch_file(vault, *files, WANTED)

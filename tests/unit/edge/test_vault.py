from __future__ import annotations

import asyncio
import gc
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.comms.download import download
from skerry.core.errors import DataError, LinkError, RuntimeFailure, TrustError
from skerry.core.files import name_pieces
from skerry.core.model import Model, ModelFormat
from skerry.core.seams import LoadOptions
from skerry.edge.sealed_vault import SealedVault
from skerry.edge.vault import (
    CLEAR,
    SEALED_MAGIC,
    LendingRuntime,
    Vault,
    as_they_are,
    lending,
)
from skerry.evolve.trust.at_rest import DeviceKey
from skerry.runtimes.null import NullRuntime

KEY = DeviceKey(b"k" * 32)
CONTENT = b"the weights of a model " * 9999


@pytest.fixture(params=["clear", "sealed"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    """Of either kind."""
    if request.param == "clear":
        return CLEAR
    return SealedVault(tmp_path, KEY, level="file")


@pytest.fixture
def sealed(tmp_path: Path) -> SealedVault:
    """One with a key."""
    return SealedVault(tmp_path, KEY, level="file")


def write(vault: Vault, folder: Path, content: bytes = CONTENT) -> Path:
    """Put a model in place."""
    path = folder / "model.onnx"
    vault.write_file(path, content)
    return path


def open_files() -> int:
    """How many files this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


def model_at(path: Path, content: bytes = CONTENT) -> Model:
    """A model with no signature."""
    blob = name_pieces([content])
    return Model(
        path=path,
        format=ModelFormat.ONNX,
        inputs=(),
        outputs=(),
        sha256=blob.sha256,
        size_bytes=blob.size_bytes,
    )


def test_a_file_is_what_was_written(vault: Vault, tmp_path: Path) -> None:
    """Read at once, in pieces, from a place on; its size and its hash are known."""
    path = write(vault, tmp_path)
    assert vault.read(path) == b"".join(vault.pieces(path)) == CONTENT
    assert vault.size_bytes(path) == len(CONTENT)
    assert vault.holds(path, name_pieces([CONTENT]))
    assert not vault.holds(path, name_pieces([CONTENT[:-1] + b"?"]))
    assert not vault.holds(tmp_path / "none", name_pieces([CONTENT]))
    with vault.open(path) as file:
        file.seek(70_000)
        assert file.read(5) == CONTENT[70_000:70_005]


def test_files_are_put_in_place_together(vault: Vault, tmp_path: Path) -> None:
    """At once or in pieces."""
    vault.write_files(tmp_path, {"a": b"1", "b": iter((b"2", b"3"))})
    assert (vault.read(tmp_path / "a"), vault.read(tmp_path / "b")) == (b"1", b"23")


def test_a_download_is_written_at_once(vault: Vault, tmp_path: Path) -> None:
    """Over what came before."""
    folder = tmp_path / "downloads" / "meter"
    folder.mkdir(parents=True)
    path = folder / "x.part"
    for content in (CONTENT, b"less"):
        with io.BufferedWriter(vault.open_growing(path)) as file:
            file.truncate(0)
            file.write(content)
        assert vault.read(path) == content


def test_what_is_lent_can_be_opened_by_anybody(vault: Vault, tmp_path: Path) -> None:
    """Under its own name; afterwards nothing of it is left."""
    path = write(vault, tmp_path)
    before = open_files()
    with vault.lend(path) as lent:
        assert lent.name == path.name
        assert lent.read_bytes() == CONTENT
        if vault is not CLEAR:
            with lent.open("rb+") as file, pytest.raises(PermissionError):
                os.write(file.fileno(), b"edited")
    assert lent.exists() == (vault is CLEAR)
    assert lent.parent.exists() == (vault is CLEAR)
    gc.collect()
    assert open_files() == before


def test_a_sealed_file_says_nothing(sealed: SealedVault, tmp_path: Path) -> None:
    """And without the key it is not taken for a damaged one."""
    path = write(sealed, tmp_path)
    assert b"weights" not in path.read_bytes()
    assert path.read_bytes().startswith(SEALED_MAGIC)
    with pytest.raises(TrustError, match="is sealed, and the key is not here"):
        CLEAR.read(path)


def test_a_file_is_bound_to_its_place(sealed: SealedVault, tmp_path: Path) -> None:
    """One that was moved is as bad as one that was edited."""
    path = write(sealed, tmp_path)
    moved = tmp_path / "other.onnx"
    moved.write_bytes(path.read_bytes())
    with pytest.raises(DataError):
        sealed.read(moved)
    download = tmp_path / "downloads" / "model.onnx"
    download.parent.mkdir()
    download.write_bytes(path.read_bytes())
    with pytest.raises(DataError):
        sealed.read(download)


def test_an_edited_model_is_not_loaded(vault: Vault, tmp_path: Path) -> None:
    """Even where somebody puts another whole file in its place."""
    path = write(vault, tmp_path)
    runtime = LendingRuntime(NullRuntime(), lending(vault))
    runtime.load(model_at(path), LoadOptions(libraries=())).close()
    assert runtime.profile(model_at(path), {}, LoadOptions(), repeats=1).repeats == 1
    write(vault, tmp_path, b"another model")
    with pytest.raises(RuntimeFailure, match=r"model\.onnx is not what was installed"):
        runtime.load(model_at(path), LoadOptions())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(RuntimeFailure, match="is not what was installed"):
        runtime.load(model_at(path), LoadOptions())
    path.unlink()
    with pytest.raises(RuntimeFailure, match="is not what was installed"):
        runtime.load(model_at(path), LoadOptions())


def test_files_that_nobody_keeps_are_lent_as_they_are(tmp_path: Path) -> None:
    """For `skerry serve`."""
    model, options = model_at(tmp_path / "m"), LoadOptions()
    with as_they_are(model, options) as lent:
        assert lent == (model, options)


class Breaking:
    """A store whose stream breaks once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give some of it, or the rest."""
        del sha256
        self.asked.append(offset)
        stop = 150_000 if len(self.asked) == 1 else end or len(CONTENT)
        for at in range(offset, stop, 7000):
            yield CONTENT[at : min(at + 7000, stop)]


def test_a_download_goes_on_and_is_never_in_the_clear(
    sealed: SealedVault, tmp_path: Path
) -> None:
    """What came before is not fetched again, but for what was torn."""
    part, store = tmp_path / "downloads" / "x.part", Breaking()
    part.parent.mkdir()
    blob = name_pieces([CONTENT])

    def fetch() -> None:
        asyncio.run(download(store, blob, part, opens=sealed.open_growing))

    with pytest.raises(LinkError):
        fetch()
    assert b"weights" not in part.read_bytes()
    fetch()
    assert store.asked == [0, 150_000]
    assert sealed.holds(part, blob)
    assert b"weights" not in part.read_bytes()
    lies = bytearray(part.read_bytes())
    lies[100_000] ^= 1
    part.write_bytes(lies)
    assert not sealed.holds(part, blob)
    fetch()
    assert sealed.holds(part, blob)

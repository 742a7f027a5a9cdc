from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.errors import ConflictError, DataError, SkerryError, UsageError
from skerry.edge.protocol.regions import Place, Region, Regions

SIZE = 8192


def _object(folder: Path, key: str = "k", size_bytes: int = SIZE) -> Path:
    path = folder / key
    path.write_bytes(bytes(range(256)) * (size_bytes // 256))
    return path


def _region(name: str = "r", **changed: Any) -> Region:
    fields: dict[str, Any] = {"key": "/k", "offset": 0, "size_bytes": SIZE}
    return Region(name=name, **{**fields, **changed})


def test_a_region_is_memory_that_both_see(tmp_path: Path) -> None:
    """What one writes, the other reads; nothing is copied."""
    path = _object(tmp_path)
    regions = Regions(folder=tmp_path)
    regions.register(_region(offset=4100, size_bytes=512))
    view = regions.view(Place(region="r", offset=2, size_bytes=4))
    assert bytes(view) == bytes([6, 7, 8, 9])
    assert regions.write(Place(region="r"), memoryview(b"tide"), name="y") == 4
    assert path.read_bytes()[4100:4104] == b"tide"
    assert bytes(view) == b"de\x08\x09"
    assert regions.status() == (_region(offset=4100, size_bytes=512),)
    assert regions.status("r") == regions.status()


def test_a_view_outlives_its_region(tmp_path: Path) -> None:
    """A client may unregister while an inference still reads."""
    _object(tmp_path)
    regions = Regions(folder=tmp_path)
    regions.register(_region())
    array = np.frombuffer(regions.view(Place(region="r")), np.uint8)
    regions.unregister()
    assert array[255] == 255
    assert regions.status() == ()
    regions.unregister("r")


@pytest.mark.parametrize(
    ("region", "kind", "what"),
    [
        (_region(key=""), DataError, "cannot be the key"),
        (_region(key="/"), DataError, "cannot be the key"),
        (_region(key="//k"), DataError, "cannot be the key"),
        (_region(key="../k"), DataError, "cannot be the key"),
        (_region(key=".."), DataError, "cannot be the key"),
        (_region(key="k\0"), DataError, "cannot be the key"),
        (_region(key="k" * 256), DataError, "cannot be the key"),
        (_region(name=""), DataError, "cannot be the name"),
        (_region(size_bytes=0), DataError, "has 0 bytes"),
        (_region(offset=-1), DataError, "from -1 on"),
        (_region(offset=1), DataError, "ends at 8193"),
        (_region(size_bytes=1 << 29), DataError, "ends at"),
        (_region(size_bytes=1 << 62), ConflictError, "expected at most"),
        (_region(key="absent"), UsageError, "cannot be opened"),
        (_region(key="link"), UsageError, "cannot be opened"),
        (_region(key="folder"), UsageError, "cannot be opened"),
        (_region(key="pipe"), UsageError, "is not the gateway's"),
    ],
)
def test_what_cannot_be_a_region_is_refused(
    region: Region, kind: type[SkerryError], what: str, tmp_path: Path
) -> None:
    """A link, a pipe, another place, too many bytes."""
    path = _object(tmp_path)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = _descriptors()
    regions = Regions(folder=tmp_path)
    with pytest.raises(kind, match=what):
        regions.register(region)
    assert regions.status() == ()
    assert _descriptors() == before


def test_what_is_another_users_is_not_opened(tmp_path: Path) -> None:
    """Who asks over the network must not read what is not its own."""
    _object(tmp_path)
    regions = Regions(folder=tmp_path, user=lambda: os.geteuid() + 1)
    with pytest.raises(UsageError, match="is not the gateway's user's"):
        regions.register(_region())


def test_regions_are_bounded(tmp_path: Path) -> None:
    """In number and in bytes; and a name is given once."""
    _object(tmp_path)
    regions = Regions(folder=tmp_path, most=2, largest_bytes=SIZE + 10)
    regions.register(_region())
    with pytest.raises(ConflictError, match="registered already"):
        regions.register(_region())
    with pytest.raises(ConflictError, match="expected at most"):
        regions.register(_region("s", size_bytes=11))
    regions.register(_region("s", size_bytes=10))
    with pytest.raises(ConflictError, match="expected at most 2"):
        regions.register(_region("t", size_bytes=1))


def test_the_region_of_a_client_that_died_is_dropped(tmp_path: Path) -> None:
    """Its object was unlinked; another client may take the name."""
    path = _object(tmp_path)
    regions = Regions(folder=tmp_path)
    before = _descriptors()
    regions.register(_region())
    path.unlink()
    assert regions.status() == ()
    assert _descriptors() == before
    _object(tmp_path)
    regions.register(_region())
    assert len(regions.status()) == 1


def test_an_object_that_was_cut_short_is_not_read(tmp_path: Path) -> None:
    """Reading it would end the process."""
    path = _object(tmp_path)
    regions = Regions(folder=tmp_path)
    regions.register(_region())
    os.truncate(path, 4096)
    with pytest.raises(DataError, match="was cut short"):
        regions.view(Place(region="r", size_bytes=1))
    assert regions.status() == ()


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda regions: regions.view(Place(region="s")), "no shared-memory region"),
        (lambda regions: regions.status("s"), "no shared-memory region"),
        (
            lambda regions: regions.view(Place(region="r", offset=SIZE, size_bytes=1)),
            "are asked for",
        ),
        (
            lambda regions: regions.view(Place(region="r", offset=SIZE + 1)),
            "are asked for",
        ),
        (
            lambda regions: regions.view(Place(region="r", offset=-1, size_bytes=1)),
            "are asked for",
        ),
        (
            lambda regions: regions.write(
                Place(region="r", size_bytes=3), memoryview(b"tide"), name="y"
            ),
            "output 'y' has 4 bytes",
        ),
        (lambda _: Place(region="r").of(None), "is not offered"),
    ],
)
def test_a_place_lies_in_its_region(
    ask: Callable[[Regions], object], what: str, tmp_path: Path
) -> None:
    """What lies outside is refused."""
    _object(tmp_path)
    regions = Regions(folder=tmp_path)
    regions.register(_region())
    with pytest.raises(UsageError, match=what):
        ask(regions)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())

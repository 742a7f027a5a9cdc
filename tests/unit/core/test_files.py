from __future__ import annotations

from pathlib import Path

import pytest

from skerry.core.errors import DataError, UsageError
from skerry.core.files import read_file


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Up to the very byte that is too many."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert read_file(path, largest_bytes=3) == b"abc"
    with pytest.raises(UsageError, match="more than 2 bytes"):
        read_file(path, largest_bytes=2)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """By the error that the caller promises."""
    with pytest.raises(DataError, match=r"cannot read .*none"):
        read_file(tmp_path / "none", largest_bytes=1, error=DataError)
    with pytest.raises(UsageError, match="cannot read"):
        read_file(tmp_path, largest_bytes=1)

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.core.errors import DataError
from skerry.tasks import _folder
from skerry.tasks._folder import Entry, list_entries, parse_labels


def test_labels_csv_as_spreadsheets_write_it() -> None:
    """A byte order mark, quotes, line breaks and extra columns are understood."""
    content = '\ufefffile,label,note\r\n"a,b.png","x ""y""",1\r\nsub/c.png, z,\r\n'
    assert parse_labels(content.encode(), name="l") == (
        Entry(file="a,b.png", label='x "y"'),
        Entry(file="sub/c.png", label=" z"),
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "has the columns none"),
        (b"path,class\na,b\n", "columns path, class; expected file and label"),
        (b"file,label\n", "lists no pictures"),
        (b"file,label\na.png\n", "line 2: a value is missing"),
        (b"file,label\na.png,1\n,2\n", "line 3: a value is missing"),
        (b"file,label\n../a.png,1\n", "leads out of the folder"),
        (b"file,label\n/etc/passwd,1\n", "leads out of the folder"),
        (b"file,label\na\0.png,1\n", r"leads out of the folder|not UTF-8 CSV"),
        (b"file,label\n\xff.png,1\n", "not UTF-8 CSV"),
        (b'file,label\n"a.png,1\n', "not UTF-8 CSV"),
        (b"file,label\n" + b"a" * 200_000 + b",1\n", "not UTF-8 CSV"),
    ],
)
def test_bad_labels_csv_is_refused(content: bytes, what: str) -> None:
    """Each fault is a DataError that names the file and, if it can, the line."""
    with pytest.raises(DataError, match=what) as caught:
        parse_labels(content, name="labels.csv")
    assert "labels.csv" in caught.value.what


def test_a_listed_file_must_be_there(tmp_path: Path) -> None:
    """A picture that labels.csv names and that is missing is named."""
    (tmp_path / "labels.csv").write_text("file,label\nnone.png,1\n")
    with pytest.raises(DataError, match=r"'none\.png', which is not there"):
        list_entries(tmp_path)


def test_a_huge_labels_csv_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """labels.csv is bounded before it is read."""
    (tmp_path / "labels.csv").write_text("file,label\n")
    monkeypatch.setattr(_folder, "LARGEST_LABELS_BYTES", 5)
    with pytest.raises(DataError, match="expected at most 5"):
        list_entries(tmp_path)


def test_a_labels_csv_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A folder called labels.csv is the system's refusal, as a DataError."""
    (tmp_path / "labels.csv").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        list_entries(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    """Hidden folders and other files hold no pictures."""
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="holds no pictures"):
        list_entries(tmp_path)

"""Find the pictures or recordings of a folder, and their labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skerry.core.errors import DataError
from skerry.tasks import _image
from skerry.tasks._annotations import (
    CORNER_COLUMNS,
    Annotation,
    parse_coco,
    parse_row,
)

LABELS_FILE = "labels.csv"
COCO_FILE = "coco.json"
LARGEST_LABELS_BYTES = 1 << 26
LARGEST_COCO_BYTES = 1 << 29

_COLUMNS = ("file", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A picture or a recording that stands in a folder.

    Attributes:
        file: Its path under the folder, with slashes.
        label: What the folder says of it, as text; None where it says nothing.
        boxes: The objects in it; None where the folder does not tell of objects.
    """

    file: str
    label: str | None
    boxes: tuple[Annotation, ...] | None = None


def list_entries(
    folder: Path, suffixes: Container[str] = _image.SUFFIXES
) -> tuple[Entry, ...]:
    """List a folder's pictures, or files of other kinds; none is read.

    Pictures are those of `labels.csv` where there is one, or of a `coco.json` in COCO's
    form, in its order. Otherwise those of the sub-folders, each named after a class;
    or, where there are none either, those of the folder itself, unlabelled. These are
    in the order of names.

    Args:
        folder: The folder.
        suffixes: How the files' names end, in lower case, where nothing names them.

    Raises:
        DataError: `labels.csv` or `coco.json` is damaged or names a file that is not
            there; or there are no pictures.
    """
    try:
        if (folder / LABELS_FILE).exists():
            return _read_labels(folder)
        if (folder / COCO_FILE).exists():
            return _read_coco(folder)
        entries = _list_classes(folder, suffixes) or _list_files(
            folder, suffixes, "", None
        )
    except OSError as error:
        raise DataError(
            f"cannot read {folder}: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    if not entries:
        raise DataError(
            f"{folder} holds no pictures",
            hint=f"Give a {LABELS_FILE} with the columns file and label, or one "
            "sub-folder a class.",
        )
    return tuple(entries)


def parse_labels(content: bytes, *, name: str) -> tuple[Entry, ...]:
    """Parse a `labels.csv`: a header, then one row a picture, or one an object.

    Args:
        content: UTF-8; other columns than `file` and `label` are passed over. With
            `x_min`, `y_min`, `x_max` and `y_max` each row is an object, with
            `is_crowd` and `area` if they are there; a row without a label lists a
            picture without objects.
        name: Whose content it is, for messages.

    Raises:
        DataError: It is not UTF-8 or not CSV, a column or a value is missing, or a
            file's path leads out of the folder.
    """
    try:
        text = content.decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = list(rows.fieldnames or ())
        if not set(_COLUMNS) <= set(columns):
            raise DataError(
                f"{name} has the columns {', '.join(columns)[:80] or 'none'}; "
                "expected file and label",
                hint="Its first line is: file,label",
            )
        if set(CORNER_COLUMNS) <= set(columns):
            entries = _group_boxes(rows, name)
        else:
            entries = tuple(
                _to_entry(row, f"{name}, line {rows.line_num}") for row in rows
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{name} is not UTF-8 CSV: {error}",
            hint="Its first line is: file,label",
        ) from error
    if not entries:
        raise DataError(f"{name} lists no pictures", hint="Add one line a picture.")
    return entries


def _read_labels(folder: Path) -> tuple[Entry, ...]:
    path = folder / LABELS_FILE
    content = _read(path, LARGEST_LABELS_BYTES)
    return _check_files(parse_labels(content, name=str(path)), folder, path)


def _read_coco(folder: Path) -> tuple[Entry, ...]:
    path = folder / COCO_FILE
    found = parse_coco(_read(path, LARGEST_COCO_BYTES), name=str(path))
    if not found:
        raise DataError(f"{path} lists no pictures", hint="Add them to its images.")
    entries = tuple(
        Entry(file=_check_path(file, str(path)), label=None, boxes=boxes)
        for file, boxes in found.items()
    )
    return _check_files(entries, folder, path)


def _read(path: Path, largest_bytes: int) -> bytes:
    size_bytes = path.stat().st_size
    if size_bytes > largest_bytes:
        raise DataError(
            f"{path} has {size_bytes} bytes, expected at most {largest_bytes}",
            hint="Give fewer pictures, or split them.",
        )
    return path.read_bytes()


def _check_files(
    entries: tuple[Entry, ...], folder: Path, path: Path
) -> tuple[Entry, ...]:
    for entry in entries:
        if not (folder / entry.file).is_file():
            raise DataError(
                f"{path} names {entry.file!r}, which is not there",
                hint=f"Paths are relative to the folder of {path.name}.",
            )
    return entries


def _group_boxes(rows: csv.DictReader[str], name: str) -> tuple[Entry, ...]:
    """One entry a picture, in the order in which they first appear."""
    found: dict[str, list[Annotation]] = {}
    for row in rows:
        line = f"{name}, line {rows.line_num}"
        objects = found.setdefault(_to_entry(row, line).file, [])
        annotation = parse_row(row, line=line)
        if annotation is not None:
            objects.append(annotation)
    return tuple(
        Entry(file=file, label=None, boxes=tuple(objects))
        for file, objects in found.items()
    )


def _to_entry(row: dict[str, str], line: str) -> Entry:
    file, label = row["file"], row["label"]
    if not file or label is None:
        raise DataError(
            f"{line}: a value is missing", hint="Each line has a file and a label."
        )
    return Entry(file=_check_path(file, line), label=label)


def _check_path(file: str, place: str) -> str:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\0" in file or not path.name:
        raise DataError(
            f"{place}: {file!r} leads out of the folder",
            hint="Paths are relative to the folder of the labels.",
        )
    return file


def _list_classes(folder: Path, suffixes: Container[str]) -> list[Entry]:
    entries: list[Entry] = []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            entries += _list_files(folder, suffixes, f"{child.name}/", child.name)
    return entries


def _list_files(
    folder: Path, suffixes: Container[str], prefix: str, label: str | None
) -> list[Entry]:
    return [
        Entry(file=prefix + path.name, label=label)
        for path in sorted((folder / prefix).iterdir())
        if path.suffix.lower() in suffixes and path.is_file()
    ]

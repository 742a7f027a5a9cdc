"""Report files: `skerry.core.report.Report` as JSON, in and out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from skerry.core.durable import write_file
from skerry.core.errors import UsageError
from skerry.core.files import read_file
from skerry.core.report import REPORT_SCHEMA, LayerRow, Report

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_REPORT_BYTES = 64 << 20
"""A report of 100,000 operators has about 25 MB."""

_SCHEMA = re.compile(r"skerry\.report/(\d{1,9})")
_NEWEST = int(REPORT_SCHEMA.rpartition("/")[2])


def encode_report(report: Report) -> bytes:
    """Write a report as JSON, indented, for people read it too."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def decode_report(content: bytes, *, name: str) -> Report:
    """Read a report from JSON; keys that this version does not know are ignored.

    Args:
        content: The JSON text.
        name: Whose it is, for messages.

    Raises:
        UsageError: It is not JSON, not a report, or of a newer schema.
    """
    hint = "Give a report.json that skerry compress wrote."
    try:
        _check_schema(content, name)
        return msgspec.json.decode(content, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is not a report: {error}", hint=hint) from error


def read_report(path: Path) -> Report:
    """Read a report file.

    Raises:
        UsageError: It cannot be read, is larger than 64 MiB, or is not a report.
    """
    content = read_file(path, largest_bytes=LARGEST_REPORT_BYTES)
    return decode_report(content, name=str(path))


def write_report(report: Report, path: Path) -> None:
    """Put a report file in place; its folder exists.

    Raises:
        StorageError: The disk refused.
    """
    write_file(path, encode_report(report))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Operators that stay in higher precision for one reason.

    Attributes:
        why: The reason.
        operators: How many of which types, such as `3 Conv, 1 Div`.
        names: The names of all.
    """

    why: str
    operators: str
    names: tuple[str, ...]


def kept_operators(report: Report) -> list[Kept]:
    """Group the operators that stay in higher precision by their reason."""
    groups: dict[str, list[LayerRow]] = {}
    for layer in report.layers:
        if layer.why:
            groups.setdefault(layer.why, []).append(layer)
    kept = []
    for why, layers in groups.items():
        counts = Counter(layer.op_type for layer in layers).most_common()
        operators = ", ".join(f"{number} {op_type}" for op_type, number in counts)
        names = tuple(layer.name for layer in layers)
        kept.append(Kept(why=why, operators=operators, names=names))
    return kept


class _Schema(msgspec.Struct):
    schema: str


def _check_schema(content: bytes, name: str) -> None:
    schema = msgspec.json.decode(content, type=_Schema).schema
    found = _SCHEMA.fullmatch(schema)
    if found is None:
        raise UsageError(
            f"{name} has the schema {schema[:80]!r}, expected {REPORT_SCHEMA!r}",
            hint="Is this the right file?",
        )
    if int(found[1]) > _NEWEST:
        raise UsageError(
            f"{name} has the schema {schema[:80]!r}, this version reads up to "
            f"{REPORT_SCHEMA!r}",
            hint="A newer Skerry wrote it: pip install --upgrade skerry",
        )

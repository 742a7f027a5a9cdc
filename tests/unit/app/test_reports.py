"""Report files: in, out, and readable for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.app import reports
from skerry.app.reports import decode_report, encode_report, read_report, write_report
from skerry.core.errors import StorageError, UsageError
from skerry.core.report import Report
from tests.reports import BARE, DETAILED, FULL

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize("report", [FULL, BARE, DETAILED])
def test_round_trip(report: Report, tmp_path: Path) -> None:
    """What is written is read back the same."""
    path = tmp_path / "report.json"
    write_report(report, path)
    assert read_report(path) == report


@pytest.mark.parametrize(
    ("file", "report"), [("report-1.json", FULL), ("report-1-operators.json", DETAILED)]
)
def test_the_golden_files_are_readable_for_ever(file: str, report: Report) -> None:
    """What version 1 wrote, before and after it had operators' rows, says the same."""
    assert read_report(GOLDEN / file) == report


def test_unknown_keys_are_ignored() -> None:
    """A later version of the same schema may add keys."""
    content = encode_report(BARE).replace(b'{\n "schema"', b'{"new": 1, "schema"', 1)
    assert decode_report(content, name="r") == BARE


@pytest.mark.parametrize(
    ("schema", "hint"),
    [
        ("skerry.report/2", "upgrade"),
        ("skerry.report/999999999", "upgrade"),
        ("skerry.report/9999999999", "right file"),
        ("skerry.task/1", "right file"),
        ("", "right file"),
    ],
)
def test_other_schemas_are_refused(schema: str, hint: str) -> None:
    """A newer report asks for a newer Skerry; another document is another one."""
    content = encode_report(BARE).replace(b"skerry.report/1", schema.encode())
    with pytest.raises(UsageError) as raised:
        decode_report(content, name="r.json")
    assert "r.json" in raised.value.what
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"schema": 1}',
        b'{"schema": "skerry.report/1"}',
        b"\xff\xfe",
        b'{"schema": "skerry.report/1", "model": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_report_is_refused(content: bytes) -> None:
    """Other content is an error of the user's, in one line."""
    with pytest.raises(UsageError, match="is not a report"):
        decode_report(content, name="r.json")


def test_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file, a folder, and one that is far too large are errors."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_report(path)
    monkeypatch.setattr(reports, "LARGEST_REPORT_BYTES", 10)
    (tmp_path / "large.json").write_bytes(encode_report(BARE))
    with pytest.raises(UsageError, match="more than 10 bytes"):
        read_report(tmp_path / "large.json")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A report cannot be put where no folder is."""
    with pytest.raises(StorageError):
        write_report(BARE, tmp_path / "none" / "report.json")

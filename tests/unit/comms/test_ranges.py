from __future__ import annotations

import pytest

from skerry.comms.ranges import read_content_range, read_range, write_range


@pytest.mark.parametrize(
    ("offset", "end"), [(0, None), (0, 1), (5, None), (5, 9), (999, 1000)]
)
def test_what_is_asked_for_is_what_is_understood(offset: int, end: int | None) -> None:
    """Both sides mean the same bytes."""
    header = write_range(offset, end).get("Range")
    read = read_range(header, 1000) or (0, 999)
    assert read == (offset, (1000 if end is None else end) - 1)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-9/10", (0, 10)),
        ("bytes 5-5/*", (5, 6)),
        ("bytes 5-4/10", None),
        ("bytes 0-10/10", None),
        ("bytes */10", None),
        ("bytes 0-9", None),
        ("items 0-9/10", None),
        ("bytes \uff10-\uff19/10", None),
        ("bytes 0-9999999999999999999/*", None),
        ("", None),
    ],
)
def test_an_answers_range_is_read(
    header: str, expected: tuple[int, int] | None
) -> None:
    """Where it makes no sense, nothing is taken."""
    assert read_content_range(header) == expected

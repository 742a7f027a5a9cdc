"""One range of bytes in HTTP, asked for and answered (RFC 9110, section 14)."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)", re.ASCII)


def write_range(offset: int, end: int | None) -> dict[str, str]:
    """The header that asks for the bytes from an offset on, and before an end.

    Example:
        >>> write_range(0, None), write_range(5, 10)
        ({}, {'Range': 'bytes=5-9'})
    """
    if not offset and end is None:
        return {}
    last = "" if end is None else end - 1
    return {"Range": f"bytes={offset}-{last}"}


def read_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """Read a Range header.

    Args:
        header: Its value, or None.
        size_bytes: How many bytes there are.

    Returns:
        The first and the last byte; the first after the last where the range lies
        outside; None where all is to be sent, as for several ranges or a unit that
        nobody knows.

    Example:
        >>> read_range("bytes=2-", 10), read_range("bytes=-3", 10)
        ((2, 9), (7, 9))
    """
    match = _RANGE.fullmatch(header or "")
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        return size_bytes - min(int(match[2]), size_bytes), size_bytes - 1
    first, last = int(match[1]), min(int(match[2] or size_bytes), size_bytes - 1)
    if match[2] and int(match[2]) < first:
        return None
    return first, last


def read_content_range(header: str) -> tuple[int, int] | None:
    """Read the Content-Range header of an answer with status 206.

    Returns:
        Where its bytes begin, and where those after them would; None where the header
        makes no sense.

    Example:
        >>> read_content_range("bytes 5-9/10"), read_content_range("bytes */10")
        ((5, 10), None)
    """
    match = _CONTENT_RANGE.fullmatch(header)
    if not match:
        return None
    first, last = int(match[1]), int(match[2])
    if last < first or (match[3] != "*" and last >= int(match[3])):
        return None
    return first, last + 1

"""Read a whole file from outside: bounded in size, with an error that says which."""

from __future__ import annotations

from pathlib import Path

from skerry.core.errors import DataError, UsageError

LARGEST_FILE_BYTES = 1 << 28
"""More than any part of a release but its model has."""


def read_file(
    path: Path,
    *,
    largest_bytes: int = LARGEST_FILE_BYTES,
    error: type[UsageError | DataError] = UsageError,
) -> bytes:
    """Read a file, unless it is too large to be what it is meant to be.

    Args:
        path: The file.
        largest_bytes: Most bytes that it may have.
        error: What is raised.

    Raises:
        UsageError, or what `error` says: It cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest_bytes + 1)
    except OSError as problem:
        raise error(
            f"cannot read {path}: {problem.strerror or problem}",
            hint="Check the path and its permissions.",
        ) from problem
    if len(content) > largest_bytes:
        raise error(
            f"{path} has more than {largest_bytes} bytes, the most expected",
            hint="Is this the right file?",
        )
    return content

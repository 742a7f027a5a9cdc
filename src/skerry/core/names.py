"""Names: what may be one, and what was meant by a mistyped one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from skerry.core.errors import UsageError

LONGEST_NAME = 63
"""Most characters of the name of a device, a tenant, a release or a rollout."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def check_name(name: str, *, kind: str) -> str:
    """Check the name of a device, a tenant, a release or a rollout.

    A name stands in topics, in paths and in the names of files, so it is a host label
    of RFC 1123, section 2.1: lower-case letters, digits and inner hyphens.

    Args:
        name: What is to be a name.
        kind: What it names, for the message.

    Returns:
        The name.

    Raises:
        UsageError: It is not a name.
    """
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} cannot be the name of a {kind}",
            hint=f"At most {LONGEST_NAME} of: a-z, 0-9, and hyphens within.",
        )
    return name


def claim_name(wish: str, taken: set[str]) -> str:
    """Return the wish, with a number behind it if it is taken; it is taken then."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    taken.add(name)
    return name


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the known word nearest to a mistyped one, or list the known ones.

    Args:
        name: What was typed.
        known: The words that would have been right.

    Returns:
        A sentence for the hint of an error, such as `Did you mean 'resize'?`.
    """
    # Slow to import, and few have mistyped anything.
    import difflib

    words = sorted(known)
    near = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(words)}." if words else "Nothing is known here."

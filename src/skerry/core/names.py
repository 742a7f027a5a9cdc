"""Names that a person typed: find what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the known word nearest to a mistyped one, or list the known ones.

    Args:
        name: What was typed.
        known: The words that would have been right.

    Returns:
        A sentence for the hint of an error, such as `Did you mean 'resize'?`.
    """
    words = sorted(known)
    near = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(words)}." if words else "Nothing is known here."

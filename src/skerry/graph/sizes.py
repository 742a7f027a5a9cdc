"""What is known of a shape, from the file and from inference together."""

from __future__ import annotations

Sizes = tuple[int | str | None, ...]
"""A number, a symbol or nothing for each dimension."""


def merge_sizes(known: Sizes | None, inferred: Sizes) -> Sizes:
    """Take what inference found, and what the file says where that is more.

    Args:
        known: As the file has them; None where it says nothing.
        inferred: As inference found them; it makes up symbols.
    """
    if known is None or len(known) != len(inferred):
        return inferred
    return tuple(
        mine if not isinstance(size, int) and _tells_more(mine, size) else size
        for size, mine in zip(inferred, known, strict=True)
    )


def _tells_more(size: int | str | None, inferred: str | None) -> bool:
    """Whether a size says more than a symbol that inference may have made up."""
    is_made_up = inferred is None or inferred.startswith("unk__")
    return isinstance(size, int) or (isinstance(size, str) and is_made_up)

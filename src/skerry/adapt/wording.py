"""Figures in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def show_bytes(size_bytes: int) -> str:
    """Write a size in the binary unit that suits it, such as `1.5 MiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{_three_digits(size)} {unit}"
        size /= 1024
    return f"{_three_digits(size)} GiB"


def _three_digits(size: float) -> str:
    return f"{size:.0f}" if size >= 100 else f"{size:.3g}"


def show_share(share: float) -> str:
    """Write a fraction as a percentage that says 0 or 100 only of none and all."""
    if 0 < share < 0.01:
        return "under 1 %"
    if 0.99 < share < 1:
        return "over 99 %"
    return f"{share:.0%}".replace("%", " %")


def show_counts(words: Iterable[str], *, at_most: int = 4) -> str:
    """List words by how often they occur, such as `Div ×3, Sqrt`."""
    ranked = Counter(words).most_common()
    shown = [f"{word} ×{n}" if n > 1 else word for word, n in ranked[:at_most]]
    rest = len(ranked) - at_most
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")

"""What the steps of pruning refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean


def check_choice(step: str, name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a word that is none of those known.

    Raises:
        UsageError: It is none.
    """
    if value not in known:
        raise UsageError(
            f"{step}: {name} is {value!r}", hint=did_you_mean(str(value), known)
        )


def check_numbers(
    step: str, numbers: Mapping[str, tuple[float, bool]], *, hint: str
) -> None:
    """Refuse a number that is out of range.

    Args:
        step: Whose numbers they are.
        numbers: By name, each with whether it is in range.
        hint: What to use.

    Raises:
        UsageError: One is not.
    """
    for name, (value, is_right) in numbers.items():
        if not is_right:
            raise UsageError(
                f"{step}: {name} is {value!r}, which is out of range", hint=hint
            )

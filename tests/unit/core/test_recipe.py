from __future__ import annotations

import pytest

from skerry.core.errors import UsageError
from skerry.core.recipe import Choices, Span


def test_a_choice_has_values() -> None:
    """There is no choosing among none."""
    assert Choices(values=(False, True)).values == (False, True)
    with pytest.raises(UsageError, match="no values"):
        Choices(values=())


@pytest.mark.parametrize(
    ("low", "high", "is_log", "what"),
    [
        (2, 1, False, "from 2 to 1"),
        (float("nan"), 1, False, "from nan to 1"),
        (0, 1, True, "ratios from 0"),
    ],
)
def test_a_span_has_its_ends_in_order(
    low: float, high: float, *, is_log: bool, what: str
) -> None:
    """And begins above 0 where ratios count."""
    with pytest.raises(UsageError, match=what):
        Span(low=low, high=high, is_log=is_log)


def test_a_span_may_hold_one_value() -> None:
    """A parameter that is not searched is written like any other."""
    assert Span(low=3, high=3, is_integer=True).low == 3

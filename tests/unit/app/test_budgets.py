from __future__ import annotations

import pytest

from skerry.app.budgets import join_budgets, parse_conditions
from skerry.core.budget import Budget
from skerry.core.errors import UsageError


def test_the_first_that_has_a_limit_says_what_it_is() -> None:
    """Flags before the project's file before the default, conditions one by one."""
    flags = Budget(size_bytes=10, conditions={"dark": 0.1})
    project = Budget(
        accuracy_drop=0.02, size_bytes=5, conditions={"dark": 1, "rain": 0}
    )
    joined = join_budgets(flags, project, Budget(accuracy_drop=0.01))
    assert joined == Budget(
        accuracy_drop=0.02, size_bytes=10, conditions={"dark": 0.1, "rain": 0}
    )


def test_a_condition_is_a_name_and_a_limit() -> None:
    """Several names share a limit, all stands for each."""
    assert parse_conditions(["dark=0.02", "rain,blur=0.1"]) == {
        "dark": 0.02,
        "rain": 0.1,
        "blur": 0.1,
    }
    assert len(parse_conditions(["all=0.1"])) == 7
    assert parse_conditions([]) == {}


@pytest.mark.parametrize("text", ["dark", "dark=", "dark=x", "dark=nan", "dark=2"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    """The error shows how it is written."""
    with pytest.raises(UsageError) as caught:
        parse_conditions([text])
    assert "dark=0.02" in caught.value.hint


def test_an_unknown_condition_names_the_nearest() -> None:
    """A slip is answered with the word that was meant."""
    with pytest.raises(UsageError) as caught:
        parse_conditions(["drak=0.1"])
    assert "dark" in caught.value.hint

"""What users report of real NPUs, said by the audit before anything is compiled."""

from __future__ import annotations

import pytest

from tests.documented import CASES, Documented


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.source}: {case.what}")
def test_a_reported_case_is_reproduced(case: Documented) -> None:
    """The audit of the smallest model that shows it says the same."""
    assert case.is_reproduced()

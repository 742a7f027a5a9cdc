"""No rule's stated bound is broken, whatever the shapes, parameters and inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.adapt.rewrite import RULES
from tests.rewriting import CASES, draw_inputs, excess, replacements

SEEDS = st.integers(0, 2**32 - 1)


def test_each_rule_has_cases() -> None:
    """A rule that is not searched for counter-examples does not go unseen."""
    assert sorted(CASES) == sorted(rule.name for rule in RULES)
    assert len(RULES) == len({rule.name for rule in RULES}) >= 15


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6)
@given(seed=SEEDS)
def test_no_replacement_is_further_off_than_its_rule_says(name: str, seed: int) -> None:
    """One of the replacements that the rule draws for a random model, on an input."""
    rng = np.random.default_rng(seed)
    draws = CASES[name]
    case = draws[int(rng.integers(len(draws)))](rng)
    drawn = list(replacements(name, case))
    if drawn:
        chosen = drawn[int(rng.integers(len(drawn)))]
        assert excess(case, chosen, rng) <= 1


@pytest.mark.parametrize("name", CASES)
def test_each_rule_draws_something_for_each_of_its_cases(name: str) -> None:
    """The search above is not empty."""
    for draw in CASES[name]:
        rngs = [np.random.default_rng(seed) for seed in range(4)]
        assert any(list(replacements(name, draw(rng))) for rng in rngs)


@given(SEEDS)
def test_inputs_stay_where_the_case_says(seed: int) -> None:
    """Nothing is asked of a bound where it does not hold."""
    rng = np.random.default_rng(seed)
    case = CASES["small power"][0](rng)
    (x,) = draw_inputs(case, rng).values()
    assert x.shape == case.shape
    assert (case.low <= x).all()
    assert (x <= case.high).all()

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compress.recipe_files import make_step
from skerry.compress.tune.space import (
    SearchSpace,
    Slot,
    StepSpace,
    default_space,
    describe,
    draw,
)
from skerry.compress.tune.space_files import parse_space
from skerry.core.errors import SkerryError, UsageError
from skerry.core.recipe import Choices, Recipe, Span, StepSpec
from tests.tuning import SPACE

FILE = b"""
schema = "skerry.search/1"

[[slot]]
optional = false

[[slot.step]]
step = "quantize"
operators = "weights"
search.method = ["minmax", "mse"]
search.smooth = { low = 0.0, high = 0.8 }

[[slot.step]]
step = "half"
"""

SPACES = (SPACE, default_space(), parse_space(FILE, name="file"))


@given(seed=st.integers(0, 10_000))
def test_a_walk_and_its_recipe_are_the_same(seed: int) -> None:
    """What is drawn makes steps, and the point of the recipe walks to it again."""
    rng = np.random.default_rng(seed)
    for space in SPACES:
        recipe = space.recipe(lambda _, one: draw(rng, one))
        for step in recipe.steps:
            make_step(step)
        point = space.point(recipe)
        assert point is not None
        assert space.recipe(lambda name, _, at=point: at[name]) == recipe


def test_what_a_space_does_not_hold_has_no_point() -> None:
    """Another step, another fixed value, a value out of its range."""
    space = parse_space(FILE, name="file")
    for step in (
        StepSpec(name="codebook"),
        StepSpec(name="quantize", params={"operators": "all"}),
        StepSpec(name="quantize", params={"smooth": 0.9}),
        StepSpec(name="quantize", params={"per_channel": False}),
    ):
        assert space.point(Recipe(steps=(step,))) is None
    assert space.point(Recipe(steps=())) is None, "the slot is not optional"
    assert space.point(Recipe(steps=(StepSpec(name="quantize"),) * 2)) is None


def test_a_template_is_told_in_the_words_of_the_space() -> None:
    """Defaults that a recipe leaves out are written; what does not fit is left out."""
    plain = Recipe(steps=(StepSpec(name="quantize", params={"method": "mse"}),))
    other = Recipe(steps=(StepSpec(name="quantize", params={"operators": "all"}),))
    (own,) = SPACE.own([plain, other])
    assert own.steps[0].params == {
        "method": "mse",
        "per_channel": True,
        "weight_bits": 8,
        "equalize": "none",
        "smooth": 0.0,
    }


def test_spans_are_drawn_within_their_ends() -> None:
    """Whole numbers are whole, ratios are as often below the geometric middle."""
    rng = np.random.default_rng(0)
    whole = Span(low=1, high=3, is_integer=True)
    assert {draw(rng, whole) for _ in range(60)} == {1, 2, 3}
    ratios = [draw(rng, Span(low=1e-4, high=1.0, is_log=True)) for _ in range(200)]
    assert all(1e-4 <= one <= 1.0 for one in ratios)
    assert 60 < sum(one < 1e-2 for one in ratios) < 140


def test_the_default_space_takes_one_of_the_steps_that_change_numbers() -> None:
    """Ranges of the model's own replace those of the step."""
    kept = Choices(values=([], ["a"]))
    space = default_space(ranges={"quantize": {"keep_float": kept}})
    last = space.slots[-1]
    assert [step.name for step in last.steps] == ["quantize", "half", "codebook"]
    assert last.steps[0].searched["keep_float"] == kept


def test_a_recipe_is_described_by_what_is_not_usual() -> None:
    """Defaults are not said."""
    step = StepSpec(
        name="quantize",
        params={"method": "mse", "per_channel": False, "keep_float": ["a", "b"]},
    )
    said = describe(Recipe(steps=(step, StepSpec(name="half"))))
    assert said == "quantize (method mse, not per_channel, keep_float 2) → half"
    assert describe(Recipe(steps=())) == "the source as it is"
    assert describe(Recipe(steps=(StepSpec(name="gone"),))) == "gone"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"skerry.search/1", b"skerry.search/9", "schema"),
        (b'"half"', b'"hlaf"', "no step called"),
        (b"search.method", b"search.methd", "no parameter 'methd'"),
        (b"high = 0.8", b"hihg = 0.8", "hihg"),
        (b"low = 0.0", b"low = 2.0", "span"),
        (b"optional", b"optinal", "unknown key"),
        (b'"half"', b'"quantize"', "twice"),
        (b'["minmax", "mse"]', b"[]", "no values"),
        (b"[[slot]]", b"[[slots]]", "unknown key"),
    ],
)
def test_a_wrong_search_file_says_what_is_wrong(
    old: bytes, new: bytes, said: str
) -> None:
    """Each mistake is named."""
    with pytest.raises(UsageError, match=said):
        parse_space(FILE.replace(old, new, 1), name="file")


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_garbage_is_no_search_file(content: bytes) -> None:
    """Whatever comes, an error of ours."""
    with pytest.raises(SkerryError):
        parse_space(content, name="file")


def test_one_step_without_choices_needs_no_asking() -> None:
    """What has one value is not asked for."""
    step = StepSpace(name="half", searched={"dtype": Choices(values=("float16",))})
    space = SearchSpace(slots=(Slot(steps=(step,), may_skip=False),))

    def never(name: str, one: Choices | Span) -> str:
        raise AssertionError(name, one)

    assert space.recipe(never).steps[0].params == {"dtype": "float16"}

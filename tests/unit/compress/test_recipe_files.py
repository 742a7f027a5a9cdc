"""Recipe files: what is written is read, and garbage is refused politely."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skerry.compress.recipe_files import (
    RECIPE_SCHEMA,
    load_recipe,
    parse_recipe,
    recipe_to_toml,
)
from skerry.core.errors import UsageError
from skerry.core.recipe import Recipe, StepSpec
from tests.strategies import damaged

GOLDEN = Path(__file__).parents[2] / "golden" / "recipe-1.toml"
RECIPE = Recipe(
    steps=(
        StepSpec(
            name="quantize",
            params={
                "operators": "weights",
                "method": "percentile",
                "per_channel": True,
                "keep_float": ["Conv_3", 'dög "quoted"'],
            },
        ),
        StepSpec(name="other", params={"fraction": 0.25, "count": 3}),
    )
)
HEAD = f'schema = "{RECIPE_SCHEMA}"\n'

_words = st.text(st.characters(codec="utf-8"), max_size=8)
_params = st.dictionaries(
    _words.filter(lambda key: key != "step"),
    _words
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.lists(_words, max_size=3),
    max_size=4,
)
_recipes = st.builds(
    Recipe,
    steps=st.lists(st.builds(StepSpec, name=_words, params=_params), max_size=3).map(
        tuple
    ),
)


@given(_recipes)
def test_round_trip(recipe: Recipe) -> None:
    """What is written is read back the same, whatever the names hold."""
    assert parse_recipe(recipe_to_toml(recipe).encode(), name="r") == recipe


def test_the_golden_file_is_readable_for_ever() -> None:
    """A recipe that version 1 wrote still says what it said."""
    assert load_recipe(GOLDEN) == RECIPE


def test_an_unknown_key_is_met_with_the_nearest() -> None:
    """A misspelt key is named, and what was meant is too."""
    with pytest.raises(UsageError, match="unknown key 'steps'") as raised:
        parse_recipe(f"{HEAD}steps = []".encode(), name="r")
    assert "'step'" in raised.value.hint


@pytest.mark.parametrize("schema", ['"skerry.recipe/2"', '"skerry.task/1"', "1"])
def test_another_schema_is_refused(schema: str) -> None:
    """The error says which schema was got and which is expected."""
    with pytest.raises(UsageError, match=RECIPE_SCHEMA) as raised:
        parse_recipe(f"schema = {schema}".encode(), name="r.toml")
    assert schema.strip('"') in raised.value.what
    assert "r.toml" in raised.value.what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("step = 1", "no list"),
        ("step = [1]", "no name"),
        ("[[step]]\nmethod = 'mse'", "no name"),
        ("[[step]]\nstep = 1", "no name"),
        ("[[step]]\nstep = 'q'\nwhen = 2020-01-01", "'when' is date"),
        ("[[step]]\nstep = 'q'\nkeep = ['a', 1]", "'keep' is list"),
        ("[[step]]\nstep = 'q'\n[step.more]", "'more' is dict"),
    ],
)
def test_what_is_no_step_is_refused(text: str, what: str) -> None:
    """Steps are tables with a name, and parameters are plain."""
    with pytest.raises(UsageError, match=what):
        parse_recipe(f"{HEAD}{text}".encode(), name="r")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing recipe is the user's error."""
    with pytest.raises(UsageError):
        load_recipe(tmp_path / "none.toml")


@given(st.binary(max_size=200))
@example(b"step = " + b"[" * 100_000)
def test_bytes_are_refused_politely(content: bytes) -> None:
    """Arbitrary bytes are no recipe and raise nothing but a UsageError."""
    with pytest.raises(UsageError) as raised:
        parse_recipe(content, name="bytes")
    assert raised.value.hint


@given(damaged((GOLDEN.read_bytes(), recipe_to_toml(RECIPE).encode())))
def test_damaged_recipes_are_read_or_refused_politely(content: bytes) -> None:
    """A damaged recipe is still one, which can be written, or is a UsageError."""
    try:
        recipe = parse_recipe(content, name="damaged")
    except UsageError:
        return
    again = recipe_to_toml(recipe)
    assert recipe_to_toml(parse_recipe(again.encode(), name="again")) == again

"""What a report's list says of each candidate."""

from __future__ import annotations

import pytest

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.search.candidates import SIZE_ONLY, Candidate, recipe_of
from skerry.core.recipe import Recipe, StepSpec
from skerry.tasks.measure import Ratio

NO_FASTER = Ratio(median=0.99, low=0.97, high=1.01)
FASTER = Ratio(median=0.8, low=0.78, high=0.82)
CODEBOOK = Recipe(steps=(StepSpec(name="codebook", params={"bits": 4}),))
HALF = Recipe(steps=(StepSpec(name="half", params={"dtype": "float16"}),))
NARROW = recipe_of(Quantize(weight_bits=4))


@pytest.mark.parametrize("recipe", [CODEBOOK, HALF, NARROW])
def test_weights_stored_in_less_are_said_to_be_no_faster(recipe: Recipe) -> None:
    """Where the measurement says so; the reason for a refusal stays in front."""
    one = Candidate(
        title="a", recipe=recipe, runtime="onnxruntime", is_sure=True, latency=NO_FASTER
    )
    assert one.attempt(is_chosen=False).note == SIZE_ONLY
    refused = Candidate(
        title="a",
        recipe=recipe,
        runtime="onnxruntime",
        refusal="refused: too large",
        latency=NO_FASTER,
    )
    assert refused.attempt(is_chosen=False).note == f"refused: too large; {SIZE_ONLY}"


@pytest.mark.parametrize(
    ("recipe", "latency"),
    [(CODEBOOK, FASTER), (CODEBOOK, None), (recipe_of(Quantize()), NO_FASTER)],
)
def test_nothing_is_said_that_was_not_measured(
    recipe: Recipe, latency: Ratio | None
) -> None:
    """Nor of what is faster, nor of INT8, which is there to be."""
    one = Candidate(
        title="a", recipe=recipe, runtime="onnxruntime", is_sure=True, latency=latency
    )
    assert one.attempt(is_chosen=True).note == ""

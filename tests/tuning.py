"""What tests of the tuner share: a small space, and a made-up score that is quick."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.compress.tune.space import SearchSpace, Slot, StepSpace
from skerry.compress.tune.trial import Outcome, Trial
from skerry.core.recipe import Choices, Recipe, StepSpec
from skerry.tasks.measure import Ratio

METHODS = ("minmax", "percentile", "mse", "entropy")
SMOOTH = (0.0, 0.25, 0.5, 0.75, 1.0)

QUANTIZE = StepSpace(
    name="quantize",
    searched={
        "method": Choices(values=METHODS),
        "per_channel": Choices(values=(True, False)),
        "weight_bits": Choices(values=(8, 4)),
        "equalize": Choices(values=("none", "weights", "activations")),
        "smooth": Choices(values=SMOOTH),
    },
)
HALF = StepSpace(
    name="half", searched={"dtype": Choices(values=("float16", "bfloat16"))}
)
SPACE = SearchSpace(slots=(Slot(steps=(QUANTIZE, HALF)),))

ALLOWED = 0.01

EQUALIZED = {"none": 0.0, "weights": 0.004, "activations": 0.01}


def outcome(drop: float, latency: float, size: float, refusal: str = "") -> Outcome:
    """An outcome of these costs."""
    return Outcome(
        drop=drop,
        latency=Ratio(median=latency, low=latency, high=latency),
        size=size,
        size_bytes=int(size * 1000),
        violation=max(0.0, drop - ALLOWED) / ALLOWED,
        refusal=refusal or ("refused: loses too much" if drop > ALLOWED else ""),
        is_sure=True,
    )


def trial(number: int, *costs: float, refusal: str = "") -> Trial:
    """A finished trial of these costs."""
    step = StepSpec(name="quantize", params={"keep_float": [str(number)]})
    return Trial(
        number=number,
        recipe=Recipe(steps=(step,)),
        outcome=outcome(*costs, refusal=refusal),
    )


def score(recipe: Recipe, others: Sequence[Trial] = ()) -> Outcome:
    """What a recipe of the space comes to: each choice adds its own, made up."""
    del others
    if not recipe.steps or recipe.steps[0].name == "half":
        return outcome(0.0, 1.0, 0.5)
    params = recipe.steps[0].params
    drop = 0.003 * METHODS.index(str(params["method"]))
    drop += 0.0 if params["per_channel"] else 0.012
    drop += 0.02 if params["weight_bits"] == 4 else 0.0
    drop -= {"none": 0.0, "weights": 0.004, "activations": 0.01}[
        str(params["equalize"])
    ]
    drop += 0.004 * abs(float(params["smooth"]) - 0.5)  # type: ignore[arg-type]
    size = 0.27 if params["weight_bits"] == 8 else 0.14
    return outcome(max(drop, -0.002), 0.5 + 0.1 * (params["equalize"] != "none"), size)

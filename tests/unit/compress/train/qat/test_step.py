from __future__ import annotations

from dataclasses import fields

import pytest

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.recipe_files import make_step
from skerry.compress.train.fit import fit
from skerry.compress.train.qat.step import Qat
from skerry.compress.train.training import TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.errors import ModelError, UsageError
from skerry.core.plugins import TRAIN_STEPS
from skerry.core.recipe import Choices, StepSpec
from skerry.runtimes.torch import Tensor, torch
from tests import training


@pytest.fixture(scope="module")
def trained() -> Training:
    """The toy net, trained."""
    toy = training.toy_training()
    fit(toy.module, toy, epochs=2)
    return toy


def context(toy: Training) -> TrainContext:
    """What a step is given."""
    return TrainContext(training=toy, budget=Budget())


@pytest.mark.parametrize(
    "parameters",
    [
        {"order": "forward"},
        {"order": "weights", "imitate": 0.0},
        {"ranges": "observed", "imitate": 1.0, "norm_batches": 2},
    ],
)
def test_four_bits_lose_nothing_worth_telling(
    parameters: dict[str, object], trained: Training
) -> None:
    """The fine-tuned net answers as well as the float one, which is left as it was."""
    before = {name: one.clone() for name, one in trained.module.state_dict().items()}
    right = trained.score(trained.module).value
    step = Qat(epochs=2, weight_bits=4, **parameters)
    net = step.apply(trained.module, context(trained))
    assert trained.score(net).value >= right - 0.05
    assert all(
        torch.equal(one, before[name])
        for name, one in trained.module.state_dict().items()
    )


def test_the_quantizers_parameters_are_all_there() -> None:
    """What `Quantize` may be told, `Qat` hands on."""
    step = Qat(weight_bits=4, keep_float=["a"], smooth=0.5)
    for one in fields(Quantize):
        assert getattr(step.quantize, one.name) == getattr(step, one.name)
    assert step.quantize.keep_float == ("a",)


def test_what_may_be_searched_is_valid() -> None:
    """Each choice and both ends of each span make a step."""
    for name, space in Qat.SPACE.items():
        values = space.values if isinstance(space, Choices) else (space.low, space.high)
        for value in values:
            assert getattr(Qat(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"order": "backward"}, "order"),
        ({"ranges": "guessed"}, "ranges"),
        ({"freeze": 1.5}, "freeze"),
        ({"imitate": -0.1}, "imitate"),
        ({"norm_batches": -1}, "norm_batches"),
        ({"weight_bits": 3}, "weight_bits"),
        ({"operators": "some"}, "operators"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, object], match: str) -> None:
    """Before anything is trained."""
    with pytest.raises(UsageError, match=match):
        Qat(**parameters)


def test_a_loop_that_diverges_is_an_error(trained: Training) -> None:
    """A loss that is never a number ends in a sentence, not in a file of NaN."""

    def loss(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs.sum() * float("nan")

    broken = training.toy_training(trained.module, loss=loss)
    with pytest.raises(ModelError, match="diverged"):
        Qat(epochs=1, imitate=0.0).apply(trained.module, context(broken))


def test_recipes_name_it() -> None:
    """The step is registered as `qat`, and its parameters are checked."""
    step = make_step(
        StepSpec(name="qat", params={"weight_bits": 4, "epochs": 1}), TRAIN_STEPS
    )
    assert step == Qat(weight_bits=4, epochs=1)
    with pytest.raises(UsageError, match="epoch"):
        make_step(StepSpec(name="qat", params={"epoch": 1}), TRAIN_STEPS)

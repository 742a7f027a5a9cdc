from __future__ import annotations

from dataclasses import fields, replace

import pytest

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.recipe_files import make_step
from skerry.compress.train.fit import fit
from skerry.compress.train.qat.step import Qat, _imitating
from skerry.compress.train.run import train_recipe
from skerry.compress.train.training import TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.errors import ModelError, UsageError
from skerry.core.plugins import TRAIN_STEPS
from skerry.core.recipe import Choices, Recipe, StepSpec
from skerry.core.seams import Runtime
from skerry.runtimes.torch import Tensor, torch
from skerry.tasks.decoders import Value
from skerry.tasks.task import Task, TaskKind
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
    """What `Quantize` may be told, `Qat` hands on; it has no blocks of weights."""
    step = Qat(weight_bits=4, keep_float=["a"], smooth=0.5)
    names = {one.name for one in fields(Quantize)}
    assert names - {one.name for one in fields(Qat)} == {"weight_block"}
    for name in names - {"weight_block"}:
        assert getattr(step.quantize, name) == getattr(step, name)
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


def test_a_recipe_of_it_gives_a_quantized_graph(
    trained: Training, runtime: Runtime
) -> None:
    """`train_recipe` scores the network and takes its graph as it is."""
    spec = StepSpec(name="qat", params={"epochs": 1, "norm_batches": 1})
    found = train_recipe(trained, Recipe(steps=(spec,)), runtime=runtime)
    assert any(node.op_type == "QuantizeLinear" for node in found.graph.nodes)
    assert found.log[0].score == trained.score(found.module).value


def test_numbers_are_imitated_as_numbers(trained: Training) -> None:
    """What is no classifier is compared by squares, relative to what is right."""
    task = Task(kind=TaskKind.REGRESSION, metric="mae", post=(Value(),))
    inputs, labels = next(iter(trained.batches(0)))
    loss = _imitating(trained.module, replace(trained, task=task), 1.0)
    assert loss is not None
    right = trained.module.eval()(*inputs).detach()
    assert float(loss(trained.module, inputs, right, labels)) == 0
    assert float(loss(trained.module, inputs, right * 2, labels)) == pytest.approx(1)

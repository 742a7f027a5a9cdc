"""What training needs is checked, and a module is scored as any model is."""

from __future__ import annotations

import pytest

from skerry.compress.train.training import TrainContext
from skerry.core.budget import Budget
from skerry.core.errors import RuntimeFailure, UsageError
from skerry.runtimes.torch import nn, torch
from tests.training import ToyNet, toy_training


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"inputs": ()}, "0 names of inputs"),
        ({"inputs": ("a", "b")}, "2 names of inputs and 1 tensors"),
        ({"outputs": ()}, "no names"),
        ({"outputs": ("picture",)}, "not all different"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    changes: dict[str, object], what: str
) -> None:
    """Each input and output has a name of its own."""
    with pytest.raises(UsageError, match=what):
        toy_training(**changes)


def test_a_session_has_the_signature_of_the_exported_model() -> None:
    """Names are those given, the batch is of any size, dtypes are the module's."""
    training = toy_training()
    session = training.session(training.module)
    assert [str(spec) for spec in (*session.inputs, *session.outputs)] == [
        "picture float32[batch×1×8×8]",
        "logits float32[batch×2]",
    ]


def test_a_module_with_other_outputs_is_refused() -> None:
    """A session is not made of what gives more tensors than there are names."""
    training = toy_training(outputs=("logits", "features"))
    with pytest.raises(RuntimeFailure, match="returned 1 tensors, expected 2"):
        training.session(ToyNet())


def test_scoring_a_module_counts_what_it_gets_right() -> None:
    """The task's own metric over the selection samples, one prediction a sample."""

    class Always(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, 1.0]]).repeat(len(x), 1)

    told = []
    context = TrainContext(
        training=toy_training(),
        budget=Budget(),
        progress=lambda *step: told.append(step),
    )
    scores = context.evaluate(Always())
    right = [sample.label == 1 for sample in context.training.selection]
    assert scores.per_sample.tolist() == right
    assert told[-1] == ("evaluate", 64, 64)

"""A torch module runs as any loaded model does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skerry.core.errors import DataError, RuntimeFailure
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.runtimes.torch import Tensor, TorchSession, nn, torch

X = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
Y = TensorSpec(name="y", dtype="float32", shape=("batch", 3))
Z = TensorSpec(name="z", dtype="float32", shape=("batch", 3))


class Answering(nn.Module):
    """Returns whatever a function makes of its input."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


def run(
    answer: Callable[[Tensor], Any], outputs: tuple[TensorSpec, ...] = (Y,)
) -> dict[str, Array]:
    """Run a module that answers so."""
    session = TorchSession(Answering(answer), (X,), outputs)
    return session.run({"x": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: (x + 1, x * 3),
        lambda x: [x + 1, x * 3],
        lambda x: {"first": x + 1, "second": x * 3},
    ],
)
def test_outputs_are_named_in_order(answer: Callable[[Tensor], Any]) -> None:
    """Tuples, lists and dicts of tensors get the names of the signature."""
    found = run(answer, (Y, Z))
    assert [(name, array.tolist()) for name, array in found.items()] == [
        ("y", [[2.0] * 3] * 2),
        ("z", [[3.0] * 3] * 2),
    ]


def test_the_module_is_in_eval_mode_even_if_it_was_set_to_train_since() -> None:
    """Batch statistics are neither used nor changed by running a session."""
    norm = nn.BatchNorm1d(3)
    session = TorchSession(norm, (X,), (Y,))
    norm.train()
    session.run({"x": np.full((2, 3), 7, np.float32)})
    assert not norm.training
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0.0] * 3


def test_inputs_are_not_written_to() -> None:
    """An array that must not be written to stays as it is under an in-place module."""
    array = np.full((1, 3), -1, np.float32)
    array.flags.writeable = False
    session = TorchSession(nn.ReLU(inplace=True), (X,), (Y,))
    assert session.run({"x": array})["y"].tolist() == [[0.0] * 3]
    assert array.tolist() == [[-1.0] * 3]
    session.close()


def test_the_signature_is_that_which_was_given() -> None:
    """Whoever holds the session can ask what it takes and gives."""
    session = TorchSession(nn.Identity(), (X,), (Y,))
    assert (session.inputs, session.outputs) == ((X,), (Y,))


def test_an_input_that_does_not_fit_is_refused() -> None:
    """Inputs are checked as any runtime checks them."""
    session = TorchSession(nn.Identity(), (X,), (Y,))
    with pytest.raises(DataError, match="has shape"):
        session.run({"x": np.ones((2, 4), np.float32)})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda x: x @ x, "the Answering failed: mat1 and mat2"),
        (lambda _x: "text", "returned str"),
        (lambda x: (x, 1), "returned tuple"),
        (lambda x: (x, x), "returned 2 tensors, expected 1"),
        (lambda x: x.missing, "has no attribute"),
    ],
)
def test_a_module_that_fails_is_an_error_of_our_tree(
    answer: Callable[[Tensor], Any], reason: str
) -> None:
    """No traceback of torch reaches whoever evaluates a module."""
    with pytest.raises(RuntimeFailure, match=reason):
        run(answer)


def test_it_runs_where_the_parameters_lie() -> None:
    """Tensors are put on the module's device, which for `meta` computes nothing."""
    with torch.device("meta"):
        layer = nn.Linear(3, 3)
    with pytest.raises(RuntimeFailure):
        TorchSession(layer, (X,), (Y,)).run({"x": np.ones((1, 3), np.float32)})

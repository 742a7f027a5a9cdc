"""Layers of a student beside tensors of its teacher."""

from __future__ import annotations

import pytest

from skerry.compress.train.distil.features import Adapter, Pair, Student, read_pairs
from skerry.core.errors import ModelError, UsageError
from skerry.runtimes.torch import nn, torch
from tests.training import ToyNet

PAIR = Pair(layer="block", value="deep")


@pytest.mark.parametrize(
    ("own", "told", "both"),
    [
        ((2, 4), (2, 9), (2, 9)),
        ((2, 4, 6), (2, 9, 12), (2, 9, 6)),
        ((2, 4, 8, 6), (2, 9, 5, 7), (2, 9, 5, 6)),
        ((2, 4, 3, 3, 2), (2, 4, 3, 3, 2), (2, 4, 3, 3, 2)),
    ],
)
def test_an_adapter_brings_both_to_one_shape(
    own: tuple[int, ...], told: tuple[int, ...], both: tuple[int, ...]
) -> None:
    """The teacher's channels, and along each axis the fewer places."""
    student, teacher = torch.rand(own), torch.rand(told)
    for found in Adapter(PAIR, student, teacher)(student, teacher):
        assert found.shape == both


@pytest.mark.parametrize("told", [(2, 9), (2, 9, 4), (2, 4, 3, 3, 2, 2)])
def test_features_of_other_ranks_are_refused(told: tuple[int, ...]) -> None:
    """Both shapes are told, and what they are of."""
    with pytest.raises(ModelError, match=r"block, \[2, 4, 8, 6\].*deep, \["):
        Adapter(PAIR, torch.rand(2, 4, 8, 6), torch.rand(told))


def test_a_student_shows_its_layers_and_is_given_back_as_it_was() -> None:
    """What a layer made is seen with its gradient; afterwards nobody looks."""
    net = ToyNet()
    student = Student(net, [PAIR])
    inputs, teacher = torch.rand(2, 1, 8, 8), {"deep": torch.rand(2, 5, 4, 4)}
    torch.testing.assert_close(student(inputs), net(inputs))
    student.add_adapters(teacher)
    ((own, told),) = student.features(teacher)
    assert own.shape == told.shape == (2, 5, 4, 4)
    assert own.requires_grad
    names = {name.partition(".")[0] for name, _ in student.named_parameters()}
    assert names == {"module", "adapters"}
    assert student.release() is net
    assert not net.block._forward_hooks


@pytest.mark.parametrize(
    ("word", "match"), [("block", "LAYER=VALUE"), ("=deep", "="), ("block=", "=")]
)
def test_what_is_no_pair_is_refused(word: str, match: str) -> None:
    """A layer, an equals sign, a tensor."""
    with pytest.raises(UsageError, match=match):
        read_pairs([word])


def test_a_layer_that_is_not_there_is_refused() -> None:
    """The nearest one is named."""
    with pytest.raises(UsageError, match="no layer 'blok'") as caught:
        Student(ToyNet(), [Pair(layer="blok", value="deep")])
    assert "block" in caught.value.hint


def test_a_layer_that_gives_no_tensor_is_refused() -> None:
    """One that never runs, and one that gives several."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(3, 3)
            self.idle = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.cell(x)[0]
            return made

    for layer, got in (("cell", "tuple"), ("idle", "nothing")):
        student = Student(Two(), [Pair(layer=layer, value="deep")])
        student(torch.rand(2, 3))
        with pytest.raises(ModelError, match=got):
            student.add_adapters({"deep": torch.rand(2, 3)})

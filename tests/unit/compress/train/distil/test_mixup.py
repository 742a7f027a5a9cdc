"""Samples mixed in pairs, and what their labels are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from operator import length_hint
from typing import Any

import pytest

from skerry.compress.train.distil.mixup import MixedLabels, mixed_up
from skerry.compress.train.distil.step import Distil
from skerry.compress.train.distil.unlabelled import Batches
from skerry.compress.train.fit import fit
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.errors import DataError
from skerry.runtimes.torch import Tensor, functional, torch
from tests.training import ToyNet, toy_training


def _batches(_epoch: int) -> list[Batch]:
    """Two batches with labels and one without; sample i is i everywhere."""
    rows = torch.arange(6.0)[:, None].expand(6, 3)
    return [
        ((rows, rows + 1), torch.arange(6)),
        ((rows[:5], rows[:5] + 1), torch.arange(5)),
        ((rows, rows + 1), None),
    ]


def _first(batches: Batches, epoch: int = 0) -> Tensor:
    return torch.cat([inputs[0][:, 0] for inputs, _ in batches(epoch)])


def test_all_inputs_of_a_sample_are_mixed_alike() -> None:
    """By the share and with the sample that its labels tell of."""
    for (first, second), labels in mixed_up(_batches, strength=1.0, seed=0)(0):
        torch.testing.assert_close(second, first + 1)
        if isinstance(labels, MixedLabels):
            own, others = labels.labels, labels.labels[labels.order]
            mixture = labels.share * own + (1 - labels.share) * others
            torch.testing.assert_close(first[:, 0], mixture.float())
            assert sorted(labels.order.tolist()) == labels.labels.tolist()


def test_batches_without_labels_are_mixed_too() -> None:
    """They stay without; and there are as many batches as before."""
    epoch = mixed_up(_batches, strength=1.0, seed=0)(0)
    found = list(epoch)
    assert [labels is None for _, labels in found] == [False, False, True]
    assert len(found) == length_hint(epoch) == 3
    assert found[2][0][0][:, 0].tolist() != list(range(6))


def test_mixtures_can_be_repeated() -> None:
    """The same seed and epoch give the same ones, others give others."""
    batches = mixed_up(_batches, strength=1.0, seed=0)
    torch.testing.assert_close(_first(batches), _first(batches))
    assert not torch.equal(_first(batches), _first(batches, epoch=1))
    other = mixed_up(_batches, strength=1.0, seed=1)
    assert not torch.equal(_first(batches), _first(other))


def test_a_small_strength_mixes_little() -> None:
    """Beta(α, α) lies near 0 and 1 where α is small, and evenly where it is 1."""

    def shares(strength: float) -> list[float]:
        batches = mixed_up(lambda _: 200 * _batches(0)[:1], strength=strength, seed=0)
        return [labels.share for _, labels in batches(0)]

    near = [min(one, 1 - one) < 0.05 for one in shares(0.05)]
    even = [min(one, 1 - one) < 0.05 for one in shares(1.0)]
    assert sum(near) > 150
    assert 5 < sum(even) < 45


def test_mixed_cross_entropy_is_that_on_mixed_labels() -> None:
    """As the paper has it: the loss is linear in the target."""
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    order = torch.tensor([3, 2, 1, 0, 5, 4])
    mixed = MixedLabels(labels=labels, order=order, share=0.3)
    exact = functional.one_hot(labels, 4).float()
    target = 0.3 * exact + 0.7 * exact[order]
    torch.testing.assert_close(
        mixed.loss(functional.cross_entropy, logits),
        functional.cross_entropy(logits, target),
    )


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([{}] * 6, "got list"),
        (torch.arange(5), r"got \[5\]"),
        (torch.ones(()), r"\[\]"),
    ],
)
def test_labels_that_cannot_be_mixed_are_refused(labels: Any, got: str) -> None:
    """A detector's lists, too few, a number; and it is said how to go on."""
    mixed = MixedLabels(labels=labels, order=torch.arange(6), share=0.5)
    with pytest.raises(DataError, match=got) as caught:
        mixed.loss(functional.cross_entropy, torch.randn(6, 4))
    assert "weight = 1" in caught.value.hint


def test_inputs_that_are_no_floats_are_refused() -> None:
    """Half of one token and half of another is none."""
    batches = mixed_up(
        lambda _: [((torch.arange(6),), torch.arange(6))], strength=1.0, seed=0
    )
    with pytest.raises(DataError, match="cannot mix inputs of int64"):
        list(batches(0))


@pytest.fixture(scope="module")
def taught() -> tuple[Training, ToyNet]:
    """A training, and a teacher that it has trained."""
    training = toy_training()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = ToyNet(16)
    fit(teacher, training, epochs=3)
    return training, teacher


class _Listening:
    """A teacher that keeps what it is asked."""

    def __init__(self, training: Training, teacher: ToyNet) -> None:
        self._session = training.session(teacher)
        self.inputs, self.outputs = self._session.inputs, self._session.outputs
        self.asked: list[Tensor] = []

    def run(self, inputs: Any) -> dict[str, Any]:
        self.asked.append(torch.from_numpy(inputs["picture"].copy()))
        return self._session.run(inputs)

    def close(self) -> None:
        """Nothing is held."""


class _Watched(ToyNet):
    """A student that keeps what it is shown in training."""

    shown: list[Tensor]

    def forward(self, picture: Tensor) -> Tensor:
        if self.training:
            self.shown.append(picture)
        return super().forward(picture)


def test_the_teacher_is_asked_about_what_the_student_is_shown(
    taught: tuple[Training, ToyNet],
) -> None:
    """Mixture by mixture, in each epoch anew, whatever the labels are."""
    training, net = taught

    def batches(epoch: int) -> Iterator[Batch]:
        for inputs, labels in training.batches(epoch):
            yield inputs, list(labels)

    teacher, student = _Listening(training, net), _Watched(4)
    student.shown = []
    context = TrainContext(training=replace(training, batches=batches), budget=Budget())
    step = Distil(mixup=1.0, weight=1.0, epochs=2)
    found = step.learn(student, context, [teacher])
    assert isinstance(found, _Watched)
    # First the example is asked about, of which the shapes are taken.
    torch.testing.assert_close(torch.cat(teacher.asked[1:]), torch.cat(found.shown))
    whole = torch.cat([inputs[0] for inputs, _ in training.batches(0)])
    assert not torch.equal(found.shown[0], whole[: len(found.shown[0])])


@pytest.mark.parametrize("params", [{}, {"response": "decoupled"}])
def test_a_student_learns_from_mixtures(
    taught: tuple[Training, ToyNet], params: dict[str, Any]
) -> None:
    """With mixed labels beside the teacher's answers."""
    training, teacher = taught
    context = TrainContext(training=training, budget=Budget())
    step = Distil(mixup=1.0, weight=0.7, temperature=1.0, epochs=4, **params)
    found = step.learn(ToyNet(4), context, [training.session(teacher)])
    assert context.evaluate(found).value >= 0.8

"""The losses against their formulas, in numpy, and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skerry.compress.train.distil import losses
from skerry.runtimes.torch import Tensor, functional, torch

Floats = NDArray[np.float64]


def _logits(seed: int, n: int = 6, classes: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, classes, generator=generator, dtype=torch.float64)


def _softmax(logits: Tensor, temperature: float) -> Floats:
    powers = np.exp(logits.numpy() / temperature)
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _kl(told: Floats, own: Floats) -> Floats:
    return np.asarray((told * np.log(told / own)).sum(1))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softened_is_hintons_divergence(temperature: float) -> None:
    """T² · KL(teacher ‖ student) at temperature T, sample by sample."""
    own, told = _logits(0), _logits(1)
    expected = temperature**2 * _kl(
        _softmax(told, temperature), _softmax(own, temperature)
    )
    found = losses.softened(own, told, temperature=temperature)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_decoupled_is_the_papers_formula() -> None:
    """α · TCKD + β · NCKD of probabilities, with T² before them."""
    own, told, labels = _logits(0), _logits(1), torch.tensor([0, 1, 2, 3, 4, 0])
    p, q = _softmax(told, 2.0), _softmax(own, 2.0)
    rows = np.arange(6)
    pt, qt = p[rows, labels], q[rows, labels]
    tckd = _kl(np.stack([pt, 1 - pt], 1), np.stack([qt, 1 - qt], 1))
    is_other = np.arange(5)[None] != labels.numpy()[:, None]
    others_p = p[is_other].reshape(6, 4) / (1 - pt)[:, None]
    others_q = q[is_other].reshape(6, 4) / (1 - qt)[:, None]
    expected = 4 * (0.5 * tckd + 3 * _kl(others_p, others_q))
    found = losses.decoupled(
        own, told, labels, temperature=2.0, target_weight=0.5, others_weight=3
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_decoupled_with_the_coupled_weights_is_softened() -> None:
    """Equation 6: KD = TCKD + (1 - p(target)) · NCKD."""
    own, told, labels = _logits(2), _logits(3), torch.tensor([4, 3, 2, 1, 0, 2])

    def part(**weights: float) -> Tensor:
        return losses.decoupled(own, told, labels, temperature=3.0, **weights)

    target = part(target_weight=1, others_weight=0)
    others = part(target_weight=0, others_weight=1)
    sure = torch.from_numpy(_softmax(told, 3.0))[torch.arange(6), labels]
    found = target + (1 - sure) * others
    torch.testing.assert_close(found, losses.softened(own, told, temperature=3.0))


def test_losses_are_finite_for_a_teacher_that_is_quite_sure() -> None:
    """Logits of ±1,000 give finite losses and gradients."""
    own = torch.zeros(2, 3, requires_grad=True)
    told, labels = (
        torch.tensor([[1000.0, 0, -1000], [0, 1000, 0]]),
        torch.tensor([0, 2]),
    )
    total = losses.decoupled(own, told, labels, temperature=1.0)
    (total + losses.softened(own, told, temperature=1.0)).sum().backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    assert torch.isfinite(own.grad).all()


def test_losses_are_zero_where_the_student_is_the_teacher() -> None:
    """Nothing is left to learn then, whatever the loss."""
    told, labels = _logits(4), torch.zeros(6, dtype=torch.int64)
    assert losses.softened(told, told, temperature=4).abs().max() < 1e-12
    assert losses.decoupled(told, told, labels, temperature=4).abs().max() < 1e-12
    assert losses.matched(told, told).abs().max() == 0
    rows = torch.rand(2, 3, 7)
    assert losses.boxed(rows, rows).abs().max() == 0


def test_matched_features_have_no_scale() -> None:
    """Zeros are 1 away from any features, however large."""
    features = torch.randn(4, 8, 3, 3)
    for scale in (0.01, 100.0):
        far = losses.matched(torch.zeros_like(features), scale * features)
        assert far.mean() == pytest.approx(1, rel=1e-5)


def test_boxes_count_where_the_teacher_sees_an_object() -> None:
    """A wrong box on background costs nothing; one on an object costs its square."""
    teacher = torch.zeros(1, 2, 7)
    teacher[0, 1, 4] = 1.0
    student = teacher.clone()
    student[0, 0, 0] += 3
    student[0, 0, 5] += 1
    assert losses.boxed(student, teacher).item() == 0
    student[0, 1, 0] += 3
    student[0, 1, 6] += 1
    assert losses.boxed(student, teacher).item() == 10
    student[0, 0, 4] = 0.5
    assert losses.boxed(student, teacher).item() == 10.25


def test_the_mean_of_teachers_is_that_of_probabilities() -> None:
    """At the temperature of the comparison; one teacher alone stays as it is."""
    told = [_logits(5), _logits(6)]
    found = functional.softmax(losses.mean_of(told, temperature=2.0) / 2.0, dim=1)
    expected = (_softmax(told[0], 2.0) + _softmax(told[1], 2.0)) / 2
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_agreement_leaves_out_who_says_otherwise() -> None:
    """The majority's mean, weighted by how many they are; a tie goes to the surer."""
    a, b = [4.0, 0.0, 0.0], [2.0, 1.0, 0.0]
    c = [0.0, 0.0, 1.0]
    logits, weights = losses.agreed(
        [torch.tensor([a, a]), torch.tensor([b, a]), torch.tensor([c, a])],
        temperature=1.0,
    )
    expected = losses.mean_of([torch.tensor([a]), torch.tensor([b])], temperature=1.0)
    torch.testing.assert_close(
        functional.softmax(logits[:1], 1), functional.softmax(expected, 1)
    )
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 1.0]))
    tie, weights = losses.agreed(
        [torch.tensor([a]), torch.tensor([c])], temperature=1.0
    )
    assert tie.argmax(1).tolist() == [0]
    assert weights.tolist() == [0.5]

"""What a student's answer is compared by: which loss, of one teacher or of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from skerry.compress.train.distil import losses
from skerry.core.errors import DataError, ModelError
from skerry.runtimes.torch import Tensor, torch

Response = Literal["softened", "decoupled", "boxes", "none"]
"""`softened` is Hinton's loss, `decoupled` Zhao's; `boxes` is for detectors, and `none`
leaves the answer out, where features alone are matched."""

Several = Literal["mean", "agreement"]
"""How several teachers become one: the mean of their probabilities, or of those that
most agree with, by as much as they do."""

_SUM_TOLERANCE = 1e-3
_FEWEST_BOX_COLUMNS = losses.BOX_COLUMNS + 2


def is_probability(rows: Tensor) -> bool:
    """Whether rows [n, C] are probabilities that add up to 1 rather than logits."""
    is_one = (rows.sum(-1) - 1).abs() < _SUM_TOLERANCE
    return bool((rows >= 0).all() and is_one.all())


def as_logits(rows: Tensor, *, is_probability: bool) -> Tensor:
    """Rows whose softmax is the model's answer."""
    return rows.clamp_min(losses.LEAST_PROBABILITY).log() if is_probability else rows


def check_answers(response: Response, student: Tensor, teacher: Tensor) -> None:
    """Refuse a teacher whose answers are not of the student's kind.

    Raises:
        ModelError: The shapes differ, or are not those that the loss takes.
    """
    own, told = list(student.shape), list(teacher.shape)
    if own[1:] != told[1:]:
        kind = "classes" if len(own) == len(told) == 2 else "numbers"
        raise ModelError(
            f"the student answers {own[1:]} {kind} a sample, the teacher {told[1:]}",
            hint="Give a teacher of the same classes, in the same order.",
        )
    is_boxes = response == "boxes"
    if len(own) != (3 if is_boxes else 2) or (
        is_boxes and own[2] < _FEWEST_BOX_COLUMNS
    ):
        expected = "cells × (5 + classes)" if is_boxes else "classes"
        raise ModelError(
            f"the loss {response!r} takes {expected} a sample, the models answer "
            f"{own[1:]}",
            hint="Use `boxes` for detectors with one output of rows as YOLOX has it, "
            "`softened` or `decoupled` for classifiers.",
        )


class Comparison:
    """Compares a student's answers with those of its teachers.

    Args:
        response: By which loss.
        several: How several teachers become one.
        temperature: At which probabilities are compared.
        student: Answers to some samples, which show whether they are probabilities.
        teachers: The same, one a teacher.

    Raises:
        ModelError: They do not fit each other, or the loss.
    """

    def __init__(
        self,
        response: Response,
        several: Several,
        temperature: float,
        *,
        student: Tensor,
        teachers: Sequence[Tensor],
    ) -> None:
        for teacher in teachers:
            check_answers(response, student, teacher)
        self._response = response
        self._several = several
        self._temperature = temperature
        self._is_own_probability = is_probability(student)
        self._are_probabilities = [is_probability(one) for one in teachers]

    def loss(self, student: Tensor, teachers: Sequence[Tensor], labels: Any) -> Tensor:
        """The mean over samples of how far the student is from its teachers.

        Args:
            student: Answers, [n, …].
            teachers: Answers, one a teacher.
            labels: Indices of classes, int64 [n]; None where they are not known: then
                the teacher's class is the target.

        Raises:
            DataError: `decoupled` needs classes, and the labels are none.
        """
        if self._response == "boxes":
            return losses.boxed(student, torch.stack(list(teachers)).mean(0)).mean()
        own = as_logits(student, is_probability=self._is_own_probability)
        told, weights = self._taught(teachers)
        if self._response == "softened":
            far = losses.softened(own, told, temperature=self._temperature)
        else:
            target = told.argmax(1) if labels is None else _classes(labels, own)
            far = losses.decoupled(own, told, target, temperature=self._temperature)
        return (weights * far).mean()

    def _taught(self, teachers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The teachers' logits as one, and the weights of samples."""
        told = [
            as_logits(one, is_probability=flag)
            for one, flag in zip(teachers, self._are_probabilities, strict=True)
        ]
        if len(told) > 1 and self._several == "agreement":
            return losses.agreed(told, temperature=self._temperature)
        one = losses.mean_of(told, temperature=self._temperature)
        return one, torch.ones(len(one), device=one.device)


def _classes(labels: Any, student: Tensor) -> Tensor:
    """Labels that are indices of classes."""
    if (
        not isinstance(labels, Tensor)
        or labels.shape != student.shape[:1]
        or labels.is_floating_point()
        or not ((labels >= 0) & (labels < student.shape[1])).all()
    ):
        got = (
            f"{str(labels.dtype).removeprefix('torch.')}{list(labels.shape)}"
            if isinstance(labels, Tensor)
            else type(labels).__name__
        )
        raise DataError(
            f"the labels are {got}, expected {len(student)} indices of classes below "
            f"{student.shape[1]}",
            hint="Give class indices, None for batches without labels, or use the loss "
            "`softened`, which needs no labels.",
        )
    return labels.long()

"""Teachers are asked once for each sample, and only for what they take."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skerry.compress.train.distil.teachers import Teachers
from skerry.core.errors import DataError, ModelError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.runtimes.torch import Tensor, torch


class CountingSession:
    """Twice the input, and how many rows were asked for in each run."""

    def __init__(
        self,
        *,
        batch: int | str = "n",
        name: str = "x",
        dtype: str = "float32",
        answer: Callable[[Array], Array] = lambda x: 2 * x,
    ) -> None:
        self.inputs = (TensorSpec(name=name, dtype=dtype, shape=(batch, 3)),)
        self.outputs = (TensorSpec(name="y", dtype="float32", shape=(batch, 3)),)
        self.asked: list[int] = []
        self._answer = answer

    def run(self, inputs: Tensors) -> dict[str, Array]:
        (array,) = inputs.values()
        assert self.inputs[0].accepts(array.shape)
        self.asked.append(len(array))
        return {"y": self._answer(array)}

    def close(self) -> None:
        """Nothing is held."""


def _rows(*numbers: float) -> Tensor:
    return torch.tensor([[number, 0.0, 1.0] for number in numbers])


def test_a_sample_is_asked_for_once_in_whatever_batch_it_comes() -> None:
    """The second epoch, in another order, costs no inference, and answers alike."""
    session = CountingSession()
    teachers = Teachers([session], names=("x",))
    batch = _rows(1, 2, 3, 2)
    (first,) = teachers.answer((batch,))
    torch.testing.assert_close(first["y"], 2 * batch)
    other = _rows(3, 4, 1)
    (second,) = teachers.answer((other,))
    torch.testing.assert_close(second["y"], 2 * other)
    teachers.answer((batch,))
    assert session.asked == [3, 1]


def test_what_is_beyond_the_memory_is_asked_for_again() -> None:
    """Two answers of 12 bytes fit into 30; the third is not kept, and still right."""
    session = CountingSession()
    teachers = Teachers([session], names=("x",), kept_bytes=30)
    for _ in range(2):
        (found,) = teachers.answer((_rows(1, 2, 3),))
        torch.testing.assert_close(found["y"], 2 * _rows(1, 2, 3))
    assert session.asked == [3, 1]


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_model_of_a_fixed_batch_is_given_that_many(batch: int) -> None:
    """Five rows go through in pieces, the last one filled up."""
    session = CountingSession(batch=batch)
    rows = _rows(1, 2, 3, 4, 5)
    (found,) = Teachers([session], names=("x",)).answer((rows,))
    torch.testing.assert_close(found["y"], 2 * rows)
    assert session.asked == [batch] * -(-5 // batch)


def test_each_teacher_answers_for_itself() -> None:
    """In the order in which they were given; names of inputs may differ."""
    half = CountingSession(name="picture", answer=lambda x: x / 2)
    answers = Teachers([CountingSession(), half], names=("x",)).answer((_rows(8),))
    assert [one["y"][0, 0].item() for one in answers] == [16, 4]


@pytest.mark.parametrize(
    "session", [CountingSession(batch="n", dtype="int8"), CountingSession()]
)
def test_inputs_that_a_teacher_does_not_take_are_refused(
    session: CountingSession,
) -> None:
    """Another dtype, or another size: both sides are told."""
    wrong = _rows(1) if session.inputs[0].dtype == "int8" else torch.zeros(2, 5)
    with pytest.raises(DataError, match=r"teacher takes x .* student is given x float"):
        Teachers([session], names=("x",)).answer((wrong,))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda x: x * np.float32(np.nan), "NaN"),
        (lambda x: x[:1].sum(0), "shape"),
    ],
)
def test_answers_that_teach_nothing_are_refused(
    answer: Callable[[Array], Array], match: str
) -> None:
    """NaN would be learnt; one row for all samples is of none of them."""
    with pytest.raises(ModelError, match=match):
        Teachers([CountingSession(answer=answer)], names=("x",)).answer((_rows(1, 2),))


def test_no_teacher_is_refused() -> None:
    """There is nothing to learn from then."""
    with pytest.raises(DataError, match="no teacher"):
        Teachers([], names=("x",))

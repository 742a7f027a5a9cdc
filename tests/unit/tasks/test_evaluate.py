from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.core.seams import Array, Session
from skerry.tasks.evaluate import evaluate, output_distance
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.task import Task

MakeSession = Callable[[Callable[[Array], Array]], Session]


def _always_first(x: Array) -> Array:
    return np.eye(4, dtype=np.float32)[[0]] + 0 * x


def test_evaluate_scores_each_sample(
    make_session: MakeSession, four_classes: Task, one_hot: MemorySource
) -> None:
    """A model that always says class 0 is right for a quarter."""
    told: list[tuple[str, int, int]] = []
    scores = evaluate(
        make_session(_always_first),
        one_hot,
        four_classes,
        lambda what, done, total: told.append((what, done, total)),
    )
    assert scores.metric == "top1"
    assert scores.value == 0.25
    assert scores.per_sample.tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert scores.weights.tolist() == [1] * 8
    assert [prediction.label for prediction in scores.predictions] == [0] * 8
    assert scores.labels == (0, 1, 2, 3) * 2
    assert scores.names[2] == "s2"
    assert told == [("evaluate", k, 8) for k in range(1, 9)]


def test_samples_of_one_shape_are_run_together(
    make_session: MakeSession, four_classes: Task
) -> None:
    """At most so many at once, in order, with the scores of one at a time."""
    ran: list[tuple[int, ...]] = []

    def scores_of(x: Array) -> Array:
        ran.append(x.shape)
        return x[:, :4]

    widths = (4, 4, 4, 5, 5, 4)
    source = MemorySource(
        samples=tuple(
            Sample(inputs={"x": np.eye(width)[[index % 4]]}, label=0, name=f"s{index}")
            for index, width in enumerate(widths)
        )
    )
    together = evaluate(make_session(scores_of), source, four_classes, batch=2)
    assert ran == [(2, 4), (1, 4), (2, 5), (1, 4)]
    alone = evaluate(make_session(scores_of), source, four_classes)
    assert together.names == alone.names
    assert together.per_sample.tolist() == [1, 0, 0, 0, 1, 0]
    assert alone.per_sample.tolist() == [1, 0, 0, 0, 1, 0]


def test_a_model_that_gives_something_else_for_a_batch_is_refused(
    make_session: MakeSession, four_classes: Task, one_hot: MemorySource
) -> None:
    """Answers without one row a sample cannot be told apart."""
    with pytest.raises(DataError, match=r"of 4 samples has shape .*, expected 4"):
        evaluate(make_session(lambda x: x[:1]), one_hot, four_classes, batch=4)


def test_a_perfect_model_scores_one(
    make_session: MakeSession, four_classes: Task, one_hot: MemorySource
) -> None:
    """The identity is right each time."""
    assert evaluate(make_session(lambda x: x), one_hot, four_classes).value == 1


def test_nan_counts_as_wrong(
    make_session: MakeSession, four_classes: Task, one_hot: MemorySource
) -> None:
    """A model that gives NaN is wrong, not an error: a candidate may be that bad."""
    scores = evaluate(make_session(lambda x: x * np.nan), one_hot, four_classes)
    assert scores.value == 0


def test_evaluation_needs_labels(make_session: MakeSession, four_classes: Task) -> None:
    """A sample without a label is named."""
    sample = Sample(inputs={"x": np.zeros((1, 4))}, label=None, name="s7")
    with pytest.raises(DataError, match="sample s7 has no label"):
        evaluate(
            make_session(lambda x: x), MemorySource(samples=(sample,)), four_classes
        )


def test_a_label_beyond_the_classes_is_refused(
    make_session: MakeSession, four_classes: Task
) -> None:
    """Labels that count from 1 are noticed, also where classes have no names."""
    sample = Sample(inputs={"x": np.zeros((1, 4))}, label=4, name="s7")
    with pytest.raises(DataError, match="label of s7 is 4, the model has 4 classes"):
        evaluate(
            make_session(lambda x: x), MemorySource(samples=(sample,)), four_classes
        )


def test_evaluation_needs_samples(
    make_session: MakeSession, four_classes: Task
) -> None:
    """No samples have no score."""
    with pytest.raises(DataError, match="nothing to score"):
        evaluate(make_session(lambda x: x), MemorySource(samples=()), four_classes)


@pytest.mark.parametrize(
    ("outputs", "distance"),
    [
        ({"y": [3.0, 4.0]}, 0.0),
        ({"y": [3.0, 5.0]}, 1 / 25),
        ({"y": [0.0, 0.0]}, 1.0),
        ({"y": [np.nan, 4.0]}, np.inf),
        ({"y": [3.0]}, np.inf),
        ({"z": [3.0, 4.0]}, np.inf),
        ({}, np.inf),
    ],
)
def test_output_distance_is_the_relative_squared_error(
    outputs: dict[str, list[float]], distance: float
) -> None:
    """Σ (a - b)² / Σ a², infinite where outputs cannot be compared."""
    reference = {"y": np.array([3.0, 4.0], np.float32)}
    arrays = {name: np.array(values, np.float32) for name, values in outputs.items()}
    assert output_distance(reference, arrays) == pytest.approx(distance)


def test_output_distance_from_zero() -> None:
    """Where the reference is all 0, only 0 is near."""
    zero = {"y": np.zeros(3)}
    assert output_distance(zero, zero) == 0
    assert output_distance(zero, {"y": np.ones(3)}) == np.inf

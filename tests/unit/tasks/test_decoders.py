from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.tasks.decoders import Embedding, ReconstructionError, Value
from skerry.tasks.task import Task, TaskKind


def test_an_embedding_is_brought_to_length_one() -> None:
    """Or left as it is."""
    vector = Embedding().decode(np.array([[3.0, 4.0]], np.float32), ()).vector
    np.testing.assert_allclose(vector, [0.6, 0.8])
    plain = Embedding(normalize=False).decode(np.array([3.0, 4.0]), ())
    assert plain.vector is not None
    assert plain.vector.tolist() == [3, 4]
    assert (plain.name, plain.confidence) == ("2 numbers", 1)


@pytest.mark.parametrize("numbers", [[1.0, np.nan], [np.inf, 0.0], [0.0, 0.0]])
def test_an_embedding_without_direction_is_none(numbers: list[float]) -> None:
    """NaN, infinities and zeros say nothing of anybody."""
    found = Embedding().decode(np.array(numbers), ())
    assert found.vector is not None
    assert np.isnan(found.vector).all()
    assert (found.label, found.confidence) == ("", 0)


def test_a_value_is_brought_to_the_labels_unit() -> None:
    """One number is read, scaled and moved; the others are not looked at."""
    found = Value(index=1, scale=100.0, offset=-2.0).decode(np.array([[9, 0.5]]), ())
    assert found.value == 48
    assert found.name == "48"
    assert np.isnan(Value().decode(np.array([np.inf]), ()).value or 0)


def test_an_autoencoders_error_is_how_abnormal_a_sample_is() -> None:
    """The mean squared difference of the input and the output."""
    task = Task(
        kind=TaskKind.ANOMALY, metric="auc", post=(ReconstructionError(input="x"),)
    )
    outputs = {"y": np.array([[1.0, 2.0]])}
    inputs = {"w": np.zeros((1, 9)), "x": np.array([[1.0, 5.0]])}
    assert task.decode(outputs, inputs).value == 4.5
    with pytest.raises(DataError, match="'x', got no inputs"):
        task.decode(outputs)
    with pytest.raises(DataError, match="'x', got w"):
        task.decode(outputs, {"w": np.zeros((1, 2))})
    with pytest.raises(DataError, match="2 numbers, the input 3"):
        task.decode(outputs, {"x": np.zeros((1, 3))})


def test_outputs_that_are_too_small_are_refused() -> None:
    """Nothing to read is an error."""
    with pytest.raises(DataError, match="number 2, the output has 2"):
        Value(index=2).decode(np.zeros(2), ())
    with pytest.raises(DataError, match="holds no numbers"):
        Embedding().decode(np.zeros(0), ())


@pytest.mark.parametrize("step", [{"index": -1}, {"scale": np.nan}, {"offset": np.inf}])
def test_values_of_nothing_are_refused(step: dict[str, float]) -> None:
    """An index or a scale that cannot be."""
    with pytest.raises(UsageError, match="value: got"):
        Value(**step)

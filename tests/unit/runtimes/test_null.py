from collections.abc import Callable

import numpy as np
import pytest

from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes.null import NullRuntime
from tests.models import dynamic_net, mlp, model_bytes

Stored = Callable[[bytes], Model]


def test_it_answers_zeros(stored: Stored) -> None:
    """Free dimensions are those of the inputs, by their symbols; others are 1."""
    graph = model_bytes(
        """net (int64[n, 4, m] x) => (int64[m, 4, n] y, float[new] z) {
            y = Transpose<perm=[2, 1, 0]>(x)
            z = com.example.Count(x)
        }""",
        domains=', "com.example": 1',
    )
    session = NullRuntime().load(stored(graph), LoadOptions())
    outputs = session.run({"x": np.ones((2, 4, 3), np.int64)})
    np.testing.assert_array_equal(outputs["y"], np.zeros((3, 4, 2), np.int64))
    np.testing.assert_array_equal(outputs["z"], np.zeros(1, np.float32))


def test_it_answers_what_it_is_told(stored: Stored) -> None:
    """The function given sees the inputs, after they were checked."""

    def answer(inputs: Tensors) -> dict[str, Array]:
        return {"y": inputs["x"][:, :3] * 2}

    session = NullRuntime(answer).load(stored(mlp()), LoadOptions())
    outputs = session.run({"x": np.ones((1, 8), np.float32)})
    np.testing.assert_array_equal(outputs["y"], np.full((1, 3), 2, np.float32))


def test_it_never_reads_the_model(stored: Stored) -> None:
    """What no library could run is enough for it."""
    model = stored(dynamic_net())
    model.path.write_bytes(b"no model at all")
    session = NullRuntime().load(model, LoadOptions())
    assert session.run({"x": np.ones((2, 3, 8, 8), np.float32)})["y"].shape == (2, 4)


@pytest.mark.parametrize("repeats", [1, 5])
def test_its_profile_takes_no_time(stored: Stored, repeats: int) -> None:
    """One operator, so that what shows a profile has something to show."""
    profile = NullRuntime().profile(
        stored(mlp()),
        {"x": np.ones((1, 8), np.float32)},
        LoadOptions(threads=2),
        repeats=repeats,
    )
    assert (profile.threads, profile.repeats) == (2, repeats)
    assert [entry.latency_ms for entry in profile.operators] == [0.0]

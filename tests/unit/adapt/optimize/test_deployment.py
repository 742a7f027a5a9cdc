"""How a model is run, in a few words, and how long that takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.optimize import Deployment, by_word, in_turns
from skerry.core.clock import FakeClock
from skerry.core.seams import LoadOptions, Tensors
from skerry.graph import open_model
from skerry.runtimes.null import NullRuntime
from skerry.tasks.measure import ratio
from tests.models import model_bytes


@pytest.fixture
def start(tmp_path: Path) -> Deployment:
    """A net on a runtime that does nothing."""
    path = tmp_path / "net.onnx"
    path.write_bytes(model_bytes("net (float[1] x) => (float[1] y) { y = Relu(x) }"))
    return Deployment(model=open_model(path), runtime=NullRuntime())


def test_a_title_says_what_differs(start: Deployment) -> None:
    """Threads always, a precision where it is not the usual; of a target, its name."""
    assert start.title == "net.onnx on null, 1 thread"
    precise = replace(start, options=LoadOptions(threads=2, precision="float32"))
    assert precise.title == "net.onnx on null, 2 threads, float32"
    assert replace(precise, target="my-board").title == "net.onnx on my-board"


def test_it_is_loaded_as_it_says(start: Deployment) -> None:
    """The session is of its runtime and model."""
    assert start.load().inputs == start.model.inputs


def test_a_latency_is_that_of_one_inference(start: Deployment) -> None:
    """One timed call runs all inputs, and is divided by their number."""
    clock = FakeClock()

    def answer(inputs: Tensors) -> dict[str, np.ndarray]:
        clock.advance(wall_s=float(inputs["x"][0]))
        return {"y": inputs["x"]}

    inputs = [{"x": np.array([s], np.float32)} for s in (0.25, 0.75)]
    time = in_turns(inputs, rounds=3, clock=clock)
    found = time({"it": replace(start, runtime=NullRuntime(answer))})
    assert found["it"].wall_ms == pytest.approx((500, 500, 500))


def test_a_word_has_no_noise(start: Deployment) -> None:
    """The interval of a ratio of two is that ratio."""
    said = {"now": 4.0, "then": 3.0}
    time = by_word(lambda one: said[one.target])
    found = time({name: replace(start, target=name) for name in said})
    compared = ratio(found["then"], found["now"])
    assert (compared.low, compared.median, compared.high) == (0.75, 0.75, 0.75)

from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest

from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.runtimes.openvino import MOST_SHAPES, OpenvinoRuntime, OpenvinoSession
from tests.models import conv_net, dynamic_net, model_bytes

Stored = Callable[[bytes], Model]
OPTIONS = LoadOptions(precision="float32")


def shape(batch: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """An input of `dynamic_net`."""
    rng = np.random.default_rng(batch)
    return {"x": rng.normal(size=(batch, 3, 8, 8)).astype(np.float32)}


def test_a_dynamic_model_is_compiled_a_bounded_number_of_times(
    stored: Stored,
) -> None:
    """Once for each of the first shapes, once more for all others; answers agree."""
    session = OpenvinoRuntime().load(stored(dynamic_net()), OPTIONS)
    compiled = []
    compile_ = OpenvinoSession._compile

    def count(self: OpenvinoSession, shapes: tuple[tuple[int, ...], ...]) -> None:
        compiled.append(shapes)
        compile_(self, shapes)

    batches = list(range(1, MOST_SHAPES + 4))
    with patch.object(OpenvinoSession, "_compile", count):
        first = [session.run(shape(batch))["y"] for batch in batches]
        again = [session.run(shape(batch))["y"] for batch in reversed(batches)]
    assert compiled == [((n, 3, 8, 8),) for n in batches[:MOST_SHAPES]] + [()]
    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_static_model_is_compiled_when_it_is_loaded(stored: Stored) -> None:
    """The first inference does not pay for it."""
    session = OpenvinoRuntime().load(stored(conv_net(size=8)), OPTIONS)
    with patch.object(OpenvinoSession, "_compile", side_effect=AssertionError):
        session.run(shape(1))


def test_the_precision_asked_for_is_the_one_compiled_with(stored: Stored) -> None:
    """float32 is asked of OpenVINO; by default nothing is, so it may take bf16."""
    model = stored(conv_net(size=8))
    session = OpenvinoRuntime().load(model, OPTIONS)
    assert session._settings["INFERENCE_PRECISION_HINT"] == "f32"
    types = [
        entry.op_type
        for entry in OpenvinoRuntime()
        .profile(model, shape(1), OPTIONS, repeats=1)
        .operators
        if "Convolution" in entry.op_type
    ]
    assert types
    assert all(op_type.endswith("f32") for op_type in types)
    session = OpenvinoRuntime().load(model, LoadOptions())
    assert "INFERENCE_PRECISION_HINT" not in session._settings


def test_float32_is_exact_where_bf16_would_not_be(stored: Stored) -> None:
    """1 + 2⁻¹² has no place in bf16's 8 bits of precision."""
    graph = model_bytes(
        "net (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) { y = Conv(x, w) }",
        {"w": np.ones((1, 1, 1, 1), np.float32)},
    )
    session = OpenvinoRuntime().load(stored(graph), OPTIONS)
    fine = np.full((1, 1, 4, 4), 1 + 2**-12, np.float32)
    np.testing.assert_array_equal(session.run({"x": fine})["y"], fine)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_threads_asked_for_are_those_compiled_with(
    stored: Stored, threads: int
) -> None:
    """OpenVINO says how many it uses."""
    session = OpenvinoRuntime().load(stored(conv_net()), LoadOptions(threads=threads))
    (request,) = session._requests.values()
    compiled = request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("NUM_STREAMS") == 1

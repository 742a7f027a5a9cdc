from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from skerry.compress.ptq.half import Half, HalfType, compute_half, store_half
from skerry.compress.ptq.prepare import simplify
from skerry.compress.ptq.quantize import StepContext
from skerry.core import plugins
from skerry.core.errors import ModelError, UsageError
from skerry.core.seams import LoadOptions, Runtime
from skerry.graph import Graph, dtype_name, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import MemorySource
from tests import models, running

MakeSource = Callable[..., MemorySource]

WIDE = models.model_bytes(
    """net (float[1, 32] x) => (float[1, 32] y) {
      a = MatMul(x, w) r = Relu(a) y = MatMul(r, w2)
    }""",
    models.random_weights({"w": (32, 32), "w2": (32, 32)}),
)

BIASED = models.model_bytes(
    """net (float[1, 32] x) => (float[1, 32] y) {
      a = Gemm(x, w, v) r = Relu(a) y = MatMul(r, w2)
    }""",
    models.random_weights({"w": (32, 32), "v": (32,), "w2": (32, 32)}),
)


@pytest.fixture
def context(
    runtime: Runtime, make_source: MakeSource
) -> Callable[[Graph], StepContext]:
    """Random samples for a graph."""
    return lambda graph: StepContext(calibration=make_source(graph), runtime=runtime)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_weights_take_half_the_bytes(dtype: HalfType) -> None:
    """Tensors of some size are of two bytes a number, and compute as float32."""
    graph = parse_graph(WIDE)
    stored = store_half(graph, dtype)
    assert len(stored.to_bytes()) < 0.6 * len(graph.to_bytes())
    kinds = Counter(dtype_name(value) for value in stored.initializers)
    assert kinds == {dtype: 2}
    assert stored.inputs == graph.inputs
    assert stored.outputs == graph.outputs
    atol = 0.05 if dtype == "float16" else 0.4
    assert running.same_outputs(graph, stored, atol=atol)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "step", [Half(), Half(dtype="bfloat16"), Half(compute=True)], ids=str
)
@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
def test_both_runtimes_run_it_right(
    name: str,
    step: Half,
    build: models.Builder,
    context: Callable[[Graph], StepContext],
    tmp_path: object,
) -> None:
    """What is stored or computed in two bytes runs near float32 on each runtime."""
    graph = parse_graph(build())
    halved = step.apply(graph, context(graph))
    inputs = running.random_inputs(graph)
    expected = running.run(graph, inputs)["y"]
    model = write_graph(halved, tmp_path / "half.onnx")
    session = get_runtime(name).load(model, LoadOptions(precision="float32"))
    assert np.allclose(session.run(inputs)["y"], expected, rtol=0.05, atol=0.05)
    session.close()


def test_signature_stays_float32(context: Callable[[Graph], StepContext]) -> None:
    """Inputs and outputs are those of the source; what is inside computes in FP16."""
    graph = parse_graph(models.conv_net())
    halved = Half(compute=True).apply(graph, context(graph))
    assert (halved.inputs, halved.outputs) == (graph.inputs, graph.outputs)
    counts = Counter(node.op_type for node in halved.nodes)
    assert counts["Cast"] == 2
    convolutions = [node for node in halved.nodes if node.op_type == "Conv"]
    for node in convolutions:
        assert {dtype_name(value) for value in node.inputs} == {"float16"}


def test_what_overflows_stays_float32(context: Callable[[Graph], StepContext]) -> None:
    """A product beyond 65,504 is kept in float32, the others are not."""
    content = models.model_bytes(
        """net (float[1, 4] x) => (float[1, 4] y) {
          a = MatMul(x, w) b = Mul(a, large) c = Mul(b, small) y = MatMul(c, w)
        }""",
        models.random_weights({"w": (4, 4)})
        | {
            "large": np.array([3e5], np.float32),
            "small": np.array([1e-5], np.float32),
        },
    )
    graph = parse_graph(content)
    halved = Half(compute=True).apply(graph, context(graph))
    kinds = {
        node.name: {dtype_name(v) for v in node.inputs}
        for node in halved.nodes
        if node.op_type != "Cast"
    }
    assert kinds["a"] == kinds["y"] == {"float16"}
    assert kinds["b"] == kinds["c"] == {"float32"}
    assert running.same_outputs(graph, halved, atol=0.05)


def test_twice_what_was_seen_must_fit() -> None:
    """Values may become twice as large as on the samples before they overflow."""
    graph = simplify(parse_graph(WIDE))
    seen = {"x": 1.0, "a": 40_000.0, "r": 40_000.0, "y": 1.0}
    kept = compute_half(graph, seen)
    assert not any(dtype_name(value) == "float16" for value in kept.initializers)
    fine = compute_half(graph, dict.fromkeys(seen, 30_000.0))
    assert sum(dtype_name(value) == "float16" for value in fine.initializers) == 2
    assert compute_half(graph, {}).to_bytes() == graph.to_bytes()


def test_what_only_float32_exists_for_stays(
    context: Callable[[Graph], StepContext],
) -> None:
    """The scales of Resize are float32 by the standard, and so is what shapes say."""
    content = models.model_bytes(
        """net (float[1, 4, 4, 4] x) => (float[1, 4, h, w] y) {
          a = Conv(x, k) y = Resize(a, , scales)
        }""",
        models.random_weights({"k": (4, 4, 1, 1)})
        | {"scales": np.array([1, 1, 2, 2], np.float32)},
    )
    graph = parse_graph(content)
    halved = Half(compute=True).apply(graph, context(graph))
    resize = next(node for node in halved.nodes if node.op_type == "Resize")
    assert dtype_name(resize.inputs[0]) == "float16"
    assert dtype_name(resize.inputs[2]) == "float32"
    assert running.same_outputs(graph, halved, atol=0.05)


def test_graphs_inside_read_float32(context: Callable[[Graph], StepContext]) -> None:
    """What an If takes from outside is cast back for it."""
    graph = parse_graph(models.if_net())
    halved = Half(compute=True).apply(graph, context(graph))
    assert running.same_outputs(graph, halved, atol=0.05)


def test_values_that_are_outputs_too(context: Callable[[Graph], StepContext]) -> None:
    """A value inside that is an output keeps its name and float32."""
    content = models.model_bytes(
        """net (float[1, 4] x) => (float[1, 4] a, float[1, 4] y) {
          a = MatMul(x, w) y = MatMul(a, w)
        }""",
        models.random_weights({"w": (4, 4)}),
    )
    graph = parse_graph(content)
    halved = Half(compute=True).apply(graph, context(graph))
    assert halved.outputs == graph.outputs
    assert running.same_outputs(graph, halved, atol=0.05)


def test_weights_that_do_not_fit_stay() -> None:
    """A weight beyond FP16 keeps its tensor float32; BF16 holds it."""
    large = {"w": np.full((20, 20), 1e6, np.float32)}
    content = models.model_bytes(
        "net (float[1, 20] x) => (float[1, 20] y) { y = MatMul(x, w) }", large
    )
    graph = parse_graph(content)
    assert [dtype_name(v) for v in store_half(graph, "float16").initializers] == [
        "float32"
    ]
    assert [dtype_name(v) for v in store_half(graph, "bfloat16").initializers] == [
        "bfloat16"
    ]


def test_a_quantized_graph_keeps_its_scales(
    quantized: Callable[..., Graph], context: Callable[[Graph], StepContext]
) -> None:
    """Of what is quantized, only layers kept float are stored in two bytes."""
    graph = quantized(BIASED, keep_float=("y",))
    stored = store_half(graph, "float16")
    kinds = Counter(dtype_name(value) for value in stored.initializers)
    assert kinds["float16"] == 1
    assert kinds["int8"] == 2
    assert running.same_outputs(graph, stored, atol=0.05)
    with pytest.raises(ModelError, match="quantized already"):
        Half(compute=True).apply(graph, context(graph))


@pytest.mark.parametrize(
    "step", [Half(), Half(dtype="bfloat16"), Half(compute=True)], ids=str
)
def test_a_recipe_gives_the_same_bytes_again(
    step: Half, context: Callable[[Graph], StepContext]
) -> None:
    """The step found by its name with the parameters of `spec` does the same."""
    graph = parse_graph(models.conv_net())
    spec = step.spec()
    again = plugins.find(plugins.STEPS, spec.name)(**spec.params)
    assert again == step
    before = graph.to_bytes()
    first = step.apply(graph, context(graph)).to_bytes()
    assert again.apply(graph, context(graph)).to_bytes() == first
    assert graph.to_bytes() == before


@pytest.mark.parametrize(
    "params", [{"dtype": "float8"}, {"dtype": "bfloat16", "compute": True}]
)
def test_nonsense_is_refused(params: dict[str, object]) -> None:
    """Another dtype, and computing in one that no runtime here has kernels for."""
    with pytest.raises(UsageError) as caught:
        Half(**params)
    assert caught.value.hint

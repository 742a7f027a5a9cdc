from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from skerry.compress.numbers.codebooks import encode
from skerry.compress.ptq.codebook import Codebook
from skerry.compress.ptq.quantize import StepContext
from skerry.core import plugins
from skerry.core.errors import ModelError, UsageError
from skerry.core.seams import LoadOptions, Runtime
from skerry.graph import Graph, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import MemorySource
from tests import models, running

STEPS = (
    Codebook(),
    Codebook(per_channel=False),
    Codebook(bits=8),
    Codebook(kind="power-of-two"),
)
WIDE = models.model_bytes(
    """net (float[1, 32, 6, 6] x) => (float[1, 64] y) {
      a = Conv(x, w) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p)
      y = Gemm<transB = 1>(f, v)
    }""",
    models.random_weights({"w": (51, 32, 3, 3), "v": (64, 51)}),
)


@pytest.fixture
def context(runtime: Runtime) -> StepContext:
    """The step looks at no sample."""
    return StepContext(calibration=MemorySource(samples=()), runtime=runtime)


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_both_runtimes_decode_what_was_coded(
    step: Codebook, name: str, context: StepContext, tmp_path: Path
) -> None:
    """The graph computes with the numbers that the codes stand for."""
    graph = parse_graph(WIDE)
    weights = models.random_weights({"w": (51, 32, 3, 3), "v": (64, 51)})
    axis = 0 if step.per_channel else None
    decoded = {
        key: encode(array, bits=step.bits, kind=step.kind, axis=axis).decode()
        for key, array in weights.items()
    }
    text = onnx.load_from_string(WIDE)
    for tensor in text.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(decoded[tensor.name], tensor.name))
    inputs = running.random_inputs(graph)
    expected = running.run(parse_graph(text.SerializeToString()), inputs)["y"]
    model = write_graph(step.apply(graph, context), tmp_path / "coded.onnx")
    session = get_runtime(name).load(model, LoadOptions(precision="float32"))
    assert np.allclose(session.run(inputs)["y"], expected, rtol=1e-3, atol=1e-3)
    session.close()


def test_an_odd_number_of_codes(context: StepContext) -> None:
    """The code that fills up the last byte is left out again."""
    shape = (43, 21, 3, 3)
    content = models.model_bytes(
        "net (float[1, 21, 3, 3] x) => (float[1, 43, 1, 1] y) { y = Conv(x, w) }",
        {"w": np.sign(models.random_weights({"w": shape})["w"])},
    )
    assert np.prod(shape) % 2 == 1
    graph = parse_graph(content)
    coded = Codebook(per_channel=False).apply(graph, context)
    assert "Slice" in {node.op_type for node in coded.nodes}
    assert running.same_outputs(graph, coded, atol=1e-3)


@pytest.mark.parametrize(("bits", "most"), [(4, 0.25), (8, 0.4)])
def test_the_file_is_smaller(bits: int, most: float, context: StepContext) -> None:
    """Codes are uint8 in the file, two to a byte where they have four bits."""
    graph = parse_graph(WIDE)
    coded = Codebook(bits=bits).apply(graph, context)
    assert len(coded.to_bytes()) < most * len(WIDE)
    stored = {
        value.name: coded.constant(value)
        for value in coded.initializers
        if str(value.name).endswith(".codes")
    }
    assert {str(array.dtype) for array in stored.values()} == {"uint8"}
    numbers = 51 * 32 * 9 + 51 * 64
    assert sum(array.size for array in stored.values()) == numbers * bits // 8


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_onnxruntime_decodes_when_it_loads(
    step: Codebook, context: StepContext, tmp_path: Path
) -> None:
    """Nothing of the decoder is left at run time: the speed is that of float32."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    content = step.apply(parse_graph(WIDE), context).to_bytes()
    onnxruntime.InferenceSession(content, options)
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert not kinds & {"Cast", "Concat", "Div", "Gather", "Mod", "Mul", "Slice"}


def test_small_and_named_layers_stay_float(context: StepContext) -> None:
    """Weights that a codebook would not make smaller, or that are named, are left."""
    small = parse_graph(models.mlp())
    assert "Gather" not in {n.op_type for n in Codebook().apply(small, context).nodes}
    graph = parse_graph(WIDE)
    kept = Codebook(keep_float=("a",)).apply(graph, context)
    node = next(node for node in kept.nodes if node.name == "a")
    assert np.array_equal(
        kept.constant(node.inputs[1]), graph.constant(graph.value("w"))
    )


def test_shared_weights_are_coded_once(context: StepContext) -> None:
    """Two layers with the same weights read the same codes."""
    content = models.model_bytes(
        """net (float[1, 64] x) => (float[1, 64] y) {
          a = MatMul(x, w) y = MatMul(a, w)
        }""",
        models.random_weights({"w": (64, 64)}),
    )
    coded = Codebook().apply(parse_graph(content), context)
    assert [node.op_type for node in coded.nodes].count("Gather") == 1


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_recipe_gives_the_same_bytes_again(
    step: Codebook, context: StepContext
) -> None:
    """The step found by its name with the parameters of `spec` does the same."""
    spec = step.spec()
    again = plugins.find(plugins.STEPS, spec.name)(**spec.params)
    assert again == step
    graph = parse_graph(WIDE)
    before = graph.to_bytes()
    first = step.apply(graph, context).to_bytes()
    assert again.apply(graph, context).to_bytes() == first
    assert graph.to_bytes() == before


def test_what_cannot_be_coded_is_refused(
    quantized: Callable[..., Graph], context: StepContext
) -> None:
    """A wrong name, a wrong width, a quantized graph: an error with a hint."""
    with pytest.raises(UsageError, match="conv9"):
        Codebook(keep_float=("conv9",)).apply(parse_graph(WIDE), context)
    with pytest.raises(UsageError, match="bits"):
        Codebook(bits=5)
    with pytest.raises(ModelError, match="quantized already"):
        Codebook().apply(quantized(WIDE), context)

"""TFLite in tests: graphs quantized on noise, and LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from skerry.adapt.tflite.complete import insert_pair
from skerry.app.pipelines.export import complete_scales
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.seams import Array, Tensors
from skerry.graph import Graph, infer_shapes, parse_graph
from skerry.runtimes import get_runtime
from skerry.tasks.sample import Sample
from tests.models import model_bytes, random_weights

SAMPLES = 6


class Noise:
    """Samples of noise for a graph's inputs, always the same."""

    def __init__(self, graph: Graph, *, count: int = SAMPLES, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self._rows = [
            {
                spec.name: rng.normal(size=spec.shape).astype(np.float32)
                for spec in graph.inputs
            }
            for _ in range(count)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def pick(self, _: Any) -> Noise:
        """All of them."""
        return self

    def __iter__(self) -> Any:
        return (
            Sample(inputs=row, label=None, name=str(place))
            for place, row in enumerate(self._rows)
        )

    @property
    def rows(self) -> list[dict[str, Array]]:
        """The inputs alone."""
        return self._rows


def float_graph(
    text: str, shapes: Mapping[str, tuple[int, ...]] | None = None, *, opset: int = 17
) -> Graph:
    """A float graph in ONNX's text form, with random weights of some shapes.

    Shapes of outputs need not be told.
    """
    content = model_bytes(text, random_weights(shapes or {}), opset=opset)
    model = onnx.load_from_string(content)
    shaped = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return infer_shapes(parse_graph(shaped.SerializeToString()))


def quantized(graph: Graph) -> Graph:
    """A graph of codes throughout, its ranges those of noise."""
    noise = Noise(graph)
    runtime = get_runtime("onnxruntime")
    if any(
        node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        for node in graph.nodes
    ):
        context = StepContext(calibration=noise, runtime=runtime)
        pairs = Quantize(operators="all").apply(graph, context)
    else:
        pairs = graph.copy()
        for value in pairs.input_values:
            insert_pair(pairs, value, 1 / 32, 0)
    return complete_scales(infer_shapes(pairs), noise.rows, runtime)


class Reference:
    """A TFLite file on LiteRT's reference kernels; floats in and out.

    Codes are made and read by the file's own scales; pictures are given and taken in
    the order that is asked of `run`.
    """

    def __init__(self, content: bytes) -> None:
        self._interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        )
        self._interpreter.allocate_tensors()
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()

    def codes(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run on arrays as the file takes them."""
        for one in self.inputs:
            self._interpreter.set_tensor(one["index"], arrays[one["name"]])
        self._interpreter.invoke()
        return {
            one["name"]: self._interpreter.get_tensor(one["index"])
            for one in self.outputs
        }

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Run on the floats of an ONNX graph; gives its outputs, in its order."""
        given = {
            one["name"]: _as_taken(tensors[one["name"]], one) for one in self.inputs
        }
        made = self.codes(given)
        return {one["name"]: _as_floats(made[one["name"]], one) for one in self.outputs}

    def steps(self) -> dict[str, float]:
        """The scale of each output; 0 for floats."""
        return {one["name"]: one["quantization"][0] for one in self.outputs}


def _as_taken(array: Array, one: Mapping[str, Any]) -> Array:
    shape = tuple(one["shape"])
    if array.shape != shape:
        array = array.transpose(0, 2, 3, 1)
    assert array.shape == shape
    scale, zero_point = one["quantization"]
    if one["dtype"] == np.float32:
        return np.ascontiguousarray(array)
    codes = np.rint(array / np.float32(scale)) + zero_point
    return np.clip(codes, -128, 127).astype(np.int8)


def _as_floats(array: Array, one: Mapping[str, Any]) -> Array:
    scale, zero_point = one["quantization"]
    if one["dtype"] == np.float32:
        return array
    return (array.astype(np.float64) - zero_point) * scale


def in_order(array: Array, shape: tuple[int, ...]) -> Array:
    """An output in the order that ONNX has it in."""
    return array if array.shape == shape else array.transpose(0, 3, 1, 2)

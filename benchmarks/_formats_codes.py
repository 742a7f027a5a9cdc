"""How far the codes of our TFLite files are from those of the ONNX graphs.

Rounding is where runtimes differ: LiteRT's reference kernels round twice (a product to
31 bits, then to the code), onnxruntime and LiteRT's own fast kernels once. A code that
is off by one changes what the next layer reads, so differences grow with depth in any
two of them. What is to be judged here is the file. So each of its operators is given
the codes that ONNX has at that place, and its own result is compared; the whole net
from end to end is told beside it; both with both sets of LiteRT's kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from benchmarks._formats_nets import Exported
from skerry.adapt.tflite import _schema
from skerry.adapt.tflite.net import Net, Operator, Tensor
from skerry.adapt.tflite.tidy import only_used
from skerry.compress.ptq.calibrate import watch
from skerry.core.seams import Array, Tensors
from skerry.graph import Graph
from skerry.runtimes import get_runtime

_KERNELS = {
    "reference kernels": OpResolverType.BUILTIN_REF,
    "default kernels": OpResolverType.AUTO,
}


@dataclass(slots=True)
class Offs:
    """How many codes were compared, and how far they are off."""

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, found: Array, wanted: Array) -> None:
        """Compare codes."""
        off = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
        for distance, count in zip(*np.unique(off, return_counts=True), strict=True):
            at = int(distance)
            self.counts[at] = self.counts.get(at, 0) + int(count)

    @property
    def n(self) -> int:
        """How many were compared."""
        return sum(self.counts.values())

    def share(self, least: int) -> float:
        """The share that is off by at least so much, in per cent."""
        off = sum(count for at, count in self.counts.items() if at >= least)
        return 100 * off / max(1, self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was found of one net.

    Attributes:
        operators: Each operator on the codes of ONNX, by kernels.
        begins: The first operator, in order, that differs at all there, by kernels;
            empty where none does.
        whole: The net's outputs from end to end, by kernels; and LiteRT's default
            kernels against its reference ones.
        same_answer: Share of samples of the same largest output, by kernels.
        samples: How many.
    """

    operators: Mapping[str, Offs]
    begins: Mapping[str, str]
    whole: Mapping[str, Offs]
    same_answer: Mapping[str, float]
    samples: int


def compare(net: Exported, samples: Iterable[Tensors]) -> Compared:
    """Run samples through a net on onnxruntime and on LiteRT."""
    content = net.path.read_bytes()
    file = _schema.decode(content, net.name)
    codes = _codes_by_tensor(net.graph, file)
    parts = [
        (name, _Part(one, kernels), Offs())
        for one in _parts(file, {*codes, *file.inputs})
        for name, kernels in _KERNELS.items()
    ]
    whole = {name: _load(content, one) for name, one in _KERNELS.items()}
    offs = {name: Offs() for name in (*whole, "default ÷ reference")}
    same, count = dict.fromkeys(whole, 0), 0
    for known in _known(net.graph, samples, file, codes):
        count += 1
        for _, part, off in parts:
            for index, made in part.run(known).items():
                off.add(made, known[index])
        answers = {
            name: _run(one, known[file.inputs[0]]) for name, one in whole.items()
        }
        wanted = known[file.outputs[0]]
        for name, made in answers.items():
            offs[name].add(made, wanted)
            same[name] += int(made.argmax() == wanted.argmax())
        offs["default ÷ reference"].add(*answers.values())
    return Compared(
        operators={
            name: _joined(off for kernels, _, off in parts if kernels == name)
            for name in whole
        },
        begins={
            name: next(
                (
                    f"{part.code}, {off.share(1):.2g} % off by one"
                    for kernels, part, off in parts
                    if kernels == name and off.share(1)
                ),
                "",
            )
            for name in whole
        },
        whole=offs,
        same_answer={name: alike / max(1, count) for name, alike in same.items()},
        samples=count,
    )


def _joined(parts: Iterable[Offs]) -> Offs:
    whole = Offs()
    for part in parts:
        for at, count in part.counts.items():
            whole.counts[at] = whole.counts.get(at, 0) + count
    return whole


def _codes_by_tensor(graph: Graph, file: Net) -> dict[int, str]:
    """The values of the graph that are the codes of tensors, by name."""
    named = {
        str(node.inputs[0] and node.inputs[0].name): str(node.outputs[0].name)
        for node in graph.nodes
        if node.op_type == "QuantizeLinear"
    }
    for value in graph.output_values:
        producer = value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            named[str(value.name)] = str(producer.inputs[0] and producer.inputs[0].name)
        elif producer is not None:
            named[str(value.name)] = str(value.name)
    for spec in graph.inputs:
        if not spec.dtype.startswith("float"):
            named[spec.name] = spec.name
    return {
        index: named[tensor.name]
        for index, tensor in enumerate(file.tensors)
        if tensor.content is None and tensor.name in named
    }


def _known(
    graph: Graph,
    samples: Iterable[Tensors],
    file: Net,
    codes: Mapping[int, str],
) -> Iterator[dict[int, Array]]:
    """The codes of each sample on onnxruntime, as TFLite has them."""
    given = [spec.name for spec in graph.inputs]
    names = sorted({*codes.values(), *given})
    runtime = get_runtime("onnxruntime")
    for found in watch(graph, names, samples, runtime=runtime):
        known = {index: found[name] for index, name in codes.items()}
        for index, name in zip(file.inputs, given, strict=True):
            if found[name].dtype == np.float32:
                known[index] = _quantized(found[name], file.tensors[index])
        yield {
            index: _as_in_file(array, file.tensors[index].shape)
            for index, array in known.items()
        }


def _quantized(array: Array, tensor: Tensor) -> Array:
    if tensor.quantization is None:
        return array
    codes = np.rint(array / tensor.quantization.scale[0])
    codes += tensor.quantization.zero_point[0]
    return np.clip(codes, -128, 127).astype(np.int8)


def _as_in_file(array: Array, shape: tuple[int, ...]) -> Array:
    if array.dtype == np.uint8:
        array = (array.astype(np.int16) - 128).astype(np.int8)
    if array.shape != shape and array.ndim == len(shape) == 4:
        array = array.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(array.reshape(shape))


def _parts(file: Net, known: set[int]) -> Iterator[Net]:
    """For each known tensor the operators that make it out of known tensors."""
    makers = {index: one for one in file.operators for index in one.outputs}
    for target in sorted(known & makers.keys()):
        chosen: dict[int, Operator] = {}
        given: set[int] = set()
        waiting = [target]
        while waiting:
            index = waiting.pop()
            if index < 0 or file.tensors[index].content is not None:
                continue
            if index in known and index != target:
                given.add(index)
                continue
            operator = makers[index]
            chosen[file.operators.index(operator)] = operator
            waiting.extend(operator.inputs)
        yield Net(
            tensors=file.tensors,
            operators=tuple(chosen[place] for place in sorted(chosen)),
            inputs=tuple(sorted(given)),
            outputs=(target,),
        )


class _Part:
    """Some operators of a file on one of LiteRT's sets of kernels."""

    def __init__(self, net: Net, kernels: OpResolverType) -> None:
        self.code = net.operators[-1].code
        self._given, self._made = net.inputs, net.outputs
        content = _schema.encode(only_used(net), "a part")
        self._interpreter = _load(content, kernels)

    def run(self, known: Mapping[int, Array]) -> dict[int, Array]:
        """What they make of known codes."""
        details = self._interpreter.get_input_details()
        for one, index in zip(details, self._given, strict=True):
            self._interpreter.set_tensor(one["index"], known[index])
        self._interpreter.invoke()
        made = self._interpreter.get_output_details()
        return {
            index: self._interpreter.get_tensor(one["index"])
            for one, index in zip(made, self._made, strict=True)
        }


def _load(content: bytes, kernels: Any) -> Any:
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=kernels, num_threads=1
    )
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: Any, codes: Array) -> Array:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
    interpreter.invoke()
    made: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return made

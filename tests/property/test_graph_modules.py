"""Any graph of known operators computes in torch what it does in onnxruntime."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skerry.compress.train.from_graph import GraphModule, from_graph
from skerry.graph import Graph, parse_graph
from skerry.runtimes.torch import TorchSession
from tests import models, running

UNARY = (
    "Relu(x)",
    "Sigmoid(x)",
    "Tanh(x)",
    "HardSwish(x)",
    "HardSigmoid<alpha = 0.17, beta = 0.4>(x)",
    "Softplus(x)",
    "Softsign(x)",
    "Elu<alpha = 0.7>(x)",
    "Selu(x)",
    "LeakyRelu<alpha = 0.2>(x)",
    "ThresholdedRelu<alpha = 0.43>(x)",
    "Abs(x)",
    "Erf(x)",
    "Clip(x, low, high)",
    "Softmax<axis = 1>(x)",
    "LogSoftmax<axis = -1>(x)",
    "ReduceMean<axes = [2], keepdims = 1>(x)",
    "ReduceMax<axes = [1, 3], keepdims = 1>(x)",
    "ReduceL2<axes = [1], keepdims = 1>(x)",
    "GlobalAveragePool(x)",
    "GlobalMaxPool(x)",
    "LRN<size = 3>(x)",
    "Transpose<perm = [0, 3, 1, 2]>(x)",
    "Identity(x)",
    "Slice(x, from, to, along, by)",
    "Concat<axis = 1>(x, x)",
    "Tile(x, twice)",
    "Reshape(x, kept)",
    "Gather<axis = 2>(x, picked)",
    "CumSum<reverse = 1>(x, along)",
)
CONSTANTS: dict[str, NDArray[np.generic]] = {
    "low": np.array(-0.6, np.float32),
    "high": np.array(0.8, np.float32),
    "from": np.array([-1]),
    "to": np.array([-99]),
    "along": np.array([3]),
    "by": np.array([-1]),
    "twice": np.array([1, 1, 2, 1]),
    "kept": np.array([0, 1, -1, 3]),
    "picked": np.array([0, -1]),
}
BINARY = ("Add", "Sub", "Mul", "Max", "Min", "PRelu")


@dataclass(kw_only=True)
class Growing:
    """A graph to which node after node is added."""

    lines: list[str] = field(default_factory=list)
    weights: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def graph(self, name: str) -> Graph:
        """All nodes so far; one value is the output."""
        read = {key: one for key, one in self.weights.items() if self.reads(key)}
        return parse_graph(
            models.model_bytes(
                f"net (float[2, 3, 6, 6] in) => (float[a, b, c, d] {name}) "
                f"{{ {' '.join(self.lines)} }}",
                read,
            )
        )

    def reads(self, constant: str) -> bool:
        """Whether any node reads a constant."""
        words = " ".join(self.lines).replace(",", " ").replace(")", " ").split()
        return any(word.rpartition("(")[2] == constant for word in words)

    def add(self, call: str, weights: Mapping[str, NDArray[np.generic]]) -> bool:
        """Add a node, unless its inputs do not fit it."""
        name = f"v{len(self.shapes)}"
        self.lines.append(f"{name} = {call}")
        self.weights |= weights
        try:
            graph = self.graph(name)
            shape = running.run(graph, running.random_inputs(graph))[name].shape
        except Exception:  # noqa: BLE001 - onnxruntime's own, of many kinds
            self.lines.pop()
            return False
        if len(shape) != 4 or not 0 < np.prod(shape) < 5000:
            self.lines.pop()
            return False
        self.shapes[name] = shape
        return True


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a node with weights or a window is to be put, and what draws it."""

    draw: st.DrawFn
    x: str
    shape: tuple[int, ...]
    rng: np.random.Generator
    key: str

    def weight(self, *shape: int) -> NDArray[np.float32]:
        """Random weights of which a sum stays small."""
        size = max(1, int(np.prod(shape[1:])))
        return (self.rng.normal(size=shape) / np.sqrt(size)).astype(np.float32)

    def numbers(self, low: int, high: int, count: int) -> list[int]:
        """Draw some whole numbers."""
        return [self.draw(st.integers(low, high)) for _ in range(count)]

    def one_of(self, *words: str) -> str:
        """Draw a word."""
        return self.draw(st.sampled_from(words))

    def window(self, *, may_dilate: bool) -> tuple[list[int], str]:
        """The size of a window no larger than its input, and all its attributes."""
        sizes = self.shape[2:]
        kernel = [self.draw(st.integers(1, min(3, size))) for size in sizes]
        given = [f"kernel_shape = {kernel}", f"strides = {self.numbers(1, 3, 2)}"]
        mode = self.one_of("SAME_UPPER", "SAME_LOWER", "VALID", "", "")
        # onnxruntime refuses dilations together with SAME.
        if may_dilate and "SAME" not in mode and min(sizes) >= 5:
            given.append(f"dilations = {self.numbers(1, 2, 2)}")
        if mode:
            given.append(f'auto_pad = "{mode}"')
        else:
            pads = [self.draw(st.integers(0, size - 1)) for size in kernel * 2]
            given.append(f"pads = {pads}")
        return kernel, ", ".join(given)


Made = tuple[str, dict[str, NDArray[np.generic]]]


def convolution(at: Place) -> Made:
    """With or without a bias, of one group or of as many as there are channels."""
    channels = at.shape[1]
    groups = at.draw(st.sampled_from((1, channels)))
    out = channels * at.draw(st.integers(1, 2))
    kernel, where = at.window(may_dilate=True)
    weights = {
        f"{at.key}w": at.weight(out, channels // groups, *kernel),
        f"{at.key}b": at.weight(out),
    }
    bias = at.one_of(f", {at.key}b", "")
    return f"Conv<group = {groups}, {where}>({at.x}, {at.key}w{bias})", weights


def transposed(at: Place) -> Made:
    """A convolution that enlarges."""
    ends, more = at.numbers(0, 1, 4), at.numbers(0, 1, 2)
    call = f"ConvTranspose<strides = [2, 2], pads = {ends}, output_padding = {more}>"
    return f"{call}({at.x}, {at.key}w)", {f"{at.key}w": at.weight(at.shape[1], 3, 2, 3)}


def norm(at: Place) -> Made:
    """A batch norm, or one of each sample's own numbers."""
    names = [f"{at.key}{part}" for part in "smvn"]
    found = {name: np.abs(at.weight(at.shape[1])) + np.float32(0.5) for name in names}
    if at.draw(st.booleans()):
        return f"BatchNormalization({at.x}, {', '.join(names)})", found
    # What divides by the spread of equal numbers would show their rounding only.
    call = f"InstanceNormalization<epsilon = 0.1>({at.x}, {', '.join(names[:2])})"
    return call, found


def product(at: Place) -> Made:
    """A product with a matrix."""
    return f"MatMul({at.x}, {at.key}w)", {f"{at.key}w": at.weight(at.shape[3], 4)}


def pool(at: Place) -> Made:
    """The largest or the mean of a window."""
    kind = at.one_of("Max", "Average")
    _, where = at.window(may_dilate=kind == "Max")
    more = f", ceil_mode = {at.draw(st.integers(0, 1))}"
    if kind == "Average":
        more += f", count_include_pad = {at.draw(st.integers(0, 1))}"
    return f"{kind}Pool<{where}{more}>({at.x})", {}


def resize(at: Place) -> Made:
    """Any size from 1 to 9 elements, by each rule that is known."""
    mode = at.one_of("nearest", "linear", "cubic")
    place = at.one_of("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    near = at.one_of("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    call = f'Resize<mode = "{mode}", coordinate_transformation_mode = "{place}", '
    sizes = np.array([*at.shape[:2], *at.numbers(1, 9, 2)])
    return f'{call}nearest_mode = "{near}">({at.x}, , , {at.key}z)', {
        f"{at.key}z": sizes
    }


def pad(at: Place) -> Made:
    """Zeros, or what is there, at the ends; a constant pad may also cut off."""
    mode = at.one_of("constant", "reflect", "edge")
    least = -1 if mode == "constant" else 0
    ends = [0, 0, *at.numbers(least, 2, 2), 0, 0, *at.numbers(least, 2, 2)]
    return f'Pad<mode = "{mode}">({at.x}, {at.key}z)', {f"{at.key}z": np.array(ends)}


LAYERS = (convolution, convolution, transposed, norm, product, pool, resize, pad)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A graph of a few nodes on float32 [2, 3, 6, 6], all of which may be read."""
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    growing = Growing(weights=dict(CONSTANTS), shapes={"in": (2, 3, 6, 6)})
    for index in range(draw(st.integers(1, 6))):
        x = draw(st.sampled_from(list(growing.shapes)))
        kind = draw(st.sampled_from(("unary", "binary", "layer", "layer")))
        if kind == "unary":
            call = draw(st.sampled_from(UNARY))
            growing.add(call.replace("(x", f"({x}").replace(", x)", f", {x})"), {})
        elif kind == "binary":
            other = draw(st.sampled_from(list(growing.shapes)))
            growing.add(f"{draw(st.sampled_from(BINARY))}({x}, {other})", {})
        else:
            place = Place(
                draw=draw, x=x, shape=growing.shapes[x], rng=rng, key=f"k{index}"
            )
            growing.add(*draw(st.sampled_from(LAYERS))(place))
    if not growing.lines:
        growing.add("Relu(in)", {})
    return growing.graph(list(growing.shapes)[-1])


def assert_close(module: GraphModule, graph: Graph) -> None:
    """To within 1e-5 of the largest magnitude, or of 1 where that is less."""
    session = TorchSession(module, module.inputs, module.outputs)
    inputs = running.random_inputs(graph, seed=1)
    for name, expected in running.run(graph, inputs).items():
        found = session.run(inputs)[name]
        assert found.shape == expected.shape
        error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1)
        assert error < 1e-5


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(graphs())
def test_a_module_gives_what_onnxruntime_gives(graph: Graph) -> None:
    """There, on the way back, and in a copy."""
    module = from_graph(graph)
    assert_close(module, graph)
    assert_close(copy.deepcopy(module), module.to_graph())
    assert running.same_outputs(graph, module.to_graph())

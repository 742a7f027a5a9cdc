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
    "ThresholdedRelu<alpha = 0.5>(x)",
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
    "LpNormalization<axis = 1>(x)",
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
        read = {key: one for key, one in self.weights.items() if self.reads(key)}
        return parse_graph(
            models.model_bytes(
                f"net (float[2, 3, 6, 6] in) => (float[a, b, c, d] {name}) "
                f"{{ {' '.join(self.lines)} }}",
                read,
            )
        )

    def reads(self, constant: str) -> bool:
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


def weight(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    size = max(1, int(np.prod(shape[1:])))
    return (rng.normal(size=shape) / np.sqrt(size)).astype(np.float32)


def window(draw: st.DrawFn, *, may_dilate: bool) -> str:
    """The attributes of a window, valid or not."""
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    given = [f"kernel_shape = {kernel}", f"strides = {strides}"]
    if may_dilate:
        given.append(f"dilations = {[draw(st.integers(1, 2)) for _ in range(2)]}")
    mode = draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER", "VALID", None, None)))
    if mode is None:
        pads = [draw(st.integers(0, size - 1)) for size in kernel * 2]
        given.append(f"pads = {pads}")
    else:
        given.append(f'auto_pad = "{mode}"')
    return ", ".join(given)


def layer(
    draw: st.DrawFn, x: str, shape: tuple[int, ...], rng: np.random.Generator, key: str
) -> tuple[str, dict[str, NDArray[np.generic]]]:
    """A node with weights or a window."""
    channels = shape[1]
    kind = draw(
        st.sampled_from(
            ("Conv", "Conv", "Turned", "Norm", "Instance", "Product", "Max", "Average",
             "Resize", "Pad")
        )
    )  # fmt: skip
    if kind == "Conv":
        groups = draw(st.sampled_from((1, channels)))
        out = draw(st.sampled_from((channels, 2 * channels)))
        where = window(draw, may_dilate=True)
        kernel = [int(one) for one in where.split("[")[1].split("]")[0].split(",")]
        weights = {f"{key}w": weight(rng, out, channels // groups, *kernel)}
        weights |= {f"{key}b": weight(rng, out)}
        bias = draw(st.sampled_from((f", {key}b", "")))
        return f"Conv<group = {groups}, {where}>({x}, {key}w{bias})", weights
    if kind == "Turned":
        ends = [draw(st.integers(0, 1)) for _ in range(4)]
        more = draw(st.integers(0, 1))
        return (
            f"ConvTranspose<strides = [2, 2], pads = {ends}, "
            f"output_padding = [{more}, {more}]>({x}, {key}w)",
            {f"{key}w": weight(rng, channels, 3, 2, 3)},
        )
    if kind == "Norm":
        names = [f"{key}{part}" for part in "smvn"]
        found = {name: np.abs(weight(rng, channels)) + 0.5 for name in names}
        return f"BatchNormalization({x}, {', '.join(names)})", found
    if kind == "Instance":
        found = {f"{key}s": weight(rng, channels), f"{key}t": weight(rng, channels)}
        return f"InstanceNormalization({x}, {key}s, {key}t)", found
    if kind == "Product":
        return f"MatMul({x}, {key}w)", {f"{key}w": weight(rng, shape[3], 4)}
    if kind in {"Max", "Average"}:
        up = draw(st.integers(0, 1))
        counts = f", count_include_pad = {draw(st.integers(0, 1))}"
        more = counts if kind == "Average" else ""
        where = window(draw, may_dilate=kind == "Max")
        return f"{kind}Pool<ceil_mode = {up}, {where}{more}>({x})", {}
    if kind == "Resize":
        mode = draw(st.sampled_from(("nearest", "linear", "cubic")))
        place = draw(
            st.sampled_from(
                ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
            )
        )
        near = draw(
            st.sampled_from(
                ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
            )
        )
        sizes = np.array([*shape[:2], *(draw(st.integers(1, 9)) for _ in range(2))])
        return (
            f'Resize<mode = "{mode}", coordinate_transformation_mode = "{place}", '
            f'nearest_mode = "{near}">({x}, , , {key}z)',
            {f"{key}z": sizes},
        )
    ends = [0, 0, *(draw(st.integers(-1, 2)) for _ in range(2))] * 2
    mode = draw(st.sampled_from(("constant", "reflect", "edge")))
    if mode != "constant":
        ends = [max(end, 0) for end in ends]
    return f'Pad<mode = "{mode}">({x}, {key}z)', {f"{key}z": np.array(ends)}


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
            call, weights = layer(draw, x, growing.shapes[x], rng, f"k{index}")
            growing.add(call, weights)
    if not growing.lines:
        growing.add("Relu(in)", {})
    return growing.graph(list(growing.shapes)[-1])


def assert_close(module: GraphModule, graph: Graph) -> None:
    session = TorchSession(module, module.inputs, module.outputs)
    inputs = running.random_inputs(graph, seed=1)
    for name, expected in running.run(graph, inputs).items():
        found = session.run(inputs)[name]
        assert found.shape == expected.shape
        error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1)
        assert error < 1e-5


@settings(
    max_examples=60,
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

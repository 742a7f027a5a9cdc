"""The nets that `benchmarks.rewrite` fits to an Ethos-U."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
from numpy.random import Generator
from numpy.typing import NDArray

from skerry.graph import Graph, parse_graph

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A net to be fitted.

    Attributes:
        name: What the table calls it.
        graph: With inputs of fixed sizes.
        inputs: Some samples, one dictionary each.
    """

    name: str
    graph: Graph
    inputs: tuple[dict[str, Array], ...]


class Text:
    """A model that is written line by line, with its weights."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self.lines: list[str] = []
        self.weights: dict[str, NDArray[np.generic]] = {}

    def weight(self, *shape: int, gain: float = 1.0) -> str:
        """Add random weights for so many inputs as the dimensions past the first."""
        scale = gain / np.sqrt(max(np.prod(shape[1:]), 1))
        return self.constant(self.rng.normal(scale=scale, size=shape).astype("f4"))

    def constant(self, array: NDArray[np.generic]) -> str:
        """Add a constant."""
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def shape(self, *sizes: int) -> str:
        """Add a shape."""
        return self.constant(np.array(sizes, np.int64))

    def op(self, call: str, *operands: str) -> str:
        """Add a line; the call is an operator, with its attributes if it has some."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {call}({', '.join(operands)})")
        return name

    def conv(
        self, x: str, read: int, write: int, kernel: int, *, stride: int = 1
    ) -> str:
        """Add a convolution that keeps the size, but for its stride."""
        pad = kernel // 2
        attributes = (
            f"pads = [{pad}, {pad}, {pad}, {pad}], strides = [{stride}, {stride}]"
        )
        weight = self.weight(write, read, kernel, kernel, gain=1.5)
        bias = self.constant(self.rng.normal(scale=0.1, size=write).astype("f4"))
        return self.op(f"Conv<{attributes}>", x, weight, bias)

    def build(self, given: tuple[int, ...], made: tuple[int, ...], last: str) -> Graph:
        """Finish: from `x` to `y`."""
        sizes = [", ".join(str(size) for size in shape) for shape in (given, made)]
        body = "\n".join([*self.lines, f"y = Identity({last})"])
        head = '<ir_version: 8, opset_import: ["": 18, "com.example": 1]>'
        model = onnx.parser.parse_model(
            f"{head} net (float[{sizes[0]}] x) => (float[{sizes[1]}] y) {{ {body} }}"
        )
        for name, array in self.weights.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return parse_graph(model.SerializeToString(), name="net")


def swish_net(rng: Generator) -> Graph:
    """Convolutions with an activation that no compiler knows: Swish with learnt β.

    One β a channel, then one for all, as an operator of a domain of its own.
    """
    text = Text(rng)
    x = "x"
    for read, write, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1)):
        x = text.conv(x, read, write, 3, stride=stride)
        shape = (write, 1, 1) if write == 16 or stride == 1 else ()
        beta = text.constant(rng.uniform(0.5, 2, shape).astype("f4"))
        x = text.op("com.example.SwishBeta", x, beta)
    x = text.op("Flatten", text.op("GlobalAveragePool", x))
    x = text.op("Gemm", x, text.weight(32, 10))
    return text.build((1, 3, 48, 48), (1, 10), x)


def mobilevit_block(rng: Generator) -> Graph:
    """A block as in S. Mehta, M. Rastegari, "MobileViT", ICLR 2022, section 3.1.

    Local convolutions, unfolding into patches of 2×2 by transposes of six dimensions,
    a transformer of two layers with LayerNormalization, two heads, SiLU between dense
    layers, folding back, and fusion with the input.
    """
    text, channels, width, side = Text(rng), 32, 48, 16
    local = _silu(text, text.conv("x", channels, channels, 3))
    x = text.conv(local, channels, width, 1)
    half = side // 2
    x = text.op("Reshape", x, text.shape(1, width, half, 2, half, 2))
    x = text.op("Transpose<perm = [0, 3, 5, 2, 4, 1]>", x)
    x = text.op("Reshape", x, text.shape(4, half * half, width))
    for _ in range(2):
        x = _transformer(text, x, width, tokens=half * half)
    x = _norm(text, x, width)
    x = text.op("Reshape", x, text.shape(1, 2, 2, half, half, width))
    x = text.op("Transpose<perm = [0, 5, 3, 1, 4, 2]>", x)
    x = text.op("Reshape", x, text.shape(1, width, side, side))
    x = _silu(text, text.conv(x, width, channels, 1))
    x = text.op("Concat<axis = 1>", "x", x)
    x = _silu(text, text.conv(x, 2 * channels, channels, 3))
    return text.build((1, channels, side, side), (1, channels, side, side), x)


def _silu(text: Text, x: str) -> str:
    return text.op("Mul", x, text.op("Sigmoid", x))


def _norm(text: Text, x: str, width: int) -> str:
    scale = text.constant(text.rng.uniform(0.5, 1.5, width).astype("f4"))
    shift = text.constant(text.rng.normal(scale=0.1, size=width).astype("f4"))
    return text.op("LayerNormalization<axis = -1>", x, scale, shift)


def _dense(text: Text, x: str, read: int, write: int) -> str:
    product = text.op("MatMul", x, text.weight(read, write))
    bias = text.constant(text.rng.normal(scale=0.1, size=write).astype("f4"))
    return text.op("Add", product, bias)


def _transformer(text: Text, x: str, width: int, *, tokens: int) -> str:
    heads, depth = 2, width // 2
    inner = _norm(text, x, width)
    parts = []
    for order in ("[0, 2, 1, 3]", "[0, 2, 3, 1]", "[0, 2, 1, 3]"):
        part = _dense(text, inner, width, width)
        part = text.op("Reshape", part, text.shape(4, tokens, heads, depth))
        parts.append(text.op(f"Transpose<perm = {order}>", part))
    queries, keys, values = parts
    scale = text.constant(np.array(depth**0.5, np.float32))
    scores = text.op("Div", text.op("MatMul", queries, keys), scale)
    mixed = text.op("MatMul", text.op("Softmax<axis = -1>", scores), values)
    mixed = text.op("Transpose<perm = [0, 2, 1, 3]>", mixed)
    mixed = text.op("Reshape", mixed, text.shape(4, tokens, width))
    x = text.op("Add", x, _dense(text, mixed, width, width))
    inner = _silu(text, _dense(text, _norm(text, x, width), width, 2 * width))
    return text.op("Add", x, _dense(text, inner, 2 * width, width))

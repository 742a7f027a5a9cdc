"""Turn dlib's face recognition net into ONNX.

    pip install --no-deps face_recognition_models     # carries the net; CC0
    python examples/faces/convert.py faces.onnx

The net, a ResNet-29 by D. King (2017, public domain, CC0), gives 128 numbers for a
face of 150 × 150 pixels. It comes in dlib's own form of storage, which this file
reads without dlib: each layer writes its name, then a tensor (version, four sizes,
float32, little-endian). How the layers hang together is written in dlib's
`examples/dnn_face_recognition_ex.cpp`, and here in `build`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FILE = "dlib_face_recognition_resnet_model_v1.dat"
SIDE, NUMBERS, OPSET = 150, 128, 13
LARGEST_BYTES = 1 << 26
STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
"""Channels, blocks, and whether the first block halves the picture."""

MEAN = (122.782, 117.001, 104.298)
"""Of red, green and blue: dlib's `input_rgb_image_sized`."""

Floats = NDArray[np.float32]


class Reader:
    """Reads dlib's form of storage, never past its end."""

    def __init__(self, content: bytes) -> None:
        """Begin at the start of a file's content."""
        self._content = content
        self._at = 0

    def skip_past(self, name: str) -> None:
        """Go to where a layer's own data begins: after its name, told with its length.

        Raises:
            ValueError: No further layer is called that.
        """
        mark = bytes([1, len(name)]) + name.encode()
        found = self._content.find(mark, self._at)
        if found < 0:
            raise ValueError(f"no further layer {name!r} after byte {self._at}")
        self._at = found + len(mark)

    def whole(self) -> int:
        """Read a number: how many bytes it has (the top bit is its sign), then those.

        Raises:
            ValueError: There is no such number here.
        """
        head = self._take(1)[0]
        count, sign = head & 0x0F, -1 if head & 0x80 else 1
        if not 1 <= count <= 8:
            raise ValueError(f"no number at byte {self._at - 1}")
        return sign * int.from_bytes(self._take(count), "little")

    def tensor(self, size: int) -> Floats:
        """Read a tensor of as many numbers as are expected.

        Raises:
            ValueError: There is no such tensor here.
        """
        version, *sizes = (self.whole() for _ in range(5))
        if version != 2 or min(sizes) < 1 or int(np.prod(sizes)) != size:
            raise ValueError(
                f"a tensor of version {version} and {sizes} before byte {self._at}, "
                f"expected {size} numbers"
            )
        array = np.frombuffer(self._take(4 * size), "<f4")
        if not np.isfinite(array).all():
            raise ValueError(f"numbers before byte {self._at} are not finite")
        return array

    def _take(self, count: int) -> bytes:
        piece = self._content[self._at : self._at + count]
        if len(piece) < count:
            raise ValueError("the file ends early")
        self._at += count
        return piece


class Net:
    """A net under construction: each call adds a node and gives its output's name."""

    def __init__(self, reader: Reader) -> None:
        """Begin without nodes.

        Args:
            reader: Gives the weights, in the order of the layers.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._reader = reader

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, array: NDArray[np.generic]) -> str:
        """Add a constant."""
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def convolve(self, x: str, inside: int, outside: int, side: int, step: int) -> str:
        """A convolution and the affine layer that stands for its batch norm.

        dlib fills the rim with zeros only where the step is 1.
        """
        count = outside * inside * side * side
        self._reader.skip_past("con_4")
        numbers = self._reader.tensor(count + outside)
        self._reader.skip_past("affine_")
        gamma, beta = self._reader.tensor(2 * outside).reshape(2, outside)
        weight = numbers[:count].reshape(outside, inside, side, side)
        rim = side // 2 if step == 1 else 0
        return self.add(
            "Conv",
            x,
            self.constant(weight * gamma[:, None, None, None]),
            self.constant(numbers[count:] * gamma + beta),
            strides=[step, step],
            pads=[rim] * 4,
        )

    def matrix(self, inside: int, outside: int) -> str:
        """The last layer's weights, [inside, outside]."""
        self._reader.skip_past("fc_2")
        if (self._reader.whole(), self._reader.whole()) != (outside, inside):
            raise ValueError("the last layer is of another size")
        numbers = self._reader.tensor(inside * outside)
        return self.constant(numbers.reshape(inside, outside))


def build(content: bytes) -> onnx.ModelProto:
    """Build the net out of dlib's file.

    Args:
        content: All of it.

    Returns:
        From `face`, float32 [1, 3, 150, 150], RGB, 0–255, to `embedding`, float32
        [1, 128].

    Raises:
        ValueError: It is not dlib's face recognition net.
    """
    net = Net(Reader(content))
    mean = net.constant(np.array(MEAN, np.float32)[:, None, None])
    scale = net.constant(np.float32(1 / 256).reshape(()))
    x = net.add("Mul", net.add("Sub", "face", mean), scale)
    x = net.add("Relu", net.convolve(x, 3, 32, 7, 2))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    depth, side = 32, 35
    for channels, blocks, halves in STAGES:
        for block in range(blocks):
            if halves and not block:
                x, side = _halve(net, x, depth, channels, side)
            else:
                y = net.add("Relu", net.convolve(x, depth, channels, 3, 1))
                y = net.convolve(y, channels, channels, 3, 1)
                x = net.add("Relu", net.add("Add", x, y))
            depth = channels
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    net.add("MatMul", x, net.matrix(depth, NUMBERS))
    net.nodes[-1].output[0] = "embedding"
    return _model(net)


def _halve(net: Net, x: str, depth: int, channels: int, side: int) -> tuple[str, int]:
    """A block whose short cut is averaged two by two.

    The two sums have other sizes; dlib takes what is missing as zeros.
    """
    y = net.add("Relu", net.convolve(x, depth, channels, 3, 2))
    y = net.convolve(y, channels, channels, 3, 1)
    short = net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    missing = side // 2 - ((side - 3) // 2 + 1)
    zero = net.constant(np.float32(0).reshape(()))
    ends = np.array([0, 0, 0, 0, 0, channels - depth, 0, 0], np.int64)
    short = net.add("Pad", short, net.constant(ends), zero)
    if missing:
        ends = np.array([0, 0, 0, 0, 0, 0, missing, missing], np.int64)
        y = net.add("Pad", y, net.constant(ends), zero)
    return net.add("Relu", net.add("Add", short, y)), side // 2


def _model(net: Net) -> onnx.ModelProto:
    face = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        net.nodes,
        "dlib_face_recognition",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, face)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, NUMBERS])],
        net.weights,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def find_file() -> Path:
    """Where the wheel `face_recognition_models` has the net; it is never imported.

    Raises:
        SystemExit: It is not installed.
    """
    spec = find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps face_recognition_models")
    return Path(spec.origin).parent / "models" / FILE


def main() -> None:
    """Convert."""
    with find_file().open("rb") as file:
        content = file.read(LARGEST_BYTES)
    onnx.save(build(content), sys.argv[1])


if __name__ == "__main__":
    main()

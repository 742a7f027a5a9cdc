"""Small ONNX models for tests: each function returns the bytes of a file.

Weights are random but seeded, so each call returns the same bytes. Write them to a
path, or give them to `skerry.graph.parse_graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
from numpy.typing import NDArray

Builder = Callable[[], bytes]
Weights = Mapping[str, NDArray[np.generic]]


def model_bytes(
    text: str, weights: Weights | None = None, *, opset: int = 17, domains: str = ""
) -> bytes:
    """Build a model from ONNX's text form.

    Args:
        text: A graph, such as `net (float[1] x) => (float[1] y) { y = Relu(x) }`.
        weights: Initializers by name.
        opset: The version of the standard's operators.
        domains: More opset imports, such as `, "com.example": 1`.
    """
    head = f'<ir_version: 8, opset_import: ["": {opset}{domains}]>'
    model = onnx.parser.parse_model(f"{head} {text}")
    for name, array in (weights or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def random_weights(
    shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, NDArray[np.generic]]:
    """Draw float32 weights; those whose name ends in `variance` are positive."""
    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.generic]] = {}
    for name, shape in shapes.items():
        array = rng.normal(scale=0.5, size=shape).astype(np.float32)
        weights[name] = np.abs(array) + 0.1 if name.endswith("variance") else array
    return weights


def conv_net(*, batch: int | str = 1, size: int | str = 16) -> bytes:
    """Convolutions (plain, depthwise, pointwise), batch norms, HardSwish, a head.

    Input `x` float32 [batch, 3, size, size]; output `y` float32 [batch, 4], softmaxed.
    The HardSwish is written out (add, clip, mul, div), as older exporters do.
    """
    weights: dict[str, NDArray[np.generic]] = random_weights(
        {
            "stem.weight": (8, 3, 3, 3),
            "stem.scale": (8,),
            "stem.shift": (8,),
            "stem.mean": (8,),
            "stem.variance": (8,),
            "depth.weight": (8, 1, 3, 3),
            "depth.bias": (8,),
            "depth.scale": (8,),
            "depth.shift": (8,),
            "depth.mean": (8,),
            "depth.variance": (8,),
            "point.weight": (16, 8, 1, 1),
            "point.bias": (16,),
            "head.weight": (4, 16),
            "head.bias": (4,),
        }
    )
    weights |= {
        name: np.asarray(value, dtype=np.float32)
        for name, value in (("zero", 0.0), ("three", 3.0), ("six", 6.0))
    }
    return model_bytes(
        f"""conv_net (float[{batch}, 3, {size}, {size}] x) => (float[{batch}, 4] y) {{
          stem = Conv<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>
            (x, "stem.weight")
          stem_n = BatchNormalization<epsilon = 0.001>
            (stem, "stem.scale", "stem.shift", "stem.mean", "stem.variance")
          stem_a = Relu(stem_n)
          depth = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8>
            (stem_a, "depth.weight", "depth.bias")
          depth_n = BatchNormalization
            (depth, "depth.scale", "depth.shift", "depth.mean", "depth.variance")
          shifted = Add(depth_n, three)
          clipped = Clip(shifted, zero, six)
          scaled = Mul(depth_n, clipped)
          depth_a = Div(scaled, six)
          point = Conv<kernel_shape = [1, 1]>(depth_a, "point.weight", "point.bias")
          point_a = Relu(point)
          pooled = GlobalAveragePool(point_a)
          flat = Flatten(pooled)
          logits = Gemm<transB = 1>(flat, "head.weight", "head.bias")
          y = Softmax<axis = 1>(logits)
        }}""",
        weights,
        opset=13,
    )


def dynamic_net() -> bytes:
    """`conv_net` for any number of pictures of any size."""
    return conv_net(batch="batch", size="size")


def mlp(*, seed: int = 1) -> bytes:
    """Two dense layers, one as Gemm and one as MatMul and Add: x [1, 8] to y [1, 3]."""
    return model_bytes(
        """mlp (float[1, 8] x) => (float[1, 3] y) {
          hidden = Gemm(x, "first.weight", "first.bias")
          active = Relu(hidden)
          product = MatMul(active, "second.weight")
          y = Add(product, "second.bias")
        }""",
        random_weights(
            {
                "first.weight": (8, 16),
                "first.bias": (16,),
                "second.weight": (16, 3),
                "second.bias": (3,),
            },
            seed=seed,
        ),
    )


def reshape_net() -> bytes:
    """Attention-like: shapes are computed from the input's, x [batch, length, 8].

    Output `y` float32 [batch, length, 8].
    """
    constants = {
        name: np.asarray(value, dtype=np.int64)
        for name, value in (
            ("first", 0),
            ("second", [1]),
            ("third", [2]),
            ("axes", [0]),
            ("heads", [2]),
            ("depth", [4]),
            ("width", [8]),
        )
    }
    return model_bytes(
        """reshape_net (float[batch, length, 8] x) => (float[batch, length, 8] y) {
          shape = Shape(x)
          batch_scalar = Gather(shape, first)
          batch_size = Unsqueeze(batch_scalar, axes)
          length_size = Slice(shape, second, third)
          split_shape = Concat<axis = 0>(batch_size, length_size, heads, depth)
          split = Reshape(x, split_shape)
          queries = Transpose<perm = [0, 2, 1, 3]>(split)
          keys = Transpose<perm = [0, 2, 3, 1]>(split)
          scores = MatMul(queries, keys)
          weights = Softmax<axis = -1>(scores)
          mixed = MatMul(weights, queries)
          joined = Transpose<perm = [0, 2, 1, 3]>(mixed)
          join_shape = Concat<axis = 0>(batch_size, length_size, width)
          merged = Reshape(joined, join_shape)
          y = MatMul(merged, projection)
        }""",
        constants | random_weights({"projection": (8, 8)}, seed=2),
    )


IF_NET = """if_net (bool flag, float[2, 4] x) => (float[2, 4] y) {
  y = If(flag) <
    then_branch = yes () => (float[2, 4] a) { r = Relu(x) a = Mul(r, w) },
    else_branch = no () => (float[2, 4] b) { b = Add(x, w) }
  >
}"""


def if_net() -> bytes:
    """A branch: y = relu(x) · w where the flag is set, x + w where it is not."""
    return model_bytes(IF_NET, random_weights({"w": (4,)}, seed=3))


ALL: tuple[Builder, ...] = (conv_net, dynamic_net, mlp, reshape_net, if_net)
"""Each builder, for tests that hold for any model."""

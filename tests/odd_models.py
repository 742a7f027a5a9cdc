"""Small models that are legal ONNX and unlike what most tools are tried on.

Each entry of `ODD` holds one trap: an old opset, a weight that two layers share, a
branch, a name that quantization would have chosen itself. All must come through
quantization with outputs near the float model's. `REFUSED` holds what must not.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from tests.models import Builder, model_bytes, random_weights
from tests.odd_nets import (
    CONV,
    IMAGE,
    dense_net,
    floats,
    image_net,
    initializers_as_inputs,
    ints,
    local_function,
    of_opset,
    recurrent,
    sparse_weight,
    squeeze_excite,
    tied_embedding,
    transformer,
    typed,
    u_net,
)

OPSETS = tuple(range(7, 23))

_PADDED = "Conv<pads = [1, 1, 1, 1]>"
_BRANCHES = """c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
y = If(flag) <
  then_branch = yes () => (float[1, 4, 8, 8] t) { t = Conv(c, v) },
  else_branch = no () => (float[1, 4, 8, 8] e) { r = Relu(c) e = Mul(r, two) }
>"""
_LOOP = """c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
n, s = Loop(times, go, c) <body = step
  (int64 i, bool k, float[1, 4, 8, 8] a) =>
  (bool ko, float[1, 4, 8, 8] ao, float[1, 4, 8, 8] so) {
    ko = Identity(k) m = Conv(a, v) ao = Add(m, c) so = Identity(m)
  }>
y = Conv(n, v)"""
_SCAN = """h = MatMul(x, w)
last, ys = Scan<num_scan_inputs = 1, body = step
  (float[8] state, float[8] item) => (float[8] next, float[8] out) {
    next = Add(state, item) out = Identity(next)
  }>(start, h)
y = MatMul(ys, v)"""

ODD: dict[str, Builder] = {
    **{f"opset {opset}": partial(of_opset, opset) for opset in OPSETS},
    "initializers as inputs": initializers_as_inputs,
    "sparse weight": sparse_weight,
    "local function": local_function,
    "lstm": partial(recurrent, "LSTM", gates=4),
    "lstm, both directions": partial(recurrent, "LSTM", gates=4, directions=2),
    "gru": partial(recurrent, "GRU", gates=3),
    "rnn": partial(recurrent, "RNN", gates=1),
    "transformer with a mask of -inf": transformer,
    "tied embedding": tied_embedding,
    "squeeze and excitation": squeeze_excite,
    "u-net": u_net,
    "names that quantization makes": partial(
        image_net,
        f""""x.q" = {_PADDED}(x, w, b) "x.scale" = Relu("x.q")
        "x.dq" = Conv("x.scale", v) y = Add("x.dq", x)""",
    ),
    "constant nodes and identities": partial(
        dense_net,
        """c = Constant<value_float = 0.5>() i = Identity(w) j = Identity(i)
        k = Mul(j, c) h = MatMul(x, k) g = Identity(h) r = Relu(g) y = Gemm(r, j, b)""",
    ),
    "weight computed from constants": partial(
        image_net,
        f"n = ReduceL2<axes = [1, 2, 3]>(w) u = Div(w, n) y = {_PADDED}(x, u, b)",
    ),
    "weight computed from the input": partial(
        image_net,
        f"""p = GlobalAveragePool(x) m = Mul(w, p) c = {_PADDED}(x, m, b)
        y = Conv(c, v)""",
    ),
    "weight shared by two layers": partial(
        image_net,
        f"""a = {_PADDED}(x, w, b) r = Relu(a) c = {_PADDED}(r, w, b)
        s = Add(c, a) y = Conv(s, v)""",
    ),
    "weight shared along two axes": partial(
        dense_net, "h = Gemm(x, w, b) g = Gemm<transB = 1>(h, w) y = MatMul(g, w)"
    ),
    "weight shared with other readers": partial(
        dense_net, "h = MatMul(x, w) s = ReduceMean<axes = [0]>(w) y = Add(h, s)"
    ),
    "weight that is an output": partial(
        image_net, "y = Conv(x, v)", output=f"{IMAGE} y, float[4, 4, 1, 1] v"
    ),
    "bias shared with a scale": partial(
        image_net,
        "c = Conv(x, v, b) t = Unsqueeze(b, a) m = Mul(c, t) y = Conv(m, v)",
        ints(a=[0, 2, 3]),
    ),
    "bias computed from the input": partial(
        image_net,
        "p = ReduceMean<axes = [0, 2, 3], keepdims = 0>(x) y = Conv(x, v, p)",
    ),
    "no bias, empty name": partial(image_net, "c = Conv(x, v, ) y = Conv(c, v, b)"),
    "clip without a lower limit": partial(
        image_net,
        "c = Conv(x, v, b) k = Clip(c, , high) y = Conv(k, v)",
        floats(high=1.0),
    ),
    "clip without limits": partial(
        image_net, "c = Conv(x, v, b) k = Clip(c) y = Conv(k, v)"
    ),
    "tensor of size zero": partial(
        image_net,
        "n = Concat<axis = 1>(x, none) y = Conv(n, v, b)",
        {"none": np.zeros((1, 0, 8, 8), np.float32)},
    ),
    "convolution in one dimension": partial(
        model_bytes,
        """net (float[1, 4, 16] x) => (float[1, 4, 14] y) {
          c = Conv<pads = [1, 1]>(x, w, b) r = Relu(c) y = Conv(r, w)
        }""",
        random_weights({"w": (4, 4, 3), "b": (4,)}),
    ),
    "convolution in three dimensions": partial(
        model_bytes,
        """net (float[1, 2, 5, 5, 5] x) => (float[1, 2, 3, 3, 3] y) {
          c = Conv<pads = [1, 1, 1, 1, 1, 1]>(x, w, b) r = Relu(c) y = Conv(r, w)
        }""",
        random_weights({"w": (2, 2, 3, 3, 3), "b": (2,)}),
    ),
    "transposed convolution in groups": partial(
        image_net,
        """c = ConvTranspose<group = 2, strides = [2, 2]>(x, t, b)
        y = Conv<strides = [2, 2]>(c, v)""",
        random_weights({"t": (4, 2, 2, 2)}),
    ),
    "transposed depthwise convolution": partial(
        image_net,
        "c = ConvTranspose<group = 4>(x, t, b) y = Conv(c, v)",
        random_weights({"t": (4, 1, 1, 1)}),
    ),
    "transposed convolution in one dimension": partial(
        model_bytes,
        """net (float[1, 4, 8] x) => (float[1, 3, 16] y) {
          y = ConvTranspose<strides = [2]>(x, w, b)
        }""",
        random_weights({"w": (4, 3, 2), "b": (3,)}),
    ),
    "padding by auto_pad": partial(
        image_net,
        """c = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w, b)
        y = Conv<auto_pad = "SAME_LOWER">(c, w)""",
        output="float[1, 4, 4, 4] y",
    ),
    "gemm with factors and a transposed input": partial(
        dense_net,
        """t = Gemm<alpha = 0.5, beta = 2.0, transA = 1>(x, w, b)
        y = Gemm<alpha = -1.5, transB = 1>(t, v, b)""",
        x="float[8, 3]",
        y="float[3, 8]",
    ),
    "gemm with a bias for each row": partial(
        dense_net,
        "h = Gemm(x, w, m) y = Gemm(h, v, s)",
        random_weights({"m": (3, 8)}) | floats(s=0.5),
        x="float[3, 8]",
        y="float[3, 8]",
    ),
    "gemm of two activations": partial(
        dense_net,
        "h = Gemm(x, w, b) g = Gemm<transB = 1>(h, x, c) y = MatMul(g, h)",
        random_weights({"c": (3,)}),
        x="float[3, 8]",
        y="float[3, 8]",
    ),
    "constant on the left of a product": partial(
        dense_net,
        "l = MatMul(w, x) r = Relu(l) y = MatMul(v, r)",
        x="float[8, 3]",
        y="float[8, 3]",
    ),
    "product with a vector": partial(
        dense_net,
        "h = MatMul(x, w) y = MatMul(h, b)",
        x="float[3, 8]",
        y="float[3]",
    ),
    "product with a stack of matrices": partial(
        dense_net,
        "h = MatMul(x, stack) y = MatMul(h, v)",
        random_weights({"stack": (3, 8, 8)}),
        x="float[3, 2, 8]",
        y="float[3, 2, 8]",
    ),
    "value with itself": partial(
        image_net,
        """c = Conv(x, v, b) s = Add(c, c) m = Mul(s, s) k = Concat<axis = 1>(m, m)
        h = Conv(k, wide) y = Conv(h, v)""",
        random_weights({"wide": (4, 8, 1, 1)}),
    ),
    "branches": partial(image_net, _BRANCHES, floats(two=2.0), more=", bool flag"),
    "loop": partial(
        image_net,
        _LOOP,
        ints(times=2) | {"go": np.asarray(True)},  # noqa: FBT003
    ),
    "scan": partial(
        dense_net,
        _SCAN,
        floats(start=np.zeros(8)),
        x="float[5, 8]",
        y="float[5, 8]",
    ),
    "free batch, height and width": partial(
        model_bytes,
        """net (float[n, 4, h, k] x) => (float[n, 4, h, k] y) {
          c = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(c) s = Shape(r)
          f = Flatten(r) g = Reshape(f, s) y = Conv(g, v)
        }""",
        random_weights(CONV),
    ),
    "free length": partial(
        dense_net,
        "h = MatMul(x, w) r = Relu(h) t = Transpose<perm = [0, 2, 1]>(r) "
        "a = MatMul(h, t) y = MatMul(a, h)",
        x="float[batch, length, 8]",
        y="float[batch, length, 8]",
    ),
    "input that is an output": partial(
        image_net, "y = Conv(x, v, b)", output=f"{IMAGE} y, {IMAGE} x"
    ),
    "input that nothing reads": partial(
        image_net, "y = Conv(x, v, b)", more=", float[3] z"
    ),
    "value inside that is an output": partial(
        image_net,
        "c = Conv(x, v, b) r = Relu(c) y = Conv(r, v)",
        output=f"{IMAGE} c, {IMAGE} y, {IMAGE} r",
    ),
    "output of constants": partial(
        image_net,
        "y = Conv(x, v, b) k = Mul(b, b)",
        output=f"{IMAGE} y, float[4] k",
    ),
    "outputs without a name": partial(
        image_net,
        """c = Conv(x, v, b)
        p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
        m, = Dropout(p) u = Resize<mode = "nearest">(m, , scales) y = Conv(u, v)""",
        floats(scales=[1, 1, 2, 2]),
    ),
    "list of tensors": partial(
        image_net,
        """c = Conv(x, v, b) l = SplitToSequence<axis = 1>(c, two)
        a = SequenceAt(l, one) k = ConcatFromSequence<axis = 1>(l)
        d = Concat<axis = 1>(k, a) y = Conv(d, wide)""",
        random_weights({"wide": (4, 6, 1, 1)}) | ints(two=2, one=1),
    ),
    "a size that depends on the data": partial(
        dense_net,
        """h = MatMul(x, w) s = ReduceSum(h, a) k = Greater(s, z) f = Squeeze(k, a)
        m = MatMul(h, v) n = Compress<axis = 0>(m, f) g = MatMul(n, w)
        y = ReduceSum<keepdims = 1>(g, o)""",
        ints(a=[1], o=[0]) | floats(z=0.0),
        x="float[6, 8]",
    ),
    "weights of zero": partial(
        image_net,
        f"c = {_PADDED}(x, none, b) y = Conv(c, v)",
        {"none": np.zeros((4, 4, 3, 3), np.float32)},
    ),
    "one channel of zero": partial(
        image_net,
        f"c = {_PADDED}(x, w, b) y = Conv(c, gap)",
        {"gap": np.tile(floats(g=[0.5, 0, -1, 2])["g"], 4).reshape(4, 4, 1, 1)},
    ),
    "weights that are tiny": partial(
        image_net,
        f"c = {_PADDED}(x, tiny, b) y = Conv(c, v)",
        {"tiny": random_weights({"t": (4, 4, 3, 3)})["t"] * np.float32(1e-30)},
    ),
    "weights that are huge": partial(
        image_net,
        f"c = {_PADDED}(x, huge) s = Mul(c, small) y = Conv(s, v)",
        {
            "huge": random_weights({"t": (4, 4, 3, 3)})["t"] * np.float32(1e30),
            "small": np.asarray(1e-30, np.float32),
        },
    ),
    "batch norm in front": partial(
        image_net,
        """n = BatchNormalization(x, scale, shift, mean, variance)
        c = Conv<pads = [1, 1, 1, 1]>(n, w, b) y = Conv(c, v)""",
        random_weights(dict.fromkeys(("scale", "shift", "mean", "variance"), (4,))),
    ),
    "operators of runtimes": partial(
        dense_net,
        "h = Gemm(x, w, b) g = com.microsoft.Gelu(h) y = MatMul(g, v)",
        domains=', "com.microsoft": 1',
    ),
    "classical operators": partial(
        dense_net,
        "h = Gemm(x, w, b) y = ai.onnx.ml.Scaler<offset = [0.5], scale = [2.0]>(h)",
        domains=', "ai.onnx.ml": 3',
    ),
}
"""By what is odd about them."""


def quantized_already() -> bytes:
    """A convolution between pairs, and one that is float."""
    return image_net(
        """q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
        c = Conv(d, v, b) y = Conv(c, v)""",
        {"s": np.asarray(0.1, np.float32), "z": np.asarray(128, np.uint8)},
    )


def _dynamic() -> bytes:
    return dense_net(
        """q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, c, z)
        f = Cast<to = 1>(i) m = Mul(f, s) y = MatMul(m, w)""",
        {"c": np.eye(8, dtype=np.int8)},
    )


def _with_nan() -> bytes:
    broken = np.ones((8, 8), np.float32)
    broken[3, 4] = np.nan
    return dense_net("h = MatMul(x, bad) y = MatMul(h, w)", {"bad": broken})


REFUSED: dict[str, tuple[Builder, str]] = {
    "quantized in part": (quantized_already, "quantized already"),
    "quantized dynamically": (_dynamic, "quantized already"),
    "NaN in a weight": (_with_nan, "'bad'.* holds NaN"),
    "float16": (partial(typed, np.float16, onnx.TensorProto.FLOAT16), "float16"),
    "float64": (partial(typed, np.float64, onnx.TensorProto.DOUBLE), "float64"),
    "products of vectors": (
        partial(
            dense_net,
            "h = MatMul(x, w) y = MatMul(h, v)",
            x="float[8]",
            y="float[8]",
        ),
        "nothing to quantize",
    ),
    "no weights": (partial(image_net, "y = Relu(x)"), "nothing to quantize"),
    "no weights but computed ones": (
        partial(image_net, "m = Mul(v, x0) y = Conv(x, m)", more=", float[1] x0"),
        "nothing to quantize",
    ),
}
"""With a word that the reason must hold."""

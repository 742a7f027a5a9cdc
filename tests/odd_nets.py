"""Builders of small nets that are legal ONNX, and seldom seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from tests.models import model_bytes, random_weights

Array = NDArray[np.generic]

CONV = {"w": (4, 4, 3, 3), "b": (4,), "v": (4, 4, 1, 1)}
IMAGE = "float[1, 4, 8, 8]"


def image_net(
    body: str,
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    output: str = f"{IMAGE} y",
    more: str = "",
    domains: str = "",
) -> bytes:
    """A net on pictures `x` [1, 4, 8, 8]; weights w 3×3, v 1×1 and bias b are there."""
    return model_bytes(
        f"net ({IMAGE} x{more}) => ({output}) {{ {body} }}",
        random_weights(CONV) | dict(weights or {}),
        opset=opset,
        domains=domains,
    )


def dense_net(
    body: str,
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    x: str = "float[1, 8]",
    y: str = "float[1, 8]",
    domains: str = "",
) -> bytes:
    """A net on vectors `x`; the matrices w and v [8, 8] and the bias b are there."""
    return model_bytes(
        f"net ({x} x) => ({y} y) {{ {body} }}",
        random_weights({"w": (8, 8), "v": (8, 8), "b": (8,)}) | dict(weights or {}),
        opset=opset,
        domains=domains,
    )


def ints(**values: object) -> dict[str, Array]:
    """Constants of int64."""
    return {name: np.asarray(value, np.int64) for name, value in values.items()}


def floats(**values: object) -> dict[str, Array]:
    """Constants of float32."""
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def _edited(content: bytes, edit: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(content)
    edit(model)
    edited: bytes = model.SerializeToString(deterministic=True)
    return edited


def of_opset(opset: int) -> bytes:
    """Operators whose form changed between opsets 7 and 22, in the form of one."""
    norms = random_weights(
        {"scale": (4,), "shift": (4,), "mean": (4,), "variance": (4,)}
    )
    numbers = ints(axes=[1], first=[0], last=[6], from_axis=[2], edges=[0] * 8)
    numbers |= ints(flat=[1, -1])
    numbers |= floats(low=-1.0, high=4.0, zero=0.0, scales=[1, 1, 2, 2])
    numbers |= {"ratio": np.asarray(0.3, np.float32)}
    clip = "Clip<min = -1.0, max = 4.0>(n)" if opset < 11 else "Clip(n, low, high)"
    pads = "pads = [0, 0, 1, 1, 0, 0, 1, 1]"
    pad = f'Pad<mode = "constant", {pads}>(c)' if opset < 11 else "Pad(c, edges2)"
    numbers |= ints(edges2=[0, 0, 1, 1, 0, 0, 1, 1])
    cut = "Slice<axes = [2], starts = [0], ends = [6]>(p)"
    if opset >= 10:
        cut = "Slice(p, first, last, from_axis)"
    drop = "Dropout<ratio = 0.3>(s)" if opset < 12 else "Dropout(s, ratio)"
    grow = {
        7: 'Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(d)',
        9: 'Upsample<mode = "nearest">(d, scales)',
        10: 'Resize<mode = "nearest">(d, scales)',
        11: 'Resize<mode = "nearest">(d, nothing, scales)',
        13: 'Resize<mode = "nearest">(d, , scales)',
    }
    numbers |= {"nothing": np.zeros(0, np.float32)}
    larger = grow[max(since for since in grow if since <= opset)]
    wide = "Unsqueeze<axes = [1]>(f)" if opset < 13 else "Unsqueeze(f, axes)"
    narrow = "Squeeze<axes = [1]>(u)" if opset < 13 else "Squeeze(u, axes)"
    total = "ReduceSum<axes = [1], keepdims = 1>(z)"
    if opset >= 13:
        total = "ReduceSum<keepdims = 1>(z, axes)"
    used = f"{clip} {pad} {cut} {drop} {larger} {wide} {narrow} {total}"
    weights = random_weights(CONV) | norms
    weights |= {
        name: array
        for name, array in numbers.items()
        if any(name in part.replace(",", " ").split() for part in _calls(used))
    }
    weights |= random_weights({"g": (4 * 12 * 16, 5), "h": (5,)}, seed=4)
    del weights["v"]
    return model_bytes(
        f"""net ({IMAGE} x) => (float[1, 1] y) {{
          i = Conv<pads = [1, 1, 1, 1]>(x, w, b)
          n = BatchNormalization(i, scale, shift, mean, variance)
          c = {clip}
          p = {pad}
          s = {cut}
          d = {drop}
          l = {larger}
          k = MaxPool<kernel_shape = [1, 2], strides = [1, 1]>(l)
          a = AveragePool<kernel_shape = [1, 4], strides = [1, 1]>(k)
          f = Flatten(a)
          u = {wide}
          q = {narrow}
          m = Gemm(q, g, h)
          z = Softmax<axis = 1>(m)
          t = {total}
          y = Add(t, t)
        }}""",
        weights,
        opset=opset,
    )


def _calls(text: str) -> list[str]:
    return [part.partition(")")[0] for part in text.split("(")[1:]]


def initializers_as_inputs() -> bytes:
    """IR version 3, in which each initializer is listed as an input too."""

    def edit(model: onnx.ModelProto) -> None:
        model.ir_version = 3
        for tensor in model.graph.initializer:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(
                    tensor.name, tensor.data_type, tensor.dims
                )
            )

    return _edited(
        image_net("c = Conv<pads = [1, 1, 1, 1]>(x, w, b) y = Conv(c, v)", opset=8),
        edit,
    )


def sparse_weight() -> bytes:
    """A weight kept as a sparse tensor."""

    def edit(model: onnx.ModelProto) -> None:
        values = onnx.numpy_helper.from_array(
            np.array([0.5, -0.25, 1.0], np.float32), "sparse"
        )
        where = onnx.numpy_helper.from_array(np.array([0, 9, 40]), "sparse_where")
        model.graph.sparse_initializer.append(
            onnx.helper.make_sparse_tensor(values, where, [8, 8])
        )

    return _edited(dense_net("h = MatMul(x, w) y = Gemm(h, sparse, b)"), edit)


def local_function() -> bytes:
    """A block kept as a function of the model, called twice."""
    weights = random_weights({"w": (8, 8), "v": (8, 8)})
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    net (float[1, 8] x) => (float[1, 8] y) {
      h = local.block(x, w)
      y = local.block(h, v)
    }
    <domain: "local", opset_import: ["": 17]>
    block (a, m) => (r) { p = MatMul(a, m) r = Relu(p) }"""
    model = onnx.parser.parse_model(text)
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def recurrent(kind: str, *, gates: int, directions: int = 1) -> bytes:
    """An LSTM, GRU or RNN between two matrix products."""
    sizes = {
        "wr": (directions, gates * 6, 8),
        "rr": (directions, gates * 6, 6),
        "br": (directions, gates * 12),
        "m": (8, 8),
        "o": (6 * directions, 4),
    }
    way = "bidirectional" if directions == 2 else "forward"
    numbers = ints(shape=[0, 0, -1])
    return model_bytes(
        f"""net (float[5, 1, 8] x) => (float[5, 1, 4] y) {{
          a = MatMul(x, m)
          h = {kind}<hidden_size = 6, direction = "{way}">(a, wr, rr, br)
          t = Transpose<perm = [0, 2, 1, 3]>(h)
          f = Reshape(t, shape)
          y = MatMul(f, o)
        }}""",
        random_weights(sizes) | numbers,
    )


def transformer() -> bytes:
    """An encoder layer with a causal mask of -inf, and LayerNormalization."""
    mask = np.triu(np.full((6, 6), -np.inf, np.float32), 1)
    sizes = dict.fromkeys(("wq", "wk", "wv", "wo"), (8, 8))
    sizes |= {"up": (8, 16), "down": (16, 8), "bu": (16,), "table": (20, 8)}
    sizes |= {"scale": (8,), "shift": (8,)}
    numbers = ints(split=[0, 0, 2, 4], join=[0, 0, 8])
    numbers |= floats(root=2.0, half=0.5, one=1.0, sqrt2=np.sqrt(2))
    return model_bytes(
        """net (float[batch, 6, 8] x) => (float[batch, 6, 8] y) {
          n = LayerNormalization<axis = -1>(x, scale, shift)
          q = MatMul(n, wq) k = MatMul(n, wk) v = MatMul(n, wv)
          q4 = Reshape(q, split) k4 = Reshape(k, split) v4 = Reshape(v, split)
          qt = Transpose<perm = [0, 2, 1, 3]>(q4)
          kt = Transpose<perm = [0, 2, 3, 1]>(k4)
          vt = Transpose<perm = [0, 2, 1, 3]>(v4)
          s = MatMul(qt, kt) d = Div(s, root) masked = Add(d, mask)
          p = Softmax<axis = -1>(masked)
          c = MatMul(p, vt)
          ct = Transpose<perm = [0, 2, 1, 3]>(c) cj = Reshape(ct, join)
          o = MatMul(cj, wo) r = Add(o, x)
          u = MatMul(r, up) ub = Add(u, bu)
          e1 = Div(ub, sqrt2) e2 = Erf(e1) e3 = Add(e2, one) e4 = Mul(ub, e3)
          g = Mul(e4, half)
          w2 = MatMul(g, down)
          y = Add(w2, r)
        }""",
        random_weights(sizes) | numbers | {"mask": mask},
    )


def tied_embedding() -> bytes:
    """A table that is gathered from, and whose transpose makes the logits."""
    return model_bytes(
        """net (int64[1, 5] x) => (float[1, 5, 20] y) {
          e = Gather(table, x)
          h = MatMul(e, w)
          t = Transpose<perm = [1, 0]>(table)
          y = MatMul(h, t)
        }""",
        random_weights({"table": (20, 8), "w": (8, 8)}),
    )


def squeeze_excite() -> bytes:
    """A mobile block: depthwise, SiLU, squeeze-and-excitation, a shortcut."""
    sizes = {"e": (16, 4, 1, 1), "d": (16, 1, 3, 3), "s1": (4, 16, 1, 1)}
    sizes |= {"s2": (16, 4, 1, 1), "p": (4, 16, 1, 1), "be": (16,), "bs": (4,)}
    return image_net(
        """e0 = Conv(x, e, be) e1 = Sigmoid(e0) e2 = Mul(e0, e1)
        d0 = Conv<group = 16, pads = [1, 1, 1, 1]>(e2, d)
        d1 = Sigmoid(d0) d2 = Mul(d0, d1)
        a = GlobalAveragePool(d2) q0 = Conv(a, s1, bs) q1 = Relu(q0)
        q2 = Conv(q1, s2) q3 = Sigmoid(q2) m = Mul(d2, q3)
        o = Conv(m, p) y = Add(o, x)""",
        random_weights(sizes, seed=5),
    )


def u_net() -> bytes:
    """Down, up by a transposed convolution, and a concatenated shortcut."""
    sizes = {"dn": (8, 4, 3, 3), "up": (8, 4, 2, 2), "out": (4, 8, 3, 3), "bu": (4,)}
    return image_net(
        """d0 = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, dn) d = Relu(d0)
        u = ConvTranspose<strides = [2, 2]>(d, up, bu)
        c = Concat<axis = 1>(u, x)
        y = Conv<pads = [1, 1, 1, 1]>(c, out)""",
        random_weights(sizes, seed=6),
    )


def typed(kind: type[np.generic], element: int) -> bytes:
    """A small net of another float type, computed in it throughout."""

    def edit(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = element
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor).astype(kind)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    return _edited(
        image_net("c = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(c) y = Conv(r, v)"),
        edit,
    )

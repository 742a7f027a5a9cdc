"""Small models that are legal ONNX and unlike what most tools are tried on.

Each entry of `ODD` holds one trap: an old opset, a weight that two layers share, a
branch, a name that quantization would have chosen itself. All must come through
quantization with outputs near the float model's. `REFUSED` holds what must not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from tests.models import Builder, model_bytes, random_weights

Array = NDArray[np.generic]
OPSETS = tuple(range(7, 23))

_CONV = {"w": (4, 4, 3, 3), "b": (4,), "v": (4, 4, 1, 1)}
_IMAGE = "float[1, 4, 8, 8]"


def _image_net(
    body: str,
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    output: str = f"{_IMAGE} y",
    more: str = "",
    domains: str = "",
) -> bytes:
    """A net on pictures `x` [1, 4, 8, 8]; weights w 3×3, v 1×1 and bias b are there."""
    return model_bytes(
        f"net ({_IMAGE} x{more}) => ({output}) {{ {body} }}",
        random_weights(_CONV) | dict(weights or {}),
        opset=opset,
        domains=domains,
    )


def _dense_net(
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


def _ints(**values: object) -> dict[str, Array]:
    return {name: np.asarray(value, np.int64) for name, value in values.items()}


def _floats(**values: object) -> dict[str, Array]:
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
    numbers = _ints(axes=[1], first=[0], last=[6], from_axis=[2], edges=[0] * 8)
    numbers |= _ints(flat=[1, -1])
    numbers |= _floats(low=-1.0, high=4.0, zero=0.0, scales=[1, 1, 2, 2])
    numbers |= {"ratio": np.asarray(0.3, np.float32)}
    clip = "Clip<min = -1.0, max = 4.0>(n)" if opset < 11 else "Clip(n, low, high)"
    pads = "pads = [0, 0, 1, 1, 0, 0, 1, 1]"
    pad = f'Pad<mode = "constant", {pads}>(c)' if opset < 11 else "Pad(c, edges2)"
    numbers |= _ints(edges2=[0, 0, 1, 1, 0, 0, 1, 1])
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
    weights = random_weights(_CONV) | norms
    weights |= {
        name: array
        for name, array in numbers.items()
        if any(name in part.replace(",", " ").split() for part in _calls(used))
    }
    weights |= random_weights({"g": (4 * 12 * 16, 5), "h": (5,)}, seed=4)
    del weights["v"]
    return model_bytes(
        f"""net ({_IMAGE} x) => (float[1, 1] y) {{
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
        _image_net("c = Conv<pads = [1, 1, 1, 1]>(x, w, b) y = Conv(c, v)", opset=8),
        edit,
    )


def duplicate_names() -> bytes:
    """Nodes that all have the same name."""

    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.name = "same"

    return _edited(
        _image_net("c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) y = Conv(r, v)"),
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

    return _edited(_dense_net("h = MatMul(x, w) y = Gemm(h, sparse, b)"), edit)


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
    numbers = _ints(shape=[0, 0, -1])
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
    numbers = _ints(split=[0, 0, 2, 4], join=[0, 0, 8])
    numbers |= _floats(root=2.0, half=0.5, one=1.0, sqrt2=np.sqrt(2))
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
    return _image_net(
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
    return _image_net(
        """d0 = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, dn) d = Relu(d0)
        u = ConvTranspose<strides = [2, 2]>(d, up, bu)
        c = Concat<axis = 1>(u, x)
        y = Conv<pads = [1, 1, 1, 1]>(c, out)""",
        random_weights(sizes, seed=6),
    )


def _typed(kind: type[np.generic], element: int) -> bytes:
    """A small net of another float type, computed in it throughout."""

    def edit(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = element
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor).astype(kind)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    return _edited(
        _image_net("c = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(c) y = Conv(r, v)"),
        edit,
    )


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
    "duplicate node names": duplicate_names,
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
        _image_net,
        f""""x.q" = {_PADDED}(x, w, b) "x.scale" = Relu("x.q")
        "x.dq" = Conv("x.scale", v) y = Add("x.dq", x)""",
    ),
    "constant nodes and identities": partial(
        _dense_net,
        """c = Constant<value_float = 0.5>() i = Identity(w) j = Identity(i)
        k = Mul(j, c) h = MatMul(x, k) g = Identity(h) r = Relu(g) y = Gemm(r, j, b)""",
    ),
    "weight computed from constants": partial(
        _image_net,
        f"n = ReduceL2<axes = [1, 2, 3]>(w) u = Div(w, n) y = {_PADDED}(x, u, b)",
    ),
    "weight computed from the input": partial(
        _image_net,
        f"""p = GlobalAveragePool(x) m = Mul(w, p) c = {_PADDED}(x, m, b)
        y = Conv(c, v)""",
    ),
    "weight shared by two layers": partial(
        _image_net,
        f"""a = {_PADDED}(x, w, b) r = Relu(a) c = {_PADDED}(r, w, b)
        s = Add(c, a) y = Conv(s, v)""",
    ),
    "weight shared along two axes": partial(
        _dense_net, "h = Gemm(x, w, b) g = Gemm<transB = 1>(h, w) y = MatMul(g, w)"
    ),
    "weight shared with other readers": partial(
        _dense_net, "h = MatMul(x, w) s = ReduceMean<axes = [0]>(w) y = Add(h, s)"
    ),
    "weight that is an output": partial(
        _image_net, "y = Conv(x, v)", output=f"{_IMAGE} y, float[4, 4, 1, 1] v"
    ),
    "bias shared with a scale": partial(
        _image_net,
        "c = Conv(x, v, b) t = Unsqueeze(b, a) m = Mul(c, t) y = Conv(m, v)",
        _ints(a=[0, 2, 3]),
    ),
    "bias computed from the input": partial(
        _image_net,
        "p = ReduceMean<axes = [0, 2, 3], keepdims = 0>(x) y = Conv(x, v, p)",
    ),
    "no bias, empty name": partial(_image_net, "c = Conv(x, v, ) y = Conv(c, v, b)"),
    "clip without a lower limit": partial(
        _image_net,
        "c = Conv(x, v, b) k = Clip(c, , high) y = Conv(k, v)",
        _floats(high=1.0),
    ),
    "clip without limits": partial(
        _image_net, "c = Conv(x, v, b) k = Clip(c) y = Conv(k, v)"
    ),
    "tensor of size zero": partial(
        _image_net,
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
        _image_net,
        """c = ConvTranspose<group = 2, strides = [2, 2]>(x, t, b)
        y = Conv<strides = [2, 2]>(c, v)""",
        random_weights({"t": (4, 2, 2, 2)}),
    ),
    "transposed depthwise convolution": partial(
        _image_net,
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
    "padding by auto_pad, dilation": partial(
        _image_net,
        """c = Conv<auto_pad = "SAME_UPPER", dilations = [2, 2]>(x, w, b)
        y = Conv<auto_pad = "SAME_LOWER">(c, w)""",
    ),
    "gemm with factors and a transposed input": partial(
        _dense_net,
        """t = Gemm<alpha = 0.5, beta = 2.0, transA = 1>(x, w, b)
        y = Gemm<alpha = -1.5, transB = 1>(t, v, b)""",
        x="float[8, 3]",
        y="float[3, 8]",
    ),
    "gemm with a bias for each row": partial(
        _dense_net,
        "h = Gemm(x, w, m) y = Gemm(h, v, s)",
        random_weights({"m": (3, 8)}) | _floats(s=0.5),
        x="float[3, 8]",
        y="float[3, 8]",
    ),
    "gemm of two activations": partial(
        _dense_net,
        "h = MatMul(x, w) g = Gemm<transB = 1>(h, x, c) y = MatMul(g, h)",
        random_weights({"c": (3,)}),
        x="float[3, 8]",
        y="float[3, 8]",
    ),
    "constant on the left of a product": partial(
        _dense_net,
        "l = MatMul(w, x) r = Relu(l) y = MatMul(v, r)",
        x="float[8, 3]",
        y="float[8, 3]",
    ),
    "product with a vector": partial(
        _dense_net, "h = MatMul(x, w) y = MatMul(h, b)", x="float[3, 8]", y="float[3]"
    ),
    "product of a vector": partial(
        _dense_net, "h = MatMul(x, w) y = MatMul(h, v)", x="float[8]", y="float[8]"
    ),
    "product with a stack of matrices": partial(
        _dense_net,
        "h = MatMul(x, stack) y = MatMul(h, v)",
        random_weights({"stack": (3, 8, 8)}),
        x="float[3, 2, 8]",
        y="float[3, 2, 8]",
    ),
    "value with itself": partial(
        _image_net,
        """c = Conv(x, v, b) s = Add(c, c) m = Mul(s, s) k = Concat<axis = 1>(m, m)
        h = Conv(k, wide) y = Conv(h, v)""",
        random_weights({"wide": (4, 8, 1, 1)}),
    ),
    "branches": partial(_image_net, _BRANCHES, _floats(two=2.0), more=", bool flag"),
    "loop": partial(
        _image_net,
        _LOOP,
        _ints(times=2) | {"go": np.asarray(True)},  # noqa: FBT003
    ),
    "scan": partial(
        _dense_net, _SCAN, _floats(start=np.zeros(8)), x="float[5, 8]", y="float[5, 8]"
    ),
    "free batch, height and width": partial(
        model_bytes,
        """net (float[n, 4, h, k] x) => (float[n, 4, h, k] y) {
          c = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(c) s = Shape(r)
          f = Flatten(r) g = Reshape(f, s) y = Conv(g, v)
        }""",
        random_weights(_CONV),
    ),
    "free length": partial(
        _dense_net,
        "h = MatMul(x, w) r = Relu(h) t = Transpose<perm = [0, 2, 1]>(r) "
        "a = MatMul(h, t) y = MatMul(a, h)",
        x="float[batch, length, 8]",
        y="float[batch, length, 8]",
    ),
    "input that is an output": partial(
        _image_net, "y = Conv(x, v, b)", output=f"{_IMAGE} y, {_IMAGE} x"
    ),
    "input that nothing reads": partial(
        _image_net, "y = Conv(x, v, b)", more=", float[3] z"
    ),
    "value inside that is an output": partial(
        _image_net,
        "c = Conv(x, v, b) r = Relu(c) y = Conv(r, v)",
        output=f"{_IMAGE} c, {_IMAGE} y, {_IMAGE} r",
    ),
    "output of constants": partial(
        _image_net, "y = Conv(x, v, b) k = Mul(b, b)", output=f"{_IMAGE} y, float[4] k"
    ),
    "outputs without a name": partial(
        _image_net,
        """c = Conv(x, v, b)
        p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
        m, = Dropout(p) u = Resize<mode = "nearest">(m, , scales) y = Conv(u, v)""",
        _floats(scales=[1, 1, 2, 2]),
    ),
    "list of tensors": partial(
        _image_net,
        """c = Conv(x, v, b) l = SplitToSequence<axis = 1>(c, two)
        a = SequenceAt(l, one) k = ConcatFromSequence<axis = 1>(l)
        d = Concat<axis = 1>(k, a) y = Conv(d, wide)""",
        random_weights({"wide": (4, 6, 1, 1)}) | _ints(two=2, one=1),
    ),
    "a size that depends on the data": partial(
        _dense_net,
        """h = MatMul(x, w) s = ReduceSum(h, a) k = Greater(s, z) f = Squeeze(k, a)
        m = MatMul(h, v) n = Compress<axis = 0>(m, f) g = MatMul(n, w)
        y = ReduceSum<keepdims = 1>(g, o)""",
        _ints(a=[1], o=[0]) | _floats(z=0.0),
        x="float[6, 8]",
    ),
    "weights of zero": partial(
        _image_net,
        f"c = {_PADDED}(x, none, b) y = Conv(c, v)",
        {"none": np.zeros((4, 4, 3, 3), np.float32)},
    ),
    "one channel of zero": partial(
        _image_net,
        f"c = {_PADDED}(x, w, b) y = Conv(c, gap)",
        {"gap": np.tile(_floats(g=[0.5, 0, -1, 2])["g"], 4).reshape(4, 4, 1, 1).T},
    ),
    "weights that are tiny": partial(
        _image_net,
        f"c = {_PADDED}(x, tiny, b) y = Conv(c, v)",
        {"tiny": random_weights({"t": (4, 4, 3, 3)})["t"] * np.float32(1e-30)},
    ),
    "weights that are huge": partial(
        _image_net,
        f"c = {_PADDED}(x, huge) s = Mul(c, small) y = Conv(s, v)",
        {
            "huge": random_weights({"t": (4, 4, 3, 3)})["t"] * np.float32(1e30),
            "small": np.asarray(1e-30, np.float32),
        },
    ),
    "batch norm in front": partial(
        _image_net,
        """n = BatchNormalization(x, scale, shift, mean, variance)
        c = Conv<pads = [1, 1, 1, 1]>(n, w, b) y = Conv(c, v)""",
        random_weights(dict.fromkeys(("scale", "shift", "mean", "variance"), (4,))),
    ),
    "operators of runtimes": partial(
        _dense_net,
        "h = MatMul(x, w) g = com.microsoft.Gelu(h) y = MatMul(g, v)",
        domains=', "com.microsoft": 1',
    ),
    "classical operators": partial(
        _dense_net,
        "s = ai.onnx.ml.Scaler<offset = [0.5], scale = [2.0]>(x) y = MatMul(s, w)",
        domains=', "ai.onnx.ml": 3',
    ),
    "float16": partial(_typed, np.float16, onnx.TensorProto.FLOAT16),
    "float64": partial(_typed, np.float64, onnx.TensorProto.DOUBLE),
}
"""By what is odd about them."""

"""One small net in each format that a runtime takes, made from the same weights.

A convolution with ReLU, the mean of each channel, a dense layer and a softmax: by
ONNX's text, by the object API of TFLite's schema, and ncnn's two files by hand.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from skerry.core.model import Model, ModelFormat
from skerry.core.seams import Array
from skerry.runtimes import open_any
from tests.models import model_bytes

SIZE = 8
CHANNELS = 4
CLASSES = 3
"""Of the net unless it is to be a large one."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of the net, in ONNX's layouts."""

    kernel: Array
    bias: Array
    dense: Array
    offset: Array


@functools.cache
def weights(classes: int = CLASSES) -> Weights:
    """The same each time."""
    rng = np.random.default_rng(5)

    def draw(*shape: int) -> Array:
        return rng.normal(size=shape).astype(np.float32)

    return Weights(
        kernel=draw(CHANNELS, 3, 3, 3),
        bias=draw(CHANNELS),
        dense=draw(CHANNELS, classes),
        offset=draw(classes),
    )


def picture(seed: int = 0) -> Array:
    """An input of the net as ONNX and ncnn take it, float32[1, 3, 8, 8]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


def inputs_for(model: Model, seed: int = 0) -> dict[str, Array]:
    """An input of the net in the layout of a format: TFLite's has the channels last."""
    given = picture(seed)
    if model.format is ModelFormat.TFLITE:
        given = np.ascontiguousarray(given.transpose(0, 2, 3, 1))
    return {"x": given}


def twin(wanted: ModelFormat, folder: Path, *, classes: int = CLASSES) -> Model:
    """Write the net into a folder in a format, and open it."""
    if wanted is ModelFormat.NCNN:
        (folder / "twin.bin").write_bytes(ncnn_weights(classes))
        path = folder / "twin.param"
        path.write_text(ncnn_text(classes))
        return open_any(path)
    path = folder / f"twin.{wanted}"
    make = onnx_net if wanted is ModelFormat.ONNX else tflite_net
    path.write_bytes(make(classes))
    return open_any(path)


def onnx_net(classes: int = CLASSES) -> bytes:
    """The net as an ONNX file."""
    own = weights(classes)
    return model_bytes(
        f"""net (float[1, 3, 8, 8] x) => (float[1, {classes}] y) {{
            c = Conv<pads=[1, 1, 1, 1]>(x, kernel, bias)
            r = Relu(c)
            m = GlobalAveragePool(r)
            f = Flatten(m)
            d = MatMul(f, dense)
            a = Add(d, offset)
            y = Softmax<axis=1>(a)
        }}""",
        {
            "kernel": own.kernel,
            "bias": own.bias,
            "dense": own.dense,
            "offset": own.offset,
        },
    )


def ncnn_text(classes: int = CLASSES) -> str:
    """The net as ncnn's `.param`."""
    return f"""7767517
6 6
Input        in      0 1 x 0={SIZE} 1={SIZE} 2=3
Convolution  conv    1 1 x c 0={CHANNELS} 1=3 4=1 5=1 6={CHANNELS * 27}
ReLU         relu    1 1 c r
Pooling      mean    1 1 r m 0=1 4=1
InnerProduct dense   1 1 m d 0={classes} 1=1 2={classes * CHANNELS}
Softmax      softmax 1 1 d y 0=0 1=1 -23330=4,1,{classes},0,0
"""


def ncnn_weights(classes: int = CLASSES) -> bytes:
    """The weights in ncnn's order; four zero bytes before a matrix mean float32."""
    own = weights(classes)
    flag = bytes(4)
    return b"".join(
        (
            flag + own.kernel.tobytes(),
            own.bias.tobytes(),
            flag + own.dense.T.tobytes(),
            own.offset.tobytes(),
        )
    )


@functools.cache
def tflite_net(
    classes: int = CLASSES, *, is_open: bool = False, is_signed: bool = False
) -> bytes:
    """The net as a TFLite file.

    Args:
        classes: How many outputs it has.
        is_open: Whether the batch may be of any size.
        is_signed: Whether its input and output have other names in a signature.
    """
    own = weights(classes)
    batch = -1 if is_open else 1
    net = _Net()
    x = net.tensor("x", (1, SIZE, SIZE, 3), open_shape=(batch, SIZE, SIZE, 3))
    kernel = net.tensor("kernel", content=own.kernel.transpose(0, 2, 3, 1))
    bias = net.tensor("bias", content=own.bias)
    axes = net.tensor("axes", content=np.array([1, 2], np.int32))
    dense = net.tensor("dense", content=own.dense.T)
    offset = net.tensor("offset", content=own.offset)
    r = net.tensor("r", (1, SIZE, SIZE, CHANNELS))
    m = net.tensor("m", (1, CHANNELS))
    d = net.tensor("d", (1, classes))
    y = net.tensor("y", (1, classes), open_shape=(batch, classes))
    conv = schema.Conv2DOptionsT()
    conv.strideH = conv.strideW = 1
    conv.padding = schema.Padding.SAME
    conv.fusedActivationFunction = schema.ActivationFunctionType.RELU
    net.operator("CONV_2D", [x, kernel, bias], r, "Conv2DOptions", conv)
    net.operator("MEAN", [r, axes], m, "ReducerOptions", schema.ReducerOptionsT())
    dense_options = schema.FullyConnectedOptionsT()
    net.operator(
        "FULLY_CONNECTED", [m, dense, offset], d, "FullyConnectedOptions", dense_options
    )
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    net.operator("SOFTMAX", [d], y, "SoftmaxOptions", softmax)
    return net.to_bytes([x], [y], names=("picture", "scores") if is_signed else None)


class _Net:
    """Gathers the tensors and operators of a TFLite file."""

    def __init__(self) -> None:
        self._tensors: list[schema.TensorT] = []
        self._buffers = [schema.BufferT()]
        self._operators: list[schema.OperatorT] = []
        self._codes: list[schema.OperatorCodeT] = []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...] = (),
        *,
        open_shape: tuple[int, ...] | None = None,
        content: Array | None = None,
    ) -> int:
        made = schema.TensorT()
        made.name = name
        made.shape = list(shape if content is None else content.shape)
        made.type = schema.TensorType.FLOAT32
        if open_shape is not None and -1 in open_shape:
            made.shapeSignature = list(open_shape)
        if content is not None:
            if content.dtype == np.int32:
                made.type = schema.TensorType.INT32
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
            made.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._tensors.append(made)
        return len(self._tensors) - 1

    def operator(
        self, kind: str, inputs: list[int], output: int, table: str, options: object
    ) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = code.builtinCode
        code.version = 1
        made = schema.OperatorT()
        made.opcodeIndex = len(self._codes)
        made.inputs, made.outputs = inputs, [output]
        made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        made.builtinOptions = options
        self._codes.append(code)
        self._operators.append(made)

    def to_bytes(
        self, inputs: list[int], outputs: list[int], *, names: tuple[str, str] | None
    ) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = inputs, outputs
        model = schema.ModelT()
        model.version = 3
        model.operatorCodes = self._codes
        model.subgraphs, model.buffers = [graph], self._buffers
        if names is not None:
            signature = schema.SignatureDefT()
            signature.signatureKey = "serving_default"
            signature.inputs = [_named(names[0], inputs[0])]
            signature.outputs = [_named(names[1], outputs[0])]
            model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _named(name: str, tensor: int) -> schema.TensorMapT:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, tensor
    return made

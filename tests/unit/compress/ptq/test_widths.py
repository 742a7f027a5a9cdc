"""Codes of other widths than eight bits, and what the file holds of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper
import pytest

from skerry.compress.ptq import qdq
from skerry.compress.ptq.quantize import Quantize
from skerry.core.errors import ModelError, UsageError
from skerry.core.seams import LoadOptions, Tensors
from skerry.graph import Graph, dtype_name, parse_graph, write_graph
from skerry.runtimes import get_runtime
from tests import models, running

Quantized = Callable[..., Graph]

WIDE = models.model_bytes(
    """net (float[1, 16, 5, 5] x) => (float[1, 64] y) {
      a = Conv(x, w, b) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p)
      y = Gemm<transB = 1>(f, v)
    }""",
    models.random_weights({"w": (64, 16, 3, 3), "b": (64,), "v": (64, 64)}),
)
NUMBERS = 64 * 16 * 9 + 64 * 64
VARIANTS: tuple[dict[str, object], ...] = (
    {"activation_bits": 16},
    {"activation_bits": 16, "activation_symmetric": True},
    {"activation_symmetric": True},
    {"weight_bits": 4, "weight_method": "mse"},
    {"weight_bits": 4, "activation_bits": 16},
    {"weight_bits": 4, "weight_block": 32},
    {"method": "entropy"},
)


def same(got: Tensors, expected: Tensors, *, least_db: float) -> bool:
    """Whether outputs differ by little, as a ratio of energies."""
    signal, noise = 0.0, 1e-30
    for name, array in expected.items():
        signal += float(np.square(array).sum())
        noise += float(np.square(array - got[name]).sum())
    return 10 * np.log10(signal / noise) > least_db


def decibels(params: dict[str, object]) -> float:
    """What is promised of a variant: four bits are coarse."""
    return 12 if "weight_bits" in params else 25


@pytest.mark.parametrize("own_domain", [False, True])
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_both_runtimes_run_it_right(
    params: dict[str, object],
    name: str,
    *,
    own_domain: bool,
    quantized: Quantized,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In opset 21, and in onnxruntime's own domain where that cannot be had."""
    if own_domain:

        def refuse(graph: Graph, minimum: int) -> Graph:
            raise ModelError(f"{graph.name}: no opset {minimum}", hint="None.")

        monkeypatch.setattr(qdq, "upgrade_opset", refuse)
    graph = quantized(WIDE, **params)
    source = parse_graph(WIDE)
    inputs = running.random_inputs(source)
    model = write_graph(graph, tmp_path / "quantized.onnx")
    session = get_runtime(name).load(model, LoadOptions(precision="float32"))
    expected = running.run(source, inputs)
    assert same(session.run(inputs), expected, least_db=decibels(params))
    session.close()


@pytest.mark.parametrize(
    "build", [models.conv_net, models.dynamic_net, models.mlp, models.reshape_net]
)
@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_the_biases_of_any_opset_are_corrected(
    build: models.Builder, params: dict[str, object], quantized: Quantized
) -> None:
    """Correction measures the quantized graph, whose opset may be another."""
    graph = quantized(build(), correct_bias=True, operators="all", **params)
    source = parse_graph(build())
    inputs = running.random_inputs(source)
    assert same(running.run(graph, inputs), running.run(source, inputs), least_db=5)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {"uint8"}),
        ({"activation_symmetric": True}, {"int8"}),
        ({"activation_bits": 16}, {"uint16"}),
        ({"activation_bits": 16, "activation_symmetric": True}, {"int16"}),
    ],
)
def test_the_dtype_of_activations(
    params: dict[str, object], expected: set[str], quantized: Quantized
) -> None:
    """Signed where symmetric, with zero at code 0; of the width asked for."""
    graph = quantized(WIDE, **params)
    zeros = [
        graph.constant(node.inputs[2])
        for node in graph.nodes
        if node.op_type == "QuantizeLinear"
    ]
    assert {zero.dtype.name for zero in zeros} == expected
    if "activation_symmetric" in params:
        assert not any(zero.any() for zero in zeros)
    assert graph.opset == (21 if "activation_bits" in params else 17)


def test_sixteen_bits_lose_less_than_eight(quantized: Quantized) -> None:
    """With weights alike, finer activations come nearer to the float graph."""
    source = parse_graph(WIDE)
    inputs = running.random_inputs(source, 50)
    expected = running.run(source, inputs)["y"]
    errors = [
        np.square(running.run(quantized(WIDE, **params), inputs)["y"] - expected).sum()
        for params in ({}, {"activation_bits": 16})
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("bits", "dtype"), [(8, "int8"), (4, "int4")])
def test_weights_are_stored_as_integers(
    bits: int, dtype: str, quantized: Quantized, tmp_path: Path
) -> None:
    """The file holds all weights as codes, of a byte or half a byte, and no floats."""
    path = tmp_path / "quantized.onnx"
    write_graph(quantized(WIDE, weight_bits=bits), path)
    graph = parse_graph(path.read_bytes())
    sizes = Counter[str]()
    for value in graph.initializers:
        array = graph.constant(value)
        if array.ndim > 1:
            sizes[str(dtype_name(value))] += array.size
    assert sizes == {dtype: NUMBERS}
    floats = sum(
        graph.constant(value).size
        for value in graph.initializers
        if dtype_name(value) == "float32"
    )
    # Scales: one a channel of each weight and of the bias, and a few of activations.
    assert floats < 4 * 64
    most = NUMBERS * bits / 8 + 4500
    assert NUMBERS * bits / 8 < path.stat().st_size < most < len(WIDE) / 2


def test_mse_ranges_matter_at_four_bits(quantized: Quantized) -> None:
    """At 4 bits the least squared error of weights lies well below the whole range."""
    source = parse_graph(WIDE)
    inputs = running.random_inputs(source, 50)
    expected = running.run(source, inputs)["y"]

    def error(method: str) -> float:
        graph = quantized(WIDE, weight_bits=4, activation_bits=16, weight_method=method)
        return float(np.square(running.run(graph, inputs)["y"] - expected).sum())

    assert error("mse") < 0.9 * error("minmax")


@pytest.mark.parametrize(
    "params",
    [
        {"activation_bits": 12},
        {"activation_bits": True},
        {"weight_bits": 16},
        {"weight_bits": "4"},
        {"weight_block": 48, "weight_bits": 4},
        {"weight_block": True, "weight_bits": 4},
        {"weight_block": 32},
        {"weight_block": 32, "weight_bits": 4, "rounding": "adaptive"},
    ],
)
def test_other_widths_are_refused(params: dict[str, object]) -> None:
    """The error names the field and what it may be."""
    with pytest.raises(UsageError, match=next(iter(params))) as caught:
        Quantize(**params)
    assert caught.value.hint


PRODUCTS = models.model_bytes(
    """net (float[1, 6, 64] x) => (float[1, 6, 40] y) {
      m = MatMul(x, w) a = Add(m, b) r = Relu(a) y = MatMul(r, v)
    }""",
    models.random_weights({"w": (64, 96), "b": (96,), "v": (96, 40)}),
)


@pytest.mark.parametrize(("build", "block"), [(PRODUCTS, 32), (WIDE, 64)])
def test_blocks_of_weights_have_scales_of_their_own(
    build: bytes, block: int, quantized: Quantized
) -> None:
    """Those of matrix products, along what is summed over; the standard's own form."""
    graph = quantized(build, weight_bits=4, weight_block=block)
    found = [node for node in graph.nodes if "block_size" in node.attributes]
    products = [node for node in graph.nodes if node.op_type in ("Gemm", "MatMul")]
    assert len(found) == len(products) > 0
    for node in found:
        codes, scale = (graph.constant(value) for value in node.inputs[:2])
        axis = node.attributes["axis"].value
        assert node.attributes["block_size"].value == block
        assert codes.shape[axis] == scale.shape[axis] * block
        assert codes.shape[1 - axis] == scale.shape[1 - axis]
        assert codes.dtype.name == "int4"
    onnx.checker.check_model(onnx.load_from_string(graph.to_bytes()), full_check=True)


def test_blocks_come_nearer_to_the_trained_weights(quantized: Quantized) -> None:
    """One large weight makes the others of its block coarse, not all of a channel."""
    model = onnx.load_from_string(PRODUCTS)
    for stored in model.graph.initializer:
        if stored.name in ("w", "v"):
            array = onnx.numpy_helper.to_array(stored).copy()
            array[0] *= 8
            stored.CopyFrom(onnx.numpy_helper.from_array(array, stored.name))
    content = model.SerializeToString()
    source = parse_graph(content)
    inputs = running.random_inputs(source, 50)
    expected = running.run(source, inputs)["y"]
    errors = [
        np.square(
            running.run(
                quantized(
                    content, weight_bits=4, activation_bits=16, weight_block=block
                ),
                inputs,
            )["y"]
            - expected
        ).sum()
        for block in (0, 32)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_what_no_block_fits_keeps_its_channels(quantized: Quantized) -> None:
    """96 inputs are no multiple of 64; a short block is not what all runtimes take."""
    graph = quantized(PRODUCTS, weight_bits=4, weight_block=64)
    found = [node for node in graph.nodes if "block_size" in node.attributes]
    assert [graph.constant(node.inputs[0]).shape for node in found] == [(64, 96)]

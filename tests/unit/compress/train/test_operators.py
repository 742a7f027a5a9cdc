"""Operators give what the ONNX standard's own test cases say."""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from onnx import ModelProto
from onnx.backend.test.case.node import collect_testcases

from skerry.compress.train.from_graph import from_graph
from skerry.compress.train.operators import BUILDERS
from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph import parse_graph
from skerry.runtimes.torch import torch
from tests import models, running

NOT_OURS = {
    "averagepool_2d_ceil_last_window_starts_on_pad": "onnxruntime gives what we give",
    "resize_downsample_scales_cubic_align_corners": "onnxruntime gives what we give",
    "resize_downsample_scales_linear_align_corners": "onnxruntime gives what we give",
    "reduce_max_empty_set": "there is nothing to take the largest of",
    "reduce_max_empty_set_bool": "there is nothing to take the largest of",
    "reduce_min_empty_set": "there is nothing to take the least of",
    "training_dropout": "nothing is dropped, as runtimes do",
    "training_dropout_default": "nothing is dropped, as runtimes do",
}
"""Cases that are passed over, and why."""
FLOATS = ("float16", "float32", "float64")
OTHERS = ("bool", "int8", "int16", "int32", "int64", "uint8")
"""What torch computes with; it has no arithmetic of the other unsigned integers."""

Case = tuple[str, ModelProto, list[Array], list[Array]]


@cache
def cases() -> dict[str, list[Case]]:
    """The standard's cases of one node each, by operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    found: dict[str, list[Case]] = defaultdict(list)
    for case in collected:
        nodes = case.model.graph.node
        inputs, outputs = case.data_sets[0]
        kinds = {getattr(one, "dtype", None) for one in (*inputs, *outputs)}
        dtypes = {str(kind) for kind in kinds}
        name = case.name.removeprefix("test_")
        if len(nodes) == 1 and dtypes <= {*FLOATS, *OTHERS} and name not in NOT_OURS:
            found[nodes[0].op_type].append((name, case.model, inputs, outputs))
    return found


@pytest.mark.parametrize("op_type", sorted(BUILDERS))
def test_an_operator_keeps_the_standard(op_type: str) -> None:
    """Each of the standard's cases is computed right, or refused before."""
    computed = 0
    for name, model, inputs, expected in cases()[op_type]:
        try:
            module = from_graph(parse_graph(model.SerializeToString())).eval()
        except ModelError:
            continue
        with torch.no_grad():
            found = module(*(torch.from_numpy(np.array(array)) for array in inputs))
        results = found if isinstance(found, tuple) else (found,)
        for got, wanted in zip(results, expected, strict=True):
            assert got.numpy().dtype == wanted.dtype, name
            close = 1e-2 if wanted.dtype == np.float16 else 1e-5
            np.testing.assert_allclose(
                got.numpy(), wanted, rtol=10 * close, atol=close, err_msg=name
            )
        computed += 1
    assert computed or op_type in {"Cast", "LayerNormalization", "Not"}


@pytest.mark.parametrize(
    "text",
    [
        "(float[2, 3] x) => (bool[2, 3] y) { z = Cast<to = 9>(x) y = Not(z) }",
        "(float[2, 3] x) => (float[2, 3] y) { y = LayerNormalization(x, w, w) }",
        "(float[2, 3] x) => (int32[2, 3] y) { y = Cast<to = 6>(x) }",
    ],
)
def test_operators_of_which_the_standard_has_no_fit_case(text: str) -> None:
    """What the cases leave out is computed as onnxruntime does."""
    weights = {"w": np.array([1, 2, 3], np.float32)} if "w" in text else {}
    graph = parse_graph(models.model_bytes(f"net {text}", weights))
    inputs = running.random_inputs(graph)
    found = from_graph(graph)(torch.from_numpy(inputs["x"]))
    expected = running.run(graph, inputs)["y"]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_sixty_operators_are_known() -> None:
    """The most used ones are among them."""
    assert len(BUILDERS) >= 60
    assert {"Conv", "Gemm", "Softmax", "Resize", "Gather", "Einsum"} <= set(BUILDERS)


@pytest.mark.parametrize(
    ("op_type", "text"),
    [
        ("AveragePool", "AveragePool<kernel_shape = [2], dilations = [2]>(x)"),
        ("ConvTranspose", 'ConvTranspose<auto_pad = "SAME_UPPER">(x, w)'),
        ("GRU", "GRU<hidden_size = 1>(x, w, w)"),
        ("Resize", 'Resize<exclude_outside = 1, mode = "cubic">(x, , scales)'),
    ],
)
def test_what_is_not_known_is_refused_by_name(op_type: str, text: str) -> None:
    """The node and its operator are named, and what to do about it."""
    weights = {
        "w": np.ones((2, 2, 2), np.float32),
        "scales": np.array([1, 1, 2], np.float32),
    }
    used = {name: array for name, array in weights.items() if name in text}
    content = models.model_bytes(
        f"net (float[1, 2, 8] x) => (float[a, b, c] y) {{ y = {text} }}",
        used,
        opset=19,
    )
    said = rf"'y' cannot be trained: its operator {op_type}"
    with pytest.raises(ModelError, match=said) as raised:
        from_graph(parse_graph(content))
    assert "exported from" in raised.value.hint

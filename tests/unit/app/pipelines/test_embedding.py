from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.app.pipelines.embedding import (
    find_head,
    make_drift_blob,
    read_head,
    with_embedding,
    with_head,
)
from skerry.core.errors import DataError, ModelError
from skerry.evolve.drift import read_reference
from skerry.evolve.refit import Head
from skerry.graph import Graph, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.task import parse_task
from tests.clusters import BIAS, CLASSES, SIZE, WEIGHT, draw, net
from tests.models import model_bytes
from tests.running import run

TASK = b"""schema = "skerry.task/1"
kind = "classification"
metric = "top1"
labels = ["a", "b", "c"]
[[post]]
step = "softmax"
[[post]]
step = "topk"
k = 3
"""
POINT = draw(1, np.random.default_rng(0))[0]


def _net(text: str, **weights: np.ndarray) -> Graph:
    content = model_bytes(
        f"net (float[batch, {SIZE}] x) => (float[batch, {CLASSES}] y) {{ {text} }}",
        {"w": WEIGHT, "wt": np.ascontiguousarray(WEIGHT.T), "b": BIAS, **weights},
    )
    return parse_graph(content, name="net.onnx")


HEADS = {
    "gemm": "h = Relu(x) y = Gemm<transB=1>(h, w, b)",
    "gemm-plain": "h = Relu(x) y = Gemm(h, wt, b)",
    "matmul": "h = Relu(x) m = MatMul(h, wt) y = Add(m, b)",
    "bias-first": "h = Relu(x) m = MatMul(h, wt) y = Add(b, m)",
    "softmax": "h = Relu(x) g = Gemm<transB=1>(h, w, b) y = Softmax(g)",
}


@pytest.mark.parametrize("text", HEADS.values(), ids=HEADS)
def test_the_head_is_found_shown_and_changed(text: str) -> None:
    """Whatever its form: its input becomes an output, its weights can be others."""
    graph = _net(text)
    shown = with_embedding(graph)
    assert [spec.name for spec in shown.outputs] == ["y", "embedding"]
    assert shown.outputs[1].shape == ("batch", SIZE)
    np.testing.assert_allclose(run(shown, {"x": POINT})["embedding"], POINT)
    head = read_head(graph, find_head(graph))
    np.testing.assert_array_equal(head.weight, WEIGHT)
    np.testing.assert_array_equal(head.bias, BIAS)
    other = Head(weight=-2 * WEIGHT, bias=BIAS + np.float32(1))
    changed = with_head(shown, other)
    assert [spec.name for spec in changed.outputs] == ["y", "embedding"]
    logits = POINT @ other.weight.T + other.bias
    got = run(changed, {"x": POINT})["y"]
    if "Softmax" in text:
        logits = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(got, logits, rtol=1e-4)
    np.testing.assert_array_equal(read_head(shown, find_head(shown)).weight, WEIGHT)


def test_only_the_heads_bytes_change() -> None:
    """The candidate's file is as long as the old one and differs in the head alone."""
    graph = parse_graph(net(), name="net.onnx")
    head = Head(weight=WEIGHT + np.float32(0.5), bias=BIAS + np.float32(0.5))
    before, after = graph.to_bytes(), with_head(graph, head).to_bytes()
    assert len(before) == len(after)
    n_changed = sum(a != b for a, b in zip(before, after, strict=True))
    assert 0 < n_changed <= WEIGHT.nbytes + BIAS.nbytes


def test_weights_that_others_read_too_are_left_to_them() -> None:
    """Tied weights: the head gets its own, the other reader keeps the old ones."""
    graph = _net(
        "h = Relu(x) z = Gemm<transB=1>(x, w, b) t = Gemm<transB=1>(h, w, b) "
        "q = Mul(z, zero) y = Identity(t)",
        zero=np.zeros(1, np.float32),
    )
    changed = with_head(graph, Head(weight=2 * WEIGHT, bias=BIAS))
    np.testing.assert_allclose(
        run(changed, {"x": POINT})["y"], POINT @ (2 * WEIGHT).T, rtol=1e-5
    )


def test_an_embedding_that_is_shown_already_stays() -> None:
    """Showing it twice changes nothing."""
    graph = parse_graph(net(), name="net.onnx")
    assert [s.name for s in with_embedding(graph).outputs] == ["logits", "embedding"]


_Q = "QuantizeLinear({0}, one, nil) d = DequantizeLinear(q, one, nil)"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y = Slice(x, s, e, a)", "no Gemm or MatMul"),
        ("h = Relu(x) m = MatMul(h, wt) y = Relu(m)", "no Gemm or MatMul"),
        ("h = Relu(x) y = Gemm<alpha=2.0, transB=1>(h, w, b)", "no plain float"),
        (
            "d = DequantizeLinear(codes, one, nil) y = Gemm<transB=1>(x, d, b)",
            "quantized",
        ),
        (
            f"g = Gemm<transB=1>(x, w, b) q = {_Q.format('g')} y = Identity(d)",
            "quantized",
        ),
    ],
)
def test_heads_that_cannot_be_refitted_are_refused(text: str, why: str) -> None:
    """No linear layer at the end, a strange one, a quantized one."""
    graph = _net(
        text,
        s=np.array([0, 0], np.int64),
        e=np.array([99, 3], np.int64),
        a=np.array([0, 1], np.int64),
        one=np.array(0.1, np.float32),
        nil=np.array(0, np.int8),
        codes=np.zeros_like(WEIGHT, np.int8),
    )
    with pytest.raises(ModelError, match=why):
        with_embedding(graph)


def test_a_head_may_read_what_was_quantized() -> None:
    """An activation that was rounded to 8 bits feeds a float head all the same."""
    graph = _net(
        f"q = {_Q.format('x')} y = Gemm<transB=1>(d, w, b)",
        one=np.array(0.1, np.float32),
        nil=np.array(0, np.int8),
    )
    head = read_head(graph, find_head(graph))
    np.testing.assert_array_equal(head.weight, WEIGHT)
    assert "embedding" in [spec.name for spec in with_embedding(graph).outputs]


def test_a_head_without_a_bias_or_of_another_size_is_not_changed() -> None:
    """Both are said."""
    bare = _net("h = Relu(x) y = MatMul(h, wt)")
    assert read_head(bare, find_head(bare)).bias.tolist() == [0, 0, 0]
    with pytest.raises(ModelError, match="without a bias"):
        with_head(bare, Head(weight=WEIGHT, bias=BIAS))
    with pytest.raises(ModelError, match="with a bias"):
        with_head(_net(HEADS["gemm"]), Head(weight=WEIGHT[:2], bias=BIAS[:2]))
    with pytest.raises(ModelError, match="no output 'z'"):
        find_head(bare, output="z")


def test_a_release_gets_its_drift_reference(tmp_path: Path) -> None:
    """Made by running the model on clean samples; without enough of them it is not."""
    model = write_graph(parse_graph(net(), name="n"), tmp_path / "net.onnx")
    points, labels = draw(120, np.random.default_rng(0))
    samples = tuple(
        Sample(inputs={"x": point[None]}, label=int(label), name="s")
        for point, label in zip(points, labels, strict=True)
    )

    def make(n: int, embedding: str = "embedding") -> bytes:
        return make_drift_blob(
            model,
            MemorySource(samples=samples[:n]),
            task=parse_task(TASK, name="t"),
            runtime=get_runtime("onnxruntime"),
            rng=np.random.default_rng(0),
            embedding=embedding,
        )

    reference = read_reference(make(120))
    assert reference.means.shape == (CLASSES + 1, SIZE)
    assert make(120) == make(120)
    for n in (0, 20):
        with pytest.raises(DataError):
            make(n)
    with pytest.raises(ModelError, match="no output 'other'"):
        make(120, "other")

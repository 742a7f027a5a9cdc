"""Damaged TFLite files: read as a graph, or refused."""

from __future__ import annotations

import contextlib
import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.adapt.tflite import read_tflite_graph, write_tflite
from skerry.core.errors import ModelError
from tests.strategies import damaged
from tests.tflite import float_graph, quantized
from tests.twins import tflite_net


@functools.cache
def _files() -> tuple[bytes, ...]:
    body = """
        c = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w, b) r = Relu(c)
        d = Conv<group=4, pads=[1, 1, 1, 1]>(r, v) a = Add(d, r)
        k = Concat<axis=1>(a, r) m = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(k)
        p = GlobalAveragePool(m) f = Flatten(p) g = Gemm<transB=1>(f, u)
        y = Softmax<axis=1>(g)
    """
    shapes = {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 1, 3, 3), "u": (5, 8)}
    text = f"net (float[1, 3, 8, 8] x) => (float[] y) {{ {body} }}"
    graph = float_graph(text, shapes)
    return tflite_net(), write_tflite(graph), write_tflite(quantized(graph))


def read(content: bytes) -> None:
    """Read bytes, and write what was read, if it can be written."""
    with contextlib.suppress(ModelError):
        graph = read_tflite_graph(content, name="fuzzed")
        assert graph.outputs
        write_tflite(graph)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_damaged_files(data: st.DataObject) -> None:
    """They are read or refused; nothing hangs, crashes or raises errors of others."""
    read(data.draw(damaged(_files())))


@settings(max_examples=100)
@given(st.binary(max_size=300).map(b"\x1c\0\0\0TFL3".__add__))
def test_random_bytes(content: bytes) -> None:
    """Random bytes behind the right head are refused."""
    read(content)

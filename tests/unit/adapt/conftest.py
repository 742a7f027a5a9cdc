"""Small graphs for the tests of this room."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.graph import Graph, parse_graph
from tests.models import model_bytes


@pytest.fixture
def float_net() -> Graph:
    """Conv → Relu → Div by a constant → MaxPool, in floats, on 8 × 8 pictures."""
    content = model_bytes(
        """float_net (float[1, 3, 8, 8] x) => (float[1, 4, 4, 4] y) {
          c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
          r = Relu(c)
          d = Div(r, six)
          y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d)
        }""",
        {
            "w": np.ones((4, 3, 3, 3), np.float32),
            "b": np.zeros(4, np.float32),
            "six": np.array(6, np.float32),
        },
    )
    return parse_graph(content, name="float_net")


@pytest.fixture
def quantized_net() -> Graph:
    """Conv → Relu quantized as QDQ, then Flatten, and a Sigmoid in floats."""
    content = model_bytes(
        """quantized_net (float[1, 3, 8, 8] x) => (float[1, 256] y) {
          xq = QuantizeLinear(x, scale, zero)
          xd = DequantizeLinear(xq, scale, zero)
          wd = DequantizeLinear(w, scale, zero)
          c = Conv<pads = [1, 1, 1, 1]>(xd, wd)
          r = Relu(c)
          rq = QuantizeLinear(r, scale, zero)
          rd = DequantizeLinear(rq, scale, zero)
          f = Flatten(rd)
          y = Sigmoid(f)
        }""",
        {
            "w": np.ones((4, 3, 3, 3), np.int8),
            "scale": np.array(0.1, np.float32),
            "zero": np.array(0, np.int8),
        },
    )
    return parse_graph(content, name="quantized_net")

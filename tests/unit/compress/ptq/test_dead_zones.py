"""No codes for what an activation makes zero of anyway."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.numbers.ranges import Range, scale_and_zero_point
from skerry.compress.ptq.dead_zones import narrow
from skerry.compress.ptq.qdq import DEFAULT_SCHEMES
from skerry.graph import Graph, parse_graph
from tests import models

WRITTEN_OUT = """
  shifted = Add(v, three)
  clipped = Clip(shifted, zero, six)
  scaled = Mul(v, clipped)
  y = Div(scaled, six)
"""
WIDE = Range(low=-40.0, high=20.0)


def net(body: str, outputs: str = "float[1, 8] y") -> Graph:
    """A graph whose value v is read by a body."""
    numbers = {"zero": 0.0, "three": 3.0, "six": 6.0}
    return parse_graph(
        models.model_bytes(
            f"net (float[1, 8] x) => ({outputs}) {{ v = Identity(x) {body} }}",
            {name: np.asarray(value, np.float32) for name, value in numbers.items()},
        )
    )


def ends(found: Range) -> tuple[float, float]:
    """Low and high as plain numbers."""
    return float(found.low), float(found.high)


def covered(found: Range) -> tuple[float, float]:
    """What the lowest and the highest code stand for."""
    scheme = DEFAULT_SCHEMES.activations
    scale, zero_point = scale_and_zero_point(found, scheme)
    zero = int(zero_point)
    return float((scheme.qmin - zero) * scale), float((scheme.qmax - zero) * scale)


@pytest.mark.parametrize("body", [WRITTEN_OUT, "y = HardSwish(v)"])
@pytest.mark.parametrize("high", [0.0, 0.3, 5.0, 20.0, 1000.0])
def test_hard_swish_ends_at_minus_three(body: str, high: float) -> None:
    """Its range is cut below −3, and the lowest code still reaches −3."""
    narrowed = narrow(net(body), {"v": Range(low=-40.0, high=high)})["v"]
    low, kept = ends(narrowed)
    assert kept == pytest.approx(high)
    step = (high + 3) / 254
    assert -3 - 1.01 * step <= low <= -3
    assert covered(narrowed)[0] <= -3 + 1e-5


@pytest.mark.parametrize(
    ("attributes", "bounds"),
    [("", (-2.5, 2.5)), ("<alpha = 0.16666667, beta = 0.5>", (-3.0, 3.0))],
)
def test_hard_sigmoid_ends_on_both_sides(
    attributes: str, bounds: tuple[float, float]
) -> None:
    """Its range is cut where it is 0 and where it is 1; the codes reach both."""
    narrowed = narrow(net(f"y = HardSigmoid{attributes}(v)"), {"v": WIDE})["v"]
    low, high = ends(narrowed)
    assert (low, high) == pytest.approx(bounds, abs=0.03)
    assert covered(narrowed)[0] <= bounds[0] + 1e-5
    assert covered(narrowed)[1] >= bounds[1] - 1e-5


@pytest.mark.parametrize(
    ("beta", "found"),
    [(-1.0, (0.0, 3.0)), (-1.0, (-3.0, 30.0)), (2.0, (-3.0, 1.0)), (2.0, (-30.0, 1.0))],
)
def test_what_matters_may_lie_on_one_side_of_zero(
    beta: float, found: tuple[float, float]
) -> None:
    """Zero stays in the range though the activation is flat there."""
    low, high = found
    graph = net(f"y = HardSigmoid<beta = {beta}>(v)")
    narrowed = ends(narrow(graph, {"v": Range(low=low, high=high)})["v"])
    assert low <= narrowed[0] <= 0 <= narrowed[1] <= high
    assert narrowed != (-30.0, 1.0)
    assert narrowed != (-3.0, 30.0)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (f"{WRITTEN_OUT} z = Relu(v)", "float[1, 8] y, float[1, 8] z"),
        (WRITTEN_OUT, "float[1, 8] y, float[1, 8] v"),
        ("y = HardSwish(v) z = Relu(v)", "float[1, 8] y, float[1, 8] z"),
        ("y = HardSigmoid(v) z = Relu(v)", "float[1, 8] y, float[1, 8] z"),
        ("y = HardSigmoid(v)", "float[1, 8] y, float[1, 8] v"),
        ("y = HardSigmoid<alpha = -0.2>(v)", "float[1, 8] y"),
        ("y = Relu(v)", "float[1, 8] y"),
    ],
)
def test_another_reader_keeps_the_whole_range(body: str, outputs: str) -> None:
    """What something else reads, or nothing is known of, is not cut."""
    assert ends(narrow(net(body, outputs), {"v": WIDE})["v"]) == ends(WIDE)


def test_a_range_inside_the_bounds_stays() -> None:
    """A range is never widened, and a value that is not watched not added."""
    inside = Range(low=-1.0, high=2.0)
    graph = net("y = HardSwish(v)")
    assert ends(narrow(graph, {"v": inside})["v"]) == ends(inside)
    assert narrow(graph, {}) == {}

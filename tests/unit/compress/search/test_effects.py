from __future__ import annotations

import pytest

from skerry.compress.ptq.plan import plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.compress.search.effects import saved_ms
from skerry.core.profile import OperatorTime, Profile
from skerry.graph import parse_graph
from tests import models

NET = """net (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y) {
  c = Conv(x, w) s = Sin(c) d = Conv(s, w) y = Sin(d)
}"""


def profile(**times_ms: float) -> Profile:
    """A profile of kernels by name; two underscores stand for a dot."""
    return Profile(
        runtime="any",
        threads=1,
        repeats=1,
        operators=tuple(
            OperatorTime(name=name.replace("__", "."), op_type="", latency_ms=time_ms)
            for name, time_ms in times_ms.items()
        ),
    )


def test_pairs_are_paid_for_by_those_they_serve() -> None:
    """Kernels are known by their marks; a pair's time is its operators' own."""
    graph = prepare(
        parse_graph(models.model_bytes(NET, models.random_weights({"w": (4, 4, 1, 1)})))
    )
    plan = plan_quantization(graph, operators="weights")
    first, second = plan.nodes
    before = profile(c_nchwc=1.0, **{second: 2.0}, s=9.0)
    after = profile(
        **{f"{first}_token_7": 0.5, second: 0.5},
        x__QuantizeLinear=0.25,
        c__QuantizeLinear=0.125,
        **{"c__DequantizeLinear/duplicated_token_3": 0.125},
        s__QuantizeLinear=2.0,
        unknown=5.0,
    )
    found = saved_ms(graph, plan, before, after)
    assert found == {
        first: pytest.approx(1.0 - 0.5 - 0.25 - 0.25),
        second: pytest.approx(2.0 - 0.5 - 2.0),
    }

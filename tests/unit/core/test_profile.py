from __future__ import annotations

import json

from skerry.core.profile import OperatorTime, Profile

PROFILE = Profile(
    runtime="null",
    threads=1,
    repeats=3,
    operators=(
        OperatorTime(name="a", op_type="Conv", latency_ms=1.5),
        OperatorTime(name="b", op_type="Relu", latency_ms=0.25),
    ),
)


def test_the_total_is_the_sum() -> None:
    """Operators run one after another."""
    assert PROFILE.total_ms == 1.75


def test_the_trace_lays_operators_end_to_end() -> None:
    """Times are in microseconds, each operator begins where the last one ended."""
    trace = json.loads(json.dumps(PROFILE.to_trace()))
    spans = [(event["ts"], event["dur"]) for event in trace["traceEvents"]]
    assert spans == [(0.0, 1500.0), (1500.0, 250.0)]
    assert [event["cat"] for event in trace["traceEvents"]] == ["Conv", "Relu"]

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from skerry.core.profile import (
    InferenceTime,
    OperatorTime,
    Profile,
    join_profiles,
    lowest_quintile,
    noise_of,
)
from tests.trace_schema import check_trace

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


def test_a_title_says_what_where_and_on_what() -> None:
    """Whatever of it is known."""
    assert PROFILE.title == "null"
    measured = replace(PROFILE, model="m.onnx", device="ssh://board")
    assert measured.title == "m.onnx on null at ssh://board"


def test_the_trace_lays_operators_end_to_end() -> None:
    """Times are in microseconds, each operator begins where the last one ended."""
    trace = json.loads(json.dumps(PROFILE.to_trace()))
    check_trace(trace)
    whole = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [(event["ts"], event["dur"]) for event in whole] == [
        (0.0, 1500.0),
        (1500.0, 250.0),
    ]
    assert [event["cat"] for event in whole] == ["Conv", "Relu"]


def test_one_trace_joins_profiles() -> None:
    """Each is a process of its own, each of its processors a thread."""
    compiled = Profile(
        runtime="vela",
        threads=0,
        repeats=1,
        model="m.tflite",
        operators=(
            OperatorTime(
                name="a", op_type="", latency_ms=1.0, processor="NPU", macs=10
            ),
            OperatorTime(name="b", op_type="Custom", latency_ms=2.0, processor="CPU"),
        ),
    )
    trace = join_profiles([PROFILE, compiled, replace(PROFILE, operators=())])
    check_trace(trace)
    named = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in trace["traceEvents"]
        if event["ph"] == "M"
    }
    assert named[2, 0] == "m.tflite on vela"
    assert {named[2, 1], named[2, 2]} == {"NPU", "CPU"}
    npu, cpu = [
        event
        for event in trace["traceEvents"]
        if event["ph"] == "X" and event["pid"] == 2
    ]
    assert named[2, npu["tid"]] == "NPU"
    assert named[2, cpu["tid"]] == "CPU"
    assert npu["args"] == {"macs": 10}


def test_the_schema_can_fail() -> None:
    """A process that is a word, as Chrome's format does not know it, is refused."""
    trace = PROFILE.to_trace()
    trace["traceEvents"][-1]["pid"] = "null"
    with pytest.raises(ValueError, match="pid"):
        check_trace(trace)


def test_the_fastest_fifth_counts() -> None:
    """What a neighbour slowed down does not; one time at least does."""
    assert lowest_quintile([5, 1, 9, 3, 7, 100, 100, 100, 100, 100]) == 2
    assert lowest_quintile([4.0, 6.0]) == 4
    with pytest.raises(ValueError, match="no times"):
        lowest_quintile([])


def test_noise_is_how_far_the_halves_are_apart() -> None:
    """As a fraction of the faster; unknown of one block."""
    assert noise_of([[1.0], [1.25], [1.0], [1.5]]) == 0.25
    assert noise_of([[1.0, 2.0]]) is None
    assert noise_of([[0.0], [0.0]]) == 0
    assert InferenceTime(cpu_ms=1, wall_ms=1, noise=0.1).noise == 0.1

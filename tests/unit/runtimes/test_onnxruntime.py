import json

from skerry.runtimes._onnxruntime_times import operator_times


def event(name: str, dur: int) -> dict[str, object]:
    """One entry of onnxruntime's trace; times in microseconds."""
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": dur,
        "args": {"op_name": "Exp"},
    }


def test_times_are_medians_without_the_warm_up() -> None:
    """In milliseconds, in order of execution; what is no kernel is left out."""
    runs = [(900, 800), (3, 50), (1, 40), (2, 60)]
    trace = [{"cat": "Session", "name": "model_run", "dur": 999}]
    for a, b in runs:
        trace += [event("b", b), event("a", a)]
    trace.append({"cat": "Node", "name": "a_fence_before", "dur": 7, "args": {}})
    times = operator_times(json.dumps(trace).encode())
    assert [(entry.name, entry.latency_ms) for entry in times] == [
        ("b", 0.05),
        ("a", 0.002),
    ]

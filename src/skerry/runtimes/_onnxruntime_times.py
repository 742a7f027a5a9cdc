"""The times of kernels, of what onnxruntime's profiler writes."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from skerry.core.profile import OperatorTime
from skerry.runtimes._times import Work, median_times
from skerry.runtimes.kernel_work import Shaped, count_bytes, count_macs

WARMUP = 1
"""Inferences that are left out, the first ones."""

_NODE_SUFFIX = "_kernel_time"
_DTYPES = {"float": "float32", "double": "float64"}


def operator_times(trace: bytes) -> tuple[OperatorTime, ...]:
    """Median time by kernel, in order of execution, without the warm-up.

    Args:
        trace: What the profiler wrote, a JSON array of events.
    """
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    dtypes: dict[tuple[str, str], str] = {}
    work: dict[tuple[str, str], Work] = {}
    for event in json.loads(trace):
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_NODE_SUFFIX):
            key = name.removesuffix(_NODE_SUFFIX), event["args"]["op_name"]
            times[key].append(event["dur"] / 1000)
            dtypes[key] = _first_dtype(event["args"].get("input_type_shape", []))
            work[key] = _work(event["args"])
    warm = {key: values[WARMUP:] or values for key, values in times.items()}
    return median_times(
        warm,
        lambda name, op_type: dtypes[name, op_type],
        lambda name, op_type: work[name, op_type],
    )


def _work(facts: dict[str, Any]) -> Work:
    """What a kernel computed and moved, from what the profiler notes of it."""
    inputs = _shaped(facts.get("input_type_shape", []))
    outputs = _shaped(facts.get("output_type_shape", []))
    sizes = ("activation_size", "parameter_size", "output_size")
    if all(size in facts for size in sizes):
        # Weights that were packed beforehand are missing from the shapes.
        moved_bytes = sum(int(facts[size]) for size in sizes)
    else:
        moved_bytes = count_bytes(inputs, outputs)
    return count_macs(facts["op_name"], inputs, outputs), moved_bytes


def _shaped(shapes: list[dict[str, Any]]) -> list[Shaped]:
    return [
        Shaped(dtype=dtype, sizes=tuple(sizes))
        for each in shapes
        for dtype, sizes in each.items()
    ]


def _first_dtype(shapes: list[dict[str, Any]]) -> str:
    """The type of what a kernel reads first, of shapes by type; empty for none."""
    first = next(iter(shapes[0]), "") if shapes else ""
    return _DTYPES.get(first, first)

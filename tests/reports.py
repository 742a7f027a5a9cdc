"""A report for tests, with all that a report can hold."""

from __future__ import annotations

from skerry.core.budget import Breach, Budget
from skerry.core.recipe import Recipe, StepSpec
from skerry.core.report import (
    Accuracy,
    Attempt,
    Change,
    LatencyChange,
    LayerRow,
    Report,
)

LAYERS = (
    LayerRow(
        name="stem/Conv_0",
        op_type="Conv",
        dtype="int8",
        error=0.00012,
        latency_ms=0.42,
        macs=1_200_000,
        weight_bytes=4096,
    ),
    LayerRow(
        name="attention/Softmax_7",
        op_type="Softmax",
        dtype="float32",
        error=0.31,
        latency_ms=0.08,
        why="alone it costs 3.1 points",
    ),
    LayerRow(name="head/MatMul_9", op_type="MatMul", dtype="int8", macs=66_250),
)
TRIED = (
    Attempt(name="source model, float32", accuracy=0.951, latency_ratio=1.0),
    Attempt(
        name="plain INT8",
        accuracy=0.132,
        size_bytes=2_890_000,
        note="refused: loses too much",
    ),
    Attempt(name="2 kept float", accuracy=0.929, size_bytes=3_010_000, kept_float=2),
    Attempt(
        name="6 kept float",
        accuracy=0.946,
        size_bytes=3_120_000,
        latency_ratio=0.57,
        kept_float=6,
        chosen=True,
    ),
    Attempt(
        name="8 kept float",
        accuracy=0.949,
        size_bytes=3_300_000,
        latency_ratio=0.61,
        kept_float=8,
    ),
)
FULL = Report(
    model="lines <b>&.onnx",
    sha256=("8c0b" * 16, "17fe" * 16),
    budget=Budget(accuracy_drop=0.01, size_bytes=3_000_000),
    breaches=(Breach(limit="size_bytes", allowed=3_000_000, measured=3_120_000),),
    accuracy=Accuracy(
        metric="lines_right",
        before=0.953,
        after=0.949,
        n=1000,
        paired_delta=-0.004,
        ci95=(-0.009, 0.001),
    ),
    size_bytes=Change(before=10_857_958, after=3_120_000),
    latency_ms=LatencyChange(
        before=14.31,
        after=8.15,
        runtime="openvino",
        threads=1,
        repeats=31,
        ratio=0.57,
        noise=0.012,
    ),
    memory_bytes=Change(before=9_830_400, after=4_915_200),
    layers=LAYERS,
    tried=TRIED,
    recipe=Recipe(
        steps=(
            StepSpec(
                name="quantize",
                params={
                    "method": "minmax",
                    "bits": 8,
                    "share": 0.5,
                    "symmetric": True,
                    "keep_float": ["a", "b"],
                },
            ),
        )
    ),
    notes=("Latency was measured in turns.",),
)
BARE = Report(
    model="m.onnx",
    sha256=("0" * 64, "1" * 64),
    accuracy=None,
    size_bytes=Change(before=1000, after=1000),
    latency_ms=None,
    memory_bytes=None,
    layers=(),
    tried=(),
    recipe=Recipe(steps=()),
)
"""A report of a model about which little was measured."""

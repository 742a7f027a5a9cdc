"""A report for tests, with all that a report can hold."""

from __future__ import annotations

from dataclasses import replace

from skerry.core.budget import Breach, Budget
from skerry.core.recipe import Recipe, StepSpec
from skerry.core.report import (
    Accuracy,
    Attempt,
    Change,
    ConditionRow,
    LatencyChange,
    LayerRow,
    Report,
    ValueHistogram,
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

DETAILED = replace(
    FULL,
    budget=Budget(accuracy_drop=0.01, conditions={"dark": 0.02, "blur": 0.05}),
    breaches=(Breach(limit="conditions.dark", allowed=0.02, measured=0.071),),
    layers=(
        replace(
            LAYERS[0],
            latency_before_ms=1.31,
            kernel="QLinearConv",
            rounding=0.00011,
            clipping=0.00042,
            wasted=0.9,
            fix="Its range is cut too short: choose minmax.",
            histogram=ValueHistogram(
                low=-1.0,
                high=3.0,
                counts=(1, 40, 900, 300, 20, 4, 0, 1),
                range_low=-0.5,
                range_high=2.0,
            ),
        ),
        replace(
            LAYERS[1],
            kernel="Softmax",
            latency_before_ms=0.07,
        ),
        replace(
            LAYERS[2],
            error=0.002,
            latency_ms=0.3,
            latency_before_ms=0.2,
            kernel="MatMul",
            fell_back=True,
            fix="Quantize what reads it too, or keep both float.",
        ),
    ),
    tried=(
        *TRIED[:3],
        replace(TRIED[3], pareto=True),
        replace(TRIED[4], pareto=True, runtime="openvino", precision="bfloat16"),
    ),
    conditions=(
        ConditionRow(
            condition="dark",
            before=0.81,
            after=0.739,
            n=1000,
            paired_delta=-0.071,
            ci95=(-0.09, -0.052),
        ),
        ConditionRow(
            condition="blur",
            before=0.61,
            after=0.612,
            n=1000,
            paired_delta=0.002,
            ci95=(-0.01, 0.014),
        ),
    ),
)
"""With what is measured operator by operator and under conditions."""

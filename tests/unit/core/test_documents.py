"""The nouns that are written to files survive the trip through JSON."""

from __future__ import annotations

import msgspec
import pytest

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
from skerry.core.target import (
    Figure,
    Limit,
    OperatorRule,
    Processor,
    ProcessorKind,
    Take,
    Target,
)

TARGET = Target(
    name="npu",
    title="An NPU",
    processors=(
        Processor(
            name="npu",
            kind=ProcessorKind.NPU,
            rules=(
                OperatorRule(
                    operators=frozenset({"Conv"}),
                    dtypes=frozenset({"int8", "uint8"}),
                    limits=(Limit(quantity="strides", take=Take.FIRST, at_most=3),),
                    max_rank=4,
                    constant_weights=True,
                ),
            ),
            peak_gops=Figure(value=512.0, source="its data sheet, table 1"),
            memory_bytes=Figure(value=None, source="not published"),
        ),
    ),
)
REPORT = Report(
    model="net.onnx",
    sha256=("ab", "cd"),
    budget=Budget(size_bytes=10),
    breaches=(Breach(limit="size_bytes", allowed=10, measured=11),),
    accuracy=Accuracy(
        metric="top1", before=0.9, after=0.8, n=9, paired_delta=-0.1, ci95=(-0.2, 0.0)
    ),
    size_bytes=Change(before=40, after=11),
    latency_ms=LatencyChange(
        before=2, after=1, runtime="null", threads=1, repeats=9, ratio=0.5, noise=0.1
    ),
    memory_bytes=None,
    layers=(LayerRow(name="conv", op_type="Conv", dtype="int8", error=0.01),),
    tried=(Attempt(name="all int8", accuracy=0.8, chosen=True),),
    recipe=Recipe(
        steps=(StepSpec(name="quantize", params={"keep": ["a"], "bits": 8, "x": 0.5}),)
    ),
    notes=("A note.",),
)


@pytest.mark.parametrize("document", [TARGET, REPORT], ids=["target", "report"])
def test_a_document_survives_json(document: object) -> None:
    """What is read back equals what was written."""
    text = msgspec.json.encode(document)
    assert msgspec.json.decode(text, type=type(document)) == document


def test_a_report_names_its_schema() -> None:
    """A reader can tell which version wrote it."""
    assert (
        msgspec.json.decode(msgspec.json.encode(REPORT))["schema"] == "skerry.report/1"
    )

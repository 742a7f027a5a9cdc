"""Before and after: the evidence for a compressed model."""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry.core.budget import Breach, Budget
from skerry.core.recipe import Recipe

REPORT_SCHEMA = "skerry.report/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The task's metric on the same samples, before and after.

    Attributes:
        metric: Its name, as `skerry.tasks` knows it.
        before: Value of the source model: a fraction, or in the unit of the labels
            for errors of a regression.
        after: Value of the compressed model.
        n: Number of samples.
        paired_delta: after − before on the same samples; below 0 is a loss where
            higher is better.
        ci95: 95 % interval of `paired_delta`.
    """

    metric: str
    before: float
    after: float
    n: int
    paired_delta: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A figure before and after."""

    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyChange:
    """Latency before and after, measured interleaved on one runtime.

    Attributes:
        before: Median time of one inference of the source model, ms.
        after: Median time of one inference of the compressed model, ms.
        runtime: The runtime measured.
        threads: Its number of threads.
        repeats: Pairs of measurements.
        ratio: Median over the pairs of after ÷ before.
        noise: Half the width of the ratio's 95 % interval.
    """

    before: float
    after: float
    runtime: str
    threads: int
    repeats: int
    ratio: float
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionRow:
    """The metric under a condition that spoils the pictures, before and after.

    Attributes:
        condition: Its name, such as `dark`.
        before: Value of the source model on the spoilt samples.
        after: Value of the compressed model on them.
        n: Number of samples.
        paired_delta: after − before on the same samples.
        ci95: 95 % interval of `paired_delta`.
    """

    condition: str
    before: float
    after: float
    n: int
    paired_delta: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueHistogram:
    """What values a tensor takes on real samples, and the range that was chosen.

    Attributes:
        low: Where the first bin begins.
        high: Where the last bin ends; all are of one width.
        counts: Values in each bin, 64 bins at most.
        range_low: Lower end of the chosen range: what lies below it is clipped.
        range_high: Upper end of the chosen range.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    range_low: float
    range_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One operator of the model in the report.

    Attributes:
        name: The node's name.
        op_type: Its ONNX operator.
        dtype: What it computes in: `int8`, `float32` …
        error: Its contribution to the output's relative squared error when it alone
            is quantized; None where that was not measured.
        latency_ms: Its measured time in the chosen model, None where the runtime
            fused it away or was not profiled.
        macs: Multiply-accumulates of one inference.
        weight_bytes: Bytes of its constants in the source model.
        why: Why it stayed in higher precision, or empty.
        latency_before_ms: Its measured time in the source model, likewise.
        kernel: What the runtime ran it as, in its own words, such as `QLinearConv`;
            empty where that is not known.
        fell_back: Whether it was planned in integers and ran in float.
        rounding: What rounding its values loses: squared error ÷ energy of what it
            reads and of its weights; None where it has no quantized values.
        clipping: What cutting its values off at the ends of the range loses, likewise.
        wasted: Share of its range's codes that none of its values uses, 0–1.
        fix: What is likely to help, as a sentence, or empty.
        histogram: Of the values it writes (those it reads where its output is not
            quantized); None where it has no quantized values.
    """

    name: str
    op_type: str
    dtype: str
    error: float | None = None
    latency_ms: float | None = None
    macs: int = 0
    weight_bytes: int = 0
    why: str = ""
    latency_before_ms: float | None = None
    kernel: str = ""
    fell_back: bool = False
    rounding: float | None = None
    clipping: float | None = None
    wasted: float | None = None
    fix: str = ""
    histogram: ValueHistogram | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One candidate that was tried on the selection half of the evaluation data.

    Attributes:
        name: What it is, for people.
        accuracy: Its metric on the selection half; None if not tried.
        size_bytes: Its file; None if not tried.
        latency_ratio: Its latency ÷ the source model's; None where not measured.
        kept_float: Operators it keeps in higher precision.
        chosen: Whether it is the one that was returned.
        note: Why it was refused or not tried, or empty.
        runtime: What runs it; empty for the runtime of the report.
        precision: What its float tensors are computed in; empty for float32.
        pareto: Whether nothing that was tried is better in one of accuracy, size and
            latency without being worse in another.
    """

    name: str
    accuracy: float | None = None
    size_bytes: int | None = None
    latency_ratio: float | None = None
    kept_float: int = 0
    chosen: bool = False
    note: str = ""
    runtime: str = ""
    precision: str = ""
    pareto: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlikeRow:
    """How like the version before a model was made, and what its delta then costs.

    Attributes:
        name: What was done to it.
        patch_bytes: What the delta from the version before costs.
        drop: What it loses on the selection half against itself as it was.
        holds: Whether that loss is surely allowed.
        chosen: Whether this one is the model.
    """

    name: str
    patch_bytes: int
    drop: float
    holds: bool
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was done to a model, and the proof of what it cost and brought.

    Attributes:
        model: Name of the source model's file.
        sha256: Hash of the source and of the compressed model's file.
        budget: What was demanded.
        breaches: Limits of the budget that do not hold.
        accuracy: On the report half, which no step has looked at; None without
            labelled data.
        size_bytes: Of the model files.
        latency_ms: None where not measured.
        memory_bytes: Peak activation memory, from the graphs.
        layers: One row an operator.
        tried: One row a candidate, in order of trial.
        recipe: Reproduces the compressed model.
        notes: What a reader must know, in plain sentences.
        conditions: One row a condition that was asked for, on the report half.
        alike: What was tried to make its delta small; see `skerry compress --like`.
    """

    schema: str = REPORT_SCHEMA
    model: str
    sha256: tuple[str, str]
    budget: Budget = field(default_factory=Budget)
    breaches: tuple[Breach, ...] = ()
    accuracy: Accuracy | None
    size_bytes: Change
    latency_ms: LatencyChange | None
    memory_bytes: Change | None
    layers: tuple[LayerRow, ...]
    tried: tuple[Attempt, ...]
    recipe: Recipe
    notes: tuple[str, ...] = ()
    conditions: tuple[ConditionRow, ...] = ()
    alike: tuple[AlikeRow, ...] = ()

"""Whether a report keeps a budget, and how it changed against another one.

Everything is judged anew from the figures; the breaches that a report itself lists are
not believed. A limit is held to the figure as measured; whether a difference is more
than noise is said beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from skerry.app import figures
from skerry.app.report_page import sum_up
from skerry.app.reports import Kept, kept_operators
from skerry.core.budget import Breach, Budget, condition_limit
from skerry.core.errors import UsageError
from skerry.core.report import Accuracy, ConditionRow, LatencyChange, Report
from skerry.tasks.metrics import PairedDelta, condition_drops, find_metric

SAME_SCORE = 0.002
"""How far the source's own scores in two reports may differ on the same samples.

Another processor rounds otherwise, and a rare answer flips with it; other samples give
another score. A fraction, of the value where a metric is in the unit of the labels.
"""

LARGEST_LIMIT = 2.0**63
"""A limit beyond it is a slip: no file or memory is that large."""

Unit = Literal["fraction", "value", "bytes", "ms", "mJ"]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of the compressed model, and the limit it is held to.

    Attributes:
        name: The metric, or `size`, `latency`, `memory`, `energy`.
        unit: Of the three values: `fraction`, `value`, `bytes`, `ms` or `mJ`.
        before: Of the source model; None where it was not measured.
        after: Of the compressed model; None where it was not measured.
        other: Of the base's compressed model; None without one, or where the two were
            not measured alike.
        limit: What the budget allows: the largest `after`, or for a metric the
            largest loss as a fraction; None where it demands nothing.
        holds: Whether the limit holds; None without one.
    """

    name: str
    unit: Unit
    before: float | None
    after: float | None
    other: float | None
    limit: float | None
    holds: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A change that was measured with noise, and whether it is more than that.

    Attributes:
        name: The metric, or `latency`.
        against: What it is a change from: the `source` model or the `base`.
        delta: The metric's change; for latency that of the time ÷ the source's.
        ci95: 95 % interval of `delta`.
        is_inside_noise: Whether no change at all lies within the interval.
        statement: The same as a plain sentence.
    """

    name: str
    against: Literal["source", "base"]
    delta: float
    ci95: Interval
    is_inside_noise: bool
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a report says, judged by a budget.

    Attributes:
        model: Name of the source model's file.
        summary: What became of it, in one sentence.
        is_compared: Whether it was compared with the report of a base.
        budget: What was demanded.
        breaches: Limits that do not hold.
        breaches_against: The limit of the loss, where more than it is lost
            against the base.
        rows: One a figure.
        differences: One a change that has noise.
        kept: The operators in higher precision, by the reason.
        notes: What a reader must know, in plain sentences.
    """

    model: str
    summary: str
    is_compared: bool
    budget: Budget
    breaches: tuple[Breach, ...]
    breaches_against: tuple[Breach, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    kept: tuple[Kept, ...]
    notes: tuple[str, ...]


def judge(report: Report, budget: Budget, *, against: Report | None = None) -> Verdict:
    """Judge a report by a budget, and how it changed against the base's.

    The limit of the loss holds against the source and, given a base, against that
    too; the other limits hold for the report alone.

    Args:
        report: The report to judge.
        budget: What is demanded; takes the place of the report's own.
        against: The report of what the compressed model would replace.

    Raises:
        UsageError: A limit makes no sense, the metric is not known, or the base is of
            another model or other samples.
    """
    _check_limits(budget)
    if against is not None:
        _check_comparable(report, against)
    breaches = budget.breaches(_measured(report))
    lost = _breaches_against(against, report, budget)
    missed = {breach.limit for breach in (*breaches, *lost)}
    differences = _differences(report, against)
    return Verdict(
        model=report.model,
        summary=sum_up(report).removesuffix(" It misses the budget."),
        is_compared=against is not None,
        budget=budget,
        breaches=tuple(breaches),
        breaches_against=tuple(lost),
        rows=_rows(report, against, budget, missed),
        differences=differences,
        kept=tuple(kept_operators(report)),
        notes=_notes(report, against),
    )


def _check_limits(budget: Budget) -> None:
    for name, limit in budget.limits.items():
        is_loss = name == "accuracy_drop" or name.startswith(condition_limit(""))
        smallest = -1.0 if is_loss else 0.0
        if not smallest <= limit <= LARGEST_LIMIT:
            flag = "condition" if "." in name else name.replace("_", "-")
            raise UsageError(
                f"the limit {name} is {str(limit)[:40]}, expected a number of "
                f"{smallest:g} or more",
                hint=f"Give --{flag} another value.",
            )


def _check_comparable(report: Report, other: Report) -> None:
    """Two reports are compared only on the same model and the same samples."""
    if report.sha256[0] != other.sha256[0]:
        raise UsageError(
            f"the base is of another source model: {other.model[:80]} "
            f"({other.sha256[0][:12]}), expected {report.model[:80]} "
            f"({report.sha256[0][:12]})",
            hint="Compress the same model on both branches, or leave --against out.",
        )
    hint = "Evaluate both branches on the same samples, or leave --against out."
    ours, theirs = report.accuracy, other.accuracy
    if ours is None or theirs is None:
        if ours is not theirs:
            raise UsageError("only one of the two reports has an accuracy", hint=hint)
        return
    got, expected = (f"{one.metric[:40]} on {one.n:,}" for one in (theirs, ours))
    if got != expected:
        raise UsageError(
            f"the base is of other samples: {got} samples, expected {expected}",
            hint=hint,
        )
    scale = 1.0 if find_metric(ours.metric).is_share else abs(ours.before)
    if not abs(ours.before - theirs.before) <= SAME_SCORE * scale:
        raise UsageError(
            f"the base is of other samples: there the source model scores "
            f"{figures.show_score(ours.metric, theirs.before)}, expected "
            f"{figures.show_score(ours.metric, ours.before)}",
            hint=hint,
        )


def _measured(report: Report) -> dict[str, float]:
    """The figures by the name of their limit; without those not measured."""
    found = {"size_bytes": report.size_bytes.after}
    if report.accuracy:
        accuracy = report.accuracy
        metric = find_metric(accuracy.metric)
        found["accuracy_drop"] = metric.drop(accuracy.before, accuracy.paired_delta)
    if report.latency_ms:
        found["latency_ms"] = report.latency_ms.after
    if report.memory_bytes:
        found["memory_bytes"] = report.memory_bytes.after
    if report.accuracy:
        found |= condition_drops(report.conditions, report.accuracy.metric)
    return found


def _breaches_against(
    other: Report | None, report: Report, budget: Budget
) -> list[Breach]:
    if other is None or other.accuracy is None or report.accuracy is None:
        return []
    before, after = other.accuracy.after, report.accuracy.after
    drop = find_metric(report.accuracy.metric).drop(before, after - before)
    return Budget(accuracy_drop=budget.accuracy_drop).breaches({"accuracy_drop": drop})


def _rows(
    report: Report, other: Report | None, budget: Budget, missed: set[str]
) -> tuple[Row, ...]:
    accuracy = report.accuracy
    is_share = accuracy is None or figures.is_share(accuracy.metric)
    name = figures.show_metric(accuracy.metric) if accuracy else "accuracy"
    kinds: tuple[tuple[str, str, Unit], ...] = (
        ("accuracy_drop", name, "fraction" if is_share else "value"),
        ("size_bytes", "size", "bytes"),
        ("latency_ms", "latency", "ms"),
        ("memory_bytes", "memory", "bytes"),
        ("energy_mj", "energy", "mJ"),
    )
    rows = []
    for limit_name, shown, unit in kinds:
        limit = getattr(budget, limit_name)
        before, after = _change(report, limit_name)
        if limit is None and after is None:
            continue
        is_alike = limit_name != "latency_ms" or _timed_alike(report, other)
        rows.append(
            Row(
                name=shown,
                unit=unit,
                before=before,
                after=after,
                other=_change(other, limit_name)[1] if other and is_alike else None,
                limit=limit,
                holds=None if limit is None else limit_name not in missed,
            )
        )
    return (*rows, *_condition_rows(report, other, budget, missed))


def _condition_rows(
    report: Report, other: Report | None, budget: Budget, missed: set[str]
) -> list[Row]:
    """One row a condition that was measured or is demanded."""
    measured = {row.condition: row for row in report.conditions}
    others = {} if other is None else {row.condition: row for row in other.conditions}
    is_share = report.accuracy is None or figures.is_share(report.accuracy.metric)
    rows = []
    for name in dict.fromkeys([*measured, *budget.conditions]):
        row, limit = measured.get(name), budget.conditions.get(name)
        rows.append(
            Row(
                name=f"under {name}",
                unit="fraction" if is_share else "value",
                before=None if row is None else row.before,
                after=None if row is None else row.after,
                other=others[name].after if name in others else None,
                limit=limit,
                holds=None if limit is None else condition_limit(name) not in missed,
            )
        )
    return rows


def _change(report: Report, limit: str) -> tuple[float | None, float | None]:
    changes = {
        "accuracy_drop": report.accuracy,
        "size_bytes": report.size_bytes,
        "latency_ms": report.latency_ms,
        "memory_bytes": report.memory_bytes,
    }
    change = changes.get(limit)
    return (None, None) if change is None else (change.before, change.after)


def _timed_alike(report: Report, other: Report | None) -> bool:
    if other is None or other.latency_ms is None or report.latency_ms is None:
        return False
    return _timed_on(other.latency_ms) == _timed_on(report.latency_ms)


def _timed_on(latency: LatencyChange) -> str:
    return f"{latency.runtime}, {figures.show_number(latency.threads, 'thread')}"


def _differences(report: Report, other: Report | None) -> tuple[Difference, ...]:
    found = []
    if report.accuracy:
        found.append(_accuracy_change(report.accuracy))
        if other and other.accuracy:
            found.append(_accuracy_against(report.accuracy, other.accuracy))
        found += [_condition_change(row, report.accuracy) for row in report.conditions]
    if report.latency_ms:
        found.append(_latency_change(report.latency_ms))
        if other and other.latency_ms and _timed_alike(report, other):
            found.append(_latency_against(report.latency_ms, other.latency_ms))
    return tuple(found)


def _accuracy_change(accuracy: Accuracy) -> Difference:
    low, high = accuracy.ci95
    delta = _paired(accuracy)
    # A report of no samples is nobody's, yet a file may say so.
    is_counted = 1 <= accuracy.n <= LARGEST_LIMIT
    words = str(delta) if is_counted else _say_noise(low, high)
    return _say_accuracy(
        accuracy.metric, "source", accuracy.paired_delta, (low, high), words
    )


def _condition_change(row: ConditionRow, accuracy: Accuracy) -> Difference:
    """As the change on pictures as they were taken, by another name."""
    change = _accuracy_change(
        Accuracy(
            metric=accuracy.metric,
            before=row.before,
            after=row.after,
            n=row.n,
            paired_delta=row.paired_delta,
            ci95=row.ci95,
        )
    )
    return replace(
        change,
        name=f"under {row.condition}",
        statement=f"Under {row.condition}: "
        + change.statement[0].lower()
        + change.statement[1:],
    )


def _accuracy_against(accuracy: Accuracy, other: Accuracy) -> Difference:
    changes = ((change.paired_delta, *change.ci95) for change in (accuracy, other))
    delta, interval = _subtract(*changes)
    words = _say_noise(*interval)
    return _say_accuracy(accuracy.metric, "base", delta, interval, words)


def _say_accuracy(
    metric: str,
    against: Literal["source", "base"],
    delta: float,
    interval: Interval,
    words: str,
) -> Difference:
    low, high = (figures.show_end(metric, end) for end in interval)
    name = figures.show_metric(metric)
    return Difference(
        name=name,
        against=against,
        delta=delta,
        ci95=interval,
        is_inside_noise=_is_inside(*interval),
        statement=f"Against the {against}, {name} changed by "
        f"{figures.show_change(metric, delta)} (95 %: {low} to {high}); {words}.",
    )


def _latency_change(latency: LatencyChange) -> Difference:
    _, low, high = _speed(latency)
    ends = (low - 1, high - 1)
    return Difference(
        name="latency",
        against="source",
        delta=latency.ratio - 1,
        ci95=ends,
        is_inside_noise=_is_inside(*ends),
        statement=f"Against the source, one inference takes {latency.ratio:.2f} × the "
        f"time (95 %: {low:.2f} to {high:.2f}; {_timed_on(latency)}); "
        f"{_say_noise(*ends)}.",
    )


def _latency_against(latency: LatencyChange, other: LatencyChange) -> Difference:
    delta, interval = _subtract(_speed(latency), _speed(other))
    low, high = (figures.show_signed(end, digits=2) for end in interval)
    return Difference(
        name="latency",
        against="base",
        delta=delta,
        ci95=interval,
        is_inside_noise=_is_inside(*interval),
        statement=f"Against the base, one inference takes {latency.ratio:.2f} × the "
        f"source’s time instead of {other.ratio:.2f} × (95 % of the difference: {low} "
        f"to {high}); {_say_noise(*interval)}.",
    )


def _speed(latency: LatencyChange) -> tuple[float, float, float]:
    ratio, noise = latency.ratio, latency.noise
    return ratio, ratio - noise, ratio + noise


def _subtract(
    one: tuple[float, float, float], other: tuple[float, float, float]
) -> tuple[float, Interval]:
    """Subtract a figure with its 95 % interval from another, and give both again.

    The intervals are joined as G. Y. Zou and A. Donner do ("Construction of
    confidence limits about effect measures", Statistics in Medicine 27, 2008), the
    two taken as independent; on the same samples they rise and fall together, so
    the interval is rather too wide.
    """
    value, low, high = one
    taken, taken_low, taken_high = other
    delta = value - taken
    down = math.hypot(value - low, taken_high - taken)
    up = math.hypot(high - value, taken - taken_low)
    return delta, (delta - down, delta + up)


def _is_inside(low: float, high: float) -> bool:
    return low <= 0 <= high


def _say_noise(low: float, high: float) -> str:
    return "inside the noise" if _is_inside(low, high) else "a real difference"


def _paired(accuracy: Accuracy) -> PairedDelta:
    low, high = accuracy.ci95
    return PairedDelta(
        delta=accuracy.paired_delta,
        low=low,
        high=high,
        n=accuracy.n,
        method="bootstrap",
    )


def _notes(report: Report, other: Report | None) -> tuple[str, ...]:
    """The report's notes, without what the differences say already."""
    said = "The change in accuracy is "
    notes = [note for note in report.notes if not note.startswith(said)]
    if other and other.latency_ms and report.latency_ms:
        ours, theirs = _timed_on(report.latency_ms), _timed_on(other.latency_ms)
        if ours != theirs:
            notes.append(
                f"The base was timed on {theirs}, this on {ours}: not compared."
            )
    return tuple(notes)

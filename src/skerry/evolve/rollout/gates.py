"""Metric gates: do the updated devices' figures hold what was asked for?

Devices' figures are made one: rates are pooled (all failures over all requests), any
other metric is the median over the devices, so that one noisy device decides nothing;
whoever is ruined by a release rolls it back by itself, on probation. A gate for which
too little is known does not hold: silence is no proof.
"""

from __future__ import annotations

import operator
import re
import statistics
from collections.abc import Callable, Mapping, Sequence

from skerry.core.errors import UsageError
from skerry.core.fleet import Figures, Gate, MetricGate

ERROR_RATE = "error_rate"
"""Failed over all requests, 0 to 1."""

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_WORDS = {"<=": "at most", "<": "below", ">=": "at least", ">": "above"}
_OF = {"before": "before the update", "others": "on devices not updated yet"}
_GATE = re.compile(
    r"\s*([A-Za-z_][\w.-]{0,79})\s*(<=|>=|<|>)\s*([-+0-9.eE]{1,30})\s*"
    r"(?:\*\s*(before|others)\s*)?",
    re.ASCII,
)


def parse_metric_gate(text: str) -> MetricGate:
    """Read a gate as people write it.

    Raises:
        UsageError: It is none.

    Example:
        >>> parse_metric_gate("latency_p99_ms<=1.2*before").relative_to
        'before'
    """
    match = _GATE.fullmatch(text)
    try:
        limit = float(match[3]) if match else None
    except ValueError:
        limit = None
    if match is None or limit is None:
        raise UsageError(
            f"{text[:80]!r} is no gate",
            hint="Write METRIC<=LIMIT, or METRIC<=FACTOR*before, or FACTOR*others.",
        )
    return MetricGate(
        metric=match[1],
        op=match[2],  # type: ignore[arg-type] # one of the four, by the pattern
        limit=limit,
        relative_to=match[4] or "",  # type: ignore[arg-type] # likewise
    )


def broken(
    gate: Gate,
    *,
    after: Sequence[Figures],
    before: Sequence[Figures],
    others: Sequence[Figures],
) -> str:
    """Say which metric gate does not hold, and why; empty where all do.

    Args:
        gate: What must hold.
        after: Figures of the updated devices of the wave.
        before: Theirs before the update.
        others: Figures of devices that are not updated yet.
    """
    compared = {"before": before, "others": others}
    for metric in gate.metrics:
        origin = compared.get(metric.relative_to)
        wrong = _look(metric, gate.least_requests, after, origin)
        if wrong:
            return wrong
    return ""


def _look(
    gate: MetricGate,
    least: int,
    after: Sequence[Figures],
    origin: Sequence[Figures] | None,
) -> str:
    figure, known = _together(gate.metric, after, least)
    if figure is None:
        return f"too little is known of {gate.metric} for {gate}: {known}"
    limit, of = gate.limit, ""
    if origin is not None:
        beside, known = _together(gate.metric, origin, least)
        of = _OF[gate.relative_to]
        if beside is None:
            return f"too little is known of {gate.metric} {of} for {gate}: {known}"
        limit = gate.limit * beside
        of = f", {gate.limit:g} times the {beside:.4g} {of}"
    if _COMPARE[gate.op](figure, limit):
        return ""
    return f"{gate.metric} is {figure:.4g}, {_WORDS[gate.op]} {limit:.4g} allowed{of}"


def _together(
    metric: str, figures: Sequence[Figures], least: int
) -> tuple[float | None, str]:
    """Make one figure of many, or None; and what is known, for people."""
    counted = [one["requests"] for one in figures if "requests" in one]
    if metric == ERROR_RATE:
        rated = [one for one in figures if {"requests", "failed"} <= one.keys()]
        requests = sum(one["requests"] for one in rated)
        if requests < max(1, least):
            return None, f"{requests:g} of {max(1, least)} requests"
        return sum(one["failed"] for one in rated) / requests, ""
    values = [one[metric] for one in figures if metric in one]
    if not values:
        return None, f"none of {len(figures)} devices reports it"
    # A metric of its own section is not counted in requests.
    if "." not in metric and sum(counted) < least:
        return None, f"{sum(counted):g} of {least} requests"
    return statistics.median(values), ""

"""What a stage of the benchmark found; it is kept as JSON, so stages may run apart."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks._harness import Measured, Row

SEED = 11
RESAMPLES = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much a stage is to do.

    Attributes:
        work: A folder of its own.
        quick: Whether fewer repeats will do.
    """

    work: Path
    quick: bool

    def of(self, full: float, quick: float) -> float:
        """Choose a length or a count."""
        return quick if self.quick else full

    def count(self, full: int, quick: int) -> int:
        """Choose a count."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a stage found.

    Attributes:
        rows: Lines of the table.
        measured: A figure for each bar of the stage.
        series: Numbers to be drawn, by name.
    """

    rows: Sequence[Row] = ()
    measured: Sequence[Measured] = ()
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


Stage = Callable[[Plan], Found]


def row(what: str, who: str, **values: str | float | None) -> Row:
    """A line of the table: values go by the names of columns, notes into `note`."""
    columns = ("figure", "unit", "n", "low", "high", "p50 ms", "p99 ms", "note")
    known: Row = {"what": what, "who": who}
    return known | {name: values.get(name.replace(" ", "_")) for name in columns}


def median_of(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median and its 95 % interval, by the percentile bootstrap.

    Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", chapter 13.
    """
    array = np.asarray(values)
    rng = np.random.default_rng(SEED)
    drawn = array[rng.integers(0, len(array), (RESAMPLES, len(array)))]
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(np.median(array)), (float(low), float(high))


def percentile(values: Sequence[float], percent: float) -> float | None:
    """A percentile, or None of nothing."""
    return float(np.percentile(values, percent)) if values else None


def tell(what: str) -> None:
    """Say what is under way."""
    print(what, file=sys.stderr, flush=True)

"""Measured times of a model's operators on a runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """The time of one operator, or of several that the runtime fused into one.

    Attributes:
        name: The name the runtime gives it (often that of the last node fused).
        op_type: What the runtime ran, in its own words.
        latency_ms: Median time of one call.
        dtype: What it computed in, such as `uint8` or `float32`; empty where the
            runtime does not say.
    """

    name: str
    op_type: str
    latency_ms: float
    dtype: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Per-operator times of one model on one runtime, in order of execution."""

    runtime: str
    threads: int
    repeats: int
    operators: tuple[OperatorTime, ...]

    @property
    def total_ms(self) -> float:
        """The sum of the operators' times."""
        return sum(operator.latency_ms for operator in self.operators)

    def to_trace(self) -> dict[str, Any]:
        """Lay the operators out one after another as a Chrome trace.

        Returns:
            A JSON object in Chrome's *Trace Event Format*, which Perfetto opens too;
            times in microseconds.
        """
        events: list[dict[str, Any]] = []
        start_us = 0.0
        for operator in self.operators:
            duration_us = operator.latency_ms * 1000
            events.append(
                {
                    "name": operator.name,
                    "cat": operator.op_type,
                    "ph": "X",
                    "ts": start_us,
                    "dur": duration_us,
                    "pid": self.runtime,
                    "tid": 0,
                }
            )
            start_us += duration_us
        return {"traceEvents": events, "displayTimeUnit": "ms"}

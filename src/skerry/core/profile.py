"""Measured times of a model's operators on a runtime.

A busy machine only ever makes an operator slower, so what an operator takes is the mean
of the fastest fifth of its times; and how far two interleaved halves of the same
measurement are apart is the floor below which no difference means anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

UNSTABLE = 0.1
"""Halves of a measurement that are farther apart than this allow no conclusion."""

_FIFTH = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """The time of one operator, or of several that the runtime fused into one.

    Attributes:
        name: The name the runtime gives it (often that of the last node fused).
        op_type: What the runtime ran, in its own words.
        latency_ms: Median time of one call, or in a pooled profile the mean of the
            fastest fifth.
        dtype: What it computed in, such as `uint8` or `float32`; empty where the
            runtime does not say.
        times_ms: The time of each call, in order; empty where only one figure is kept.
        noise: How far two interleaved halves of its times are apart, as a fraction;
            None where that is not known.
        macs: Multiply-accumulates of one call; None where that is not known.
        moved_bytes: Bytes of what it reads and writes; None where that is not known.
        processor: What ran it, where a target has several; empty otherwise.
    """

    name: str
    op_type: str
    latency_ms: float
    dtype: str = ""
    times_ms: tuple[float, ...] = ()
    noise: float | None = None
    macs: int | None = None
    moved_bytes: int | None = None
    processor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceTime:
    """The time of one whole inference, measured without a profiler.

    Attributes:
        cpu_ms: CPU time of all threads, the mean of the fastest fifth.
        wall_ms: Elapsed time, the mean of the fastest fifth.
        noise: How far two interleaved halves of the CPU times are apart, as a fraction.
    """

    cpu_ms: float
    wall_ms: float
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareState:
    """How a machine is at one moment; None for what it does not tell.

    Attributes:
        temperature_c: Of its hottest sensor, in degrees Celsius.
        clock_mhz: Of its fastest CPU core.
    """

    temperature_c: float | None = None
    clock_mhz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Per-operator times of one model on one runtime, in order of execution.

    Attributes:
        runtime: What ran it.
        threads: CPU threads of one inference; 0 where a foreign file does not say.
        repeats: Inferences that were measured.
        operators: In order of execution; empty where the runtime does not tell.
        model: Name of the model's file; empty where it is not known.
        device: Where it was measured; empty for this machine.
        source: The file that it was read from; empty if it was measured.
        inference: The whole inference; None where it was not measured apart.
        memory_bytes: Memory that loading and running it added, at its peak; None where
            it was not measured.
        before: How the machine was before; None where it was not asked.
        after: How it was afterwards.
        notes: What a reader of the figures must know, a sentence each.
    """

    runtime: str
    threads: int
    repeats: int
    operators: tuple[OperatorTime, ...]
    model: str = ""
    device: str = ""
    source: str = ""
    inference: InferenceTime | None = None
    memory_bytes: int | None = None
    before: HardwareState | None = None
    after: HardwareState | None = None
    notes: tuple[str, ...] = ()

    @property
    def total_ms(self) -> float:
        """The sum of the operators' times."""
        return sum(operator.latency_ms for operator in self.operators)

    @property
    def title(self) -> str:
        """What was measured, in a few words: `m.onnx on openvino at ssh://board`."""
        words = self.model or self.source
        words = f"{words} on {self.runtime}" if words else self.runtime
        return f"{words} at {self.device}" if self.device else words

    def to_trace(self) -> dict[str, Any]:
        """This profile alone as a trace: see `join_profiles`."""
        return join_profiles([self])


def lowest_quintile(times: Sequence[float]) -> float:
    """The mean of the fastest fifth, one at least.

    Raises:
        ValueError: There are none: a bug of the caller's.
    """
    if not times:
        raise ValueError("no times were measured")
    fastest = sorted(times)[: max(1, len(times) // _FIFTH)]
    return math.fsum(fastest) / len(fastest)


def noise_of(blocks: Sequence[Sequence[float]]) -> float | None:
    """How far the even and the odd blocks are apart, as a fraction of the faster.

    Args:
        blocks: Times of the same thing, in blocks that took turns with others.

    Returns:
        The difference of their lowest quintiles; None for fewer than two blocks.
    """
    even = [time for block in blocks[0::2] for time in block]
    odd = [time for block in blocks[1::2] for time in block]
    if not even or not odd:
        return None
    first, second = lowest_quintile(even), lowest_quintile(odd)
    least = min(first, second)
    return abs(first - second) / least if least > 0 else 0.0


def join_profiles(profiles: Sequence[Profile]) -> dict[str, Any]:
    """Lay profiles out in one trace: a process each, a thread for each processor.

    Within a profile the operators follow one another from 0; profiles stand one below
    the other, so that the same model on two runtimes is compared by eye.

    Returns:
        A JSON object in Chrome's *Trace Event Format*, which Perfetto opens too; times
        in microseconds.
    """
    events: list[dict[str, Any]] = []
    for pid, profile in enumerate(profiles, start=1):
        names = dict.fromkeys(operator.processor for operator in profile.operators)
        threads = {name: tid for tid, name in enumerate(names or {"": None}, start=1)}
        events.append(_named("process_name", pid, 0, profile.title))
        events += [
            _named("thread_name", pid, tid, name or "operators")
            for name, tid in threads.items()
        ]
        start_us = 0.0
        for operator in profile.operators:
            duration_us = operator.latency_ms * 1000
            events.append(
                {
                    "name": operator.name,
                    "cat": operator.op_type or "operator",
                    "ph": "X",
                    "ts": start_us,
                    "dur": duration_us,
                    "pid": pid,
                    "tid": threads[operator.processor],
                    "args": _arguments(operator),
                }
            )
            start_us += duration_us
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {
        "name": kind,
        "ph": "M",
        "ts": 0,
        "pid": pid,
        "tid": tid,
        "args": {"name": name},
    }


def _arguments(operator: OperatorTime) -> dict[str, Any]:
    known = {
        "dtype": operator.dtype or None,
        "macs": operator.macs,
        "moved_bytes": operator.moved_bytes,
        "noise": operator.noise,
    }
    return {key: value for key, value in known.items() if value is not None}

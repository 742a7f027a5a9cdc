"""The times of operators, over a number of inferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from skerry.core.profile import OperatorTime

Work = tuple[int | None, int | None]
"""Multiply-accumulates of one call, and the bytes it reads and writes."""


def median_times(
    times_ms: Mapping[tuple[str, str], Sequence[float]],
    dtype_of: Callable[[str, str], str] = lambda _name, _op_type: "",
    work_of: Callable[[str, str], Work] = lambda _name, _op_type: (None, None),
) -> tuple[OperatorTime, ...]:
    """The median of each operator, in the order of the mapping.

    Args:
        times_ms: Milliseconds in each inference, by name and type; one at least.
        dtype_of: What it computes in, by name and type; empty where it is not known.
        work_of: What it computes and moves, by name and type.
    """
    # Slow to import, and whoever only runs a model has no need of it.
    import statistics

    operators = []
    for (name, op_type), each_ms in times_ms.items():
        macs, moved_bytes = work_of(name, op_type)
        operators.append(
            OperatorTime(
                name=name,
                op_type=op_type,
                latency_ms=statistics.median(each_ms),
                dtype=dtype_of(name, op_type),
                times_ms=tuple(each_ms),
                macs=macs,
                moved_bytes=moved_bytes,
            )
        )
    return tuple(operators)

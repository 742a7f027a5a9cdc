"""The times of operators, over a number of inferences."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from skerry.core.profile import OperatorTime


def median_times(
    times_ms: Mapping[tuple[str, str], Sequence[float]],
    dtype_of: Callable[[str, str], str] = lambda _name, _op_type: "",
) -> tuple[OperatorTime, ...]:
    """The median of each operator, in the order of the mapping.

    Args:
        times_ms: Milliseconds in each inference, by name and type; one at least.
        dtype_of: What it computes in, by name and type; empty where it is not known.
    """
    return tuple(
        OperatorTime(
            name=name,
            op_type=op_type,
            latency_ms=statistics.median(each_ms),
            dtype=dtype_of(name, op_type),
        )
        for (name, op_type), each_ms in times_ms.items()
    )

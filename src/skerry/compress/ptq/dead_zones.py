"""Do not spend integer codes on numbers that no reader can tell apart.

An activation such as hard-swish is 0 for all inputs below −3: a value that nothing
else reads needs no codes there. Convolutions before it often reach far below, so the
steps that remain become several times finer, at no loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skerry.compress.numbers.ranges import Range
from skerry.graph import Graph, Value, anything, attribute, constant, find, op

_X = anything("x")
_HARD_SWISH = op(
    "Mul", _X, op("Clip", op("Add", _X, constant(3)), constant(0), constant(6))
)
"""x · relu6(x + 3), the form that exporters write (Howard et al. 2019, section 5.2);
what it is divided by afterwards does not matter here."""

_HARD_SWISH_LOW = -3.0
_INFINITE = float("inf")

FEWEST_STEPS = 254
"""Steps of an 8-bit range, less the one by which it is widened."""


def narrow(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Cut from each range what makes no difference to those who read the value.

    Args:
        graph: The graph of the values.
        ranges: Range by name of value, one for the whole tensor each.
    """
    found = bounds(graph)
    narrowed = dict(ranges)
    for name, (low, high) in found.items():
        if name in narrowed:
            narrowed[name] = _cut(narrowed[name], low, high)
    return narrowed


def _cut(found: Range, low: float, high: float) -> Range:
    """Cut a range at bounds, which the outermost codes must not fall short of.

    The zero point is rounded, so the codes may cover half a step less than was asked
    for; what would then be left of an activation that should be 0 is a bias on all
    values that are off.
    """
    # A range holds zero, even where all that matters lies on one side of it.
    kept_low = max(float(found.low), min(low, 0.0))
    kept_high = min(float(found.high), max(high, 0.0))
    step = (kept_high - kept_low) / FEWEST_STEPS
    return Range(
        low=np.asarray(max(float(found.low), kept_low - step), np.float32),
        high=np.asarray(min(float(found.high), kept_high + step), np.float32),
    )


def bounds(graph: Graph) -> dict[str, tuple[float, float]]:
    """Where values stop to matter to all who read them, by name; most have no entry."""
    found: dict[str, tuple[float, float]] = {}
    for match in find(graph, _HARD_SWISH):
        value = match.values["x"]
        if _is_read_by_all_of(value, readers=2):
            found[str(value.name)] = (_HARD_SWISH_LOW, _INFINITE)
    for node in graph.nodes:
        source = node.inputs[0] if node.inputs else None
        if source is None or not _is_read_by_all_of(source, readers=1):
            continue
        if node.op_type == "HardSwish":
            found[str(source.name)] = (_HARD_SWISH_LOW, _INFINITE)
        elif node.op_type == "HardSigmoid":
            alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
            if alpha > 0:
                found[str(source.name)] = (-beta / alpha, (1 - beta) / alpha)
    return found


def _is_read_by_all_of(value: Value, *, readers: int) -> bool:
    return len(list(value.uses())) == readers and not value.is_graph_output()

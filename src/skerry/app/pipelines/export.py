"""Export a graph for other runtimes and compilers: ranges from real samples first."""

from __future__ import annotations

from collections.abc import Iterable

from skerry.adapt.tflite import complete
from skerry.compress.ptq.calibrate import watch
from skerry.core.seams import Runtime, Tensors
from skerry.graph import Graph, infer_shapes


def complete_scales(
    graph: Graph, samples: Iterable[Tensors], runtime: Runtime
) -> Graph:
    """Return a copy in which what is computed of codes is kept as codes too.

    Args:
        graph: A QDQ graph, with shapes.
        samples: Inputs of single inferences: the least and the greatest number that a
            result becomes with them set its scale.
        runtime: What runs the graph.

    Raises:
        DataError: There are no samples, or they do not fit the graph.
        RuntimeFailure: The runtime cannot run it.
    """
    missing = complete.unscaled(graph)
    if not missing:
        return graph
    ranges: dict[str, tuple[float, float]] = {}
    for found in watch(graph, missing, samples, runtime=runtime):
        for name in missing:
            low, high = float(found[name].min()), float(found[name].max())
            before = ranges.get(name, (low, high))
            ranges[name] = (min(before[0], low), max(before[1], high))
    return infer_shapes(complete.with_scales(graph, ranges))

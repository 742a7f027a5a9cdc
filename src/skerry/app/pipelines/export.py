"""Export for other runtimes and compilers: ranges from samples, then a compiler."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from skerry.adapt.tflite import complete
from skerry.app.pipelines.vela import VelaToolchain
from skerry.compress.ptq.calibrate import watch
from skerry.core.compiled import Compiled
from skerry.core.durable import storage_errors
from skerry.core.seams import Runtime, Tensors
from skerry.core.target import Target
from skerry.graph import Graph, infer_shapes
from skerry.runtimes import open_any


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


def compile_tflite(content: bytes, target: Target, out: Path) -> Compiled:
    """Compile a TFLite file for a target.

    Args:
        content: Of the file.
        target: One whose first processor names a compiler.
        out: Where the compiled file is put.

    Returns:
        Where each operator runs, and what the whole costs, by the compiler's word.

    Raises:
        ModelError: It cannot be compiled.
        TargetError: There is no compiler for the target.
        ToolchainError: The compiler is not installed, too old, or failed.
        StorageError: The disk refused.
    """
    place = Path(gettempdir())
    with storage_errors(place), TemporaryDirectory(dir=place) as scratch:
        path = Path(scratch) / out.name
        path.write_bytes(content)
        return VelaToolchain().compile(open_any(path), target, out)

"""Run samples through a graph and watch the ranges of its values.

One sample is in memory at a time, and of each value only what its observers keep, so
memory does not grow with the number of samples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from skerry.compress.numbers.ranges import Range, RangeObserver
from skerry.compress.numbers.schemes import Method, Scheme
from skerry.compress.ptq.dead_zones import narrow
from skerry.core.errors import DataError
from skerry.core.seams import Array, LoadOptions, Runtime, Tensors
from skerry.graph import Graph, write_graph

Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and how much there is."""

FEWEST_SAMPLES = 8
"""Under this many samples, ranges depend on which ones were picked."""

UNBOUNDED = float(np.finfo(np.float32).max) / 2
"""Masks that are not infinite hold the lowest float there is."""

LARGEST_SLICE = 1 << 16
"""Values of one tensor of one sample that enter a histogram: an evenly spaced part of
a larger tensor tells its distribution, while minimum and maximum see all of it."""


def calibrate(
    graph: Graph,
    values: Iterable[str],
    samples: Iterable[Tensors],
    *,
    runtime: Runtime,
    scheme: Scheme,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Range]:
    """Choose the range of each value from real samples.

    Args:
        graph: The float graph.
        values: Names of the values to watch.
        samples: Inputs of single inferences.
        runtime: What runs the graph.
        scheme: How the values will be quantized, and how ranges are chosen.
        threads: CPU threads.
        progress: Told of each sample.

    Returns:
        The range by name of value, without what makes no difference to its readers.
        Values that become infinite have none: that is how attention is masked.

    Raises:
        DataError: There are no samples, they do not fit the graph, or a value
            becomes NaN.
    """
    names = sorted(values)
    inputs = [spec.name for spec in graph.inputs if spec.dtype.startswith("float")]
    observers = {name: RangeObserver(scheme) for name in names}
    for found in watch(
        graph, names, samples, runtime=runtime, threads=threads, progress=progress
    ):
        for name in inputs:
            check_finite(found[name], name)
        for name, observer in list(observers.items()):
            if _is_bounded(found[name], name):
                _observe(observer, found[name], scheme.method)
            else:
                del observers[name]
    ranges = {name: observer.range() for name, observer in observers.items()}
    return narrow(graph, ranges)


def watch(
    graph: Graph,
    values: Iterable[str],
    samples: Iterable[Tensors],
    *,
    runtime: Runtime,
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[Mapping[str, Array]]:
    """Run samples through a graph, and show what its values become with each.

    Args:
        graph: The float graph.
        values: Names of the values to watch.
        samples: Inputs of single inferences.
        runtime: What runs the graph.
        threads: CPU threads.
        progress: Told of each sample.

    Yields:
        By name, for one sample after the other; inputs of the graph too.

    Raises:
        DataError: There are no samples, or they do not fit the graph.
    """
    inputs = {spec.name for spec in graph.inputs}
    seen = 0
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        watched = graph.copy()
        watched.add_outputs([name for name in values if name not in inputs])
        model = write_graph(watched, Path(folder) / "watched.onnx")
        session = runtime.load(model, LoadOptions(threads=threads, precision="float32"))
        try:
            for seen, sample in enumerate(samples, start=1):
                yield {**session.run(sample), **sample}
                if progress is not None:
                    progress("calibrate", seen, 0)
        finally:
            session.close()
    if not seen:
        raise DataError(
            "there are no calibration samples",
            hint=f"Give {FEWEST_SAMPLES} or more real inputs of the model.",
        )


def check_finite(value: Array, name: str) -> None:
    """Refuse what a calibration sample made of a value.

    Raises:
        DataError: It holds NaN or infinity.
    """
    if not np.isfinite(value).all():
        raise DataError(
            f"{name!r} becomes NaN or infinite on a calibration sample",
            hint="Look for NaN in the model's weights or in the samples.",
        )


def _is_bounded(value: Array, name: str) -> bool:
    """Whether a value is one for integers: attention is masked by infinities.

    Raises:
        DataError: It holds NaN.
    """
    low, high = (value.min(), value.max()) if value.size else (0.0, 0.0)
    if np.isnan(low):
        raise DataError(
            f"{name!r} becomes NaN on a calibration sample",
            hint="Look for NaN in the model's weights or in the samples.",
        )
    return bool(low > -UNBOUNDED and high < UNBOUNDED)


def _observe(observer: RangeObserver, value: Array, method: Method) -> None:
    if not value.size:
        return
    flat = value.reshape(-1)
    if method == "minmax" or flat.size <= LARGEST_SLICE:
        observer.update(flat)
        return
    observer.update(flat[:: -(-flat.size // LARGEST_SLICE)])
    observer.update(np.array([flat.min(), flat.max()], np.float32))

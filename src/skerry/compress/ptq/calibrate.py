"""Run samples through a graph and watch the ranges of its values.

One sample is in memory at a time, and of each value only what its observers keep, so
memory does not grow with the number of samples.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from skerry.compress.numbers.ranges import Range, RangeObserver
from skerry.compress.numbers.schemes import Scheme
from skerry.compress.ptq.dead_zones import narrow
from skerry.compress.ptq.samples_check import FEWEST_SAMPLES, SamplesCheck
from skerry.core.errors import DataError
from skerry.core.seams import Array, LoadOptions, Runtime, Tensors
from skerry.graph import Graph, write_graph

Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and how much there is."""

MOST_TOLD = 8
"""Values whose ends on each sample are compared between halves of the samples."""

UNBOUNDED = float(np.finfo(np.float32).max) / 2
"""Masks that are not infinite hold the lowest float there is."""

LARGEST_SLICE = 1 << 16
"""Values of one tensor of one sample that enter a histogram: an evenly spaced part of
a larger tensor tells its distribution, while minimum and maximum see all of it."""


GATHERED = 1 << 14
"""Numbers of one value that are gathered before a histogram counts them."""


def calibrate(
    graph: Graph,
    values: Iterable[str],
    samples: Iterable[Tensors],
    *,
    runtime: Runtime,
    scheme: Scheme,
    threads: int = 1,
    progress: Progress | None = None,
    check: SamplesCheck | None = None,
    made: Iterable[str] = (),
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
        check: Looks at the samples on the way.
        made: Values that are made too, though not looked at: which operators the
            runtime fuses, and with it the last digits of all that follows, depends on
            what it is asked for.

    Returns:
        The range by name of value, without what makes no difference to its readers.
        Values that become infinite have none: that is how attention is masked.

    Raises:
        DataError: There are no samples, they do not fit the graph, a value becomes
            NaN, or the check refuses them.
    """
    names = sorted(values)
    given = [spec.name for spec in graph.inputs]
    inputs = [spec.name for spec in graph.inputs if spec.dtype.startswith("float")]
    # Some values tell whether the samples are enough, at a part of the cost of all.
    told = set(names[:: -(-len(names) // MOST_TOLD) or 1])
    observers = {
        name: _Observer(name, scheme, check if name in told else None) for name in names
    }
    for found in watch(
        graph,
        sorted({*names, *made}),
        samples,
        runtime=runtime,
        threads=threads,
        progress=progress,
    ):
        for name in inputs:
            check_finite(found[name], name)
        if check is not None:
            check.add({name: found[name] for name in given})
        for name, observer in list(observers.items()):
            if not observer.add(found[name]):
                del observers[name]
    if check is not None:
        check.refuse()
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
        By name, for one sample after the other; inputs of the graph too. Emptied when
        the next is asked for: the values of two samples would take twice the memory.

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
                shown = {**session.run(sample), **sample}
                yield shown
                shown.clear()
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


class _Observer:
    """Watches one value.

    Numbers are gathered first: a histogram of a few costs as much as one of many.

    Args:
        name: What messages call the value.
        scheme: How it will be quantized.
        check: Told of the ends on each sample.
    """

    def __init__(self, name: str, scheme: Scheme, check: SamplesCheck | None) -> None:
        self._name = name
        self._check = check
        self._method = scheme.method
        self._ranges = RangeObserver(scheme)
        self._gathered: list[Array] = []
        self._size = 0
        self._low, self._high = math.inf, -math.inf
        self._dtype = np.dtype(np.float32)

    def add(self, value: Array) -> bool:
        """Take in what one sample makes of the value.

        Returns:
            Whether the value is one for integers: attention is masked by infinities.

        Raises:
            DataError: It holds NaN.
        """
        if not value.size:
            return True
        flat = value.reshape(-1)
        # Plain floats: on small values, arrays of two numbers would cost more than the
        # reductions. Either is NaN where anything is.
        low, high = float(flat.min()), float(flat.max())
        if math.isnan(low) or math.isnan(high):
            raise DataError(
                f"{self._name!r} becomes NaN on a calibration sample",
                hint="Look for NaN in the model's weights or in the samples.",
            )
        if not (low > -UNBOUNDED and high < UNBOUNDED):
            return False
        if self._check is not None:
            self._check.see(self._name, low, high)
        if self._method == "minmax":
            self._dtype = value.dtype
            self._low, self._high = min(self._low, low), max(self._high, high)
        elif flat.size <= LARGEST_SLICE:
            self._gather(flat)
        else:
            self._gather(flat[:: -(-flat.size // LARGEST_SLICE)])
            self._gather(np.array([low, high], value.dtype))
        return True

    def range(self) -> Range:
        """Choose the range from all that was seen."""
        if self._low <= self._high:
            self._gather(np.array([self._low, self._high], self._dtype))
        self._flush()
        return self._ranges.range()

    def _gather(self, numbers: Array) -> None:
        # A copy: the whole of a large array must not stay for a slice of it.
        self._gathered.append(numbers.copy())
        self._size += numbers.size
        if self._size >= GATHERED:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._ranges.update(np.concatenate(self._gathered))
            self._gathered, self._size = [], 0

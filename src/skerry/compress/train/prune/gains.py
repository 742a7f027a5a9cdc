"""What a pruned model gains on each runtime: measured, not counted."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from skerry.compress.search.timing import TIE
from skerry.core.errors import SkerryError
from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Tensors
from skerry.runtimes import get_runtime
from skerry.tasks.measure import Ratio, measure_latency, ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What one runtime makes of a pruned model.

    Attributes:
        runtime: Its name.
        latency: Of the pruned model ÷ the original's; None where it does not run.
        why_not: The reason then.
    """

    runtime: str
    latency: Ratio | None
    why_not: str = ""

    @property
    def sentence(self) -> str:
        """The same for people."""
        if self.latency is None:
            return f"{self.runtime}: not measured, {self.why_not}"
        span = f"{1 / self.latency.high:.2f} to {1 / self.latency.low:.2f}"
        # What nobody would notice is no gain, however sure it is.
        if self.latency.low <= 1 + TIE and self.latency.high >= 1 - TIE:
            return f"{self.runtime}: no faster ({span} × as fast)"
        word = "faster" if self.latency.median < 1 else "slower"
        return f"{self.runtime}: {word}, {1 / self.latency.median:.2f} × ({span})"


def measure_gains(
    before: Model,
    after: Model,
    inputs: Tensors,
    runtimes: Sequence[str],
    *,
    rounds: int = 61,
) -> tuple[Gain, ...]:
    """Time two models in turns on each runtime, on one thread.

    Args:
        before: The original's file.
        after: The pruned one's, of the same inputs.
        inputs: What both are given.
        runtimes: Their names.
        rounds: How often each is timed.

    Returns:
        One entry a runtime, in order; one that is not installed says so.
    """
    return tuple(_gain(name, (before, after), inputs, rounds) for name in runtimes)


def packed_bytes(model: Model) -> int:
    """The size of a model's file as it travels compressed (RFC 1950)."""
    return len(zlib.compress(model.path.read_bytes(), 9))


def _gain(name: str, models: tuple[Model, Model], inputs: Tensors, rounds: int) -> Gain:
    options = LoadOptions(threads=1, precision="float32")
    try:
        runtime = get_runtime(name)
        with (
            closing(runtime.load(models[0], options)) as first,
            closing(runtime.load(models[1], options)) as second,
        ):
            calls = {"before": partial(first.run, inputs)}
            calls["after"] = partial(second.run, inputs)
            found = measure_latency(calls, repeats=rounds)
    except SkerryError as error:
        return Gain(runtime=name, latency=None, why_not=error.what)
    return Gain(runtime=name, latency=ratio(found["after"], found["before"]))

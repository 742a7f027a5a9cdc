"""Time deployments beside one another: in turns here, or by a compiler's word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial

from skerry.adapt.optimize.deployment import Deployment
from skerry.core.clock import Clock
from skerry.core.seams import Session, Tensors
from skerry.tasks.measure import Latency, measure_latency

ROUNDS = 31
"""Rounds in which deployments are timed against one another."""

Timing = Callable[[Mapping[str, Deployment]], dict[str, Latency]]
"""Says what one inference of each of some deployments takes, by their names."""


def in_turns(
    inputs: Sequence[Tensors], *, rounds: int = ROUNDS, clock: Clock | None = None
) -> Timing:
    """Time deployments on this machine, in turns.

    Args:
        inputs: Real inputs, at least one; one timed call runs all of them.
        rounds: How often each is timed.
        clock: What measures time; this machine's clock by default.
    """

    def run(session: Session) -> None:
        for each in inputs:
            session.run(each)

    def time(deployments: Mapping[str, Deployment]) -> dict[str, Latency]:
        with ExitStack() as stack:
            calls = {
                name: partial(run, stack.enter_context(closing(one.load())))
                for name, one in deployments.items()
            }
            times = measure_latency(calls, repeats=rounds, clock=clock)
        return {
            name: Latency(
                wall_ms=tuple(ms / len(inputs) for ms in one.wall_ms),
                cpu_ms=tuple(ms / len(inputs) for ms in one.cpu_ms),
            )
            for name, one in times.items()
        }

    return time


def by_word(time_ms: Callable[[Deployment], float]) -> Timing:
    """Take for a deployment's latency what a compiler says: it has no noise.

    Args:
        time_ms: Says the latency of one inference.
    """

    def time(deployments: Mapping[str, Deployment]) -> dict[str, Latency]:
        said = {name: time_ms(one) for name, one in deployments.items()}
        return {
            name: Latency(wall_ms=(each,), cpu_ms=(each,))
            for name, each in said.items()
        }

    return time

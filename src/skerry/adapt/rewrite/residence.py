"""How much of a model a target's most wanted processor runs."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.adapt.operators import read_workload
from skerry.adapt.plan import make_plan, runs
from skerry.core.target import Target
from skerry.graph import Graph, infer_shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Residence:
    """How much of a model runs on the most wanted processor, at its best dtype.

    Attributes:
        processor: Its name.
        operators: How many operators run there, as they are or once quantized.
        of: How many operators there are.
        subgraphs: How many runs of operators on one processor the work falls into.
    """

    processor: str
    operators: int
    of: int
    subgraphs: int


def residence(graph: Graph, target: Target) -> Residence:
    """Count what runs on a target's most wanted processor.

    Raises:
        ModelError: The shapes in the graph do not fit together.
    """
    best = target.processors[0].name
    workload = read_workload(infer_shapes(graph))
    plan = max(
        (make_plan(one, target) for one in (workload, workload.as_int8())),
        key=lambda one: len(one.operators_on(best)),
    )
    return Residence(
        processor=best,
        operators=len(plan.operators_on(best)),
        of=len(workload.operators),
        subgraphs=len(list(runs(plan))),
    )

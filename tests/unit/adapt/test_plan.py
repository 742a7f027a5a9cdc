"""A workload laid out on a target."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.adapt.operators import Operator, Workload
from skerry.adapt.plan import make_plan, memory_pools
from skerry.core.target import (
    Figure,
    OperatorRule,
    Processor,
    ProcessorKind,
    Target,
)
from tests.unit.adapt.test_placement import operator


def target(**shared: str | None) -> Target:
    """A target whose processors share memory as told, by name."""
    return Target(
        name="board",
        title="A board",
        processors=tuple(
            Processor(
                name=name,
                kind=ProcessorKind.CPU,
                runs_everything=True,
                shares_memory_with=owner,
                memory_bytes=Figure(value=len(name), source="test"),
            )
            for name, owner in shared.items()
        ),
    )


def test_processors_are_grouped_by_the_memory_they_use() -> None:
    """Sharing is followed to its end; who shares with nobody stands alone."""
    pools = memory_pools(target(npu=None, dsp="cpu", cpu="npu", gpu=None))
    assert [(pool.name, pool.members) for pool in pools] == [
        ("npu", ("npu", "dsp", "cpu")),
        ("gpu", ("gpu",)),
    ]


def test_a_ring_of_sharing_is_one_memory() -> None:
    """Two processors that each name the other share one memory."""
    pools = memory_pools(target(b="a", a="b", c="b"))
    assert [(pool.name, set(pool.members)) for pool in pools] == [
        ("a", {"a", "b", "c"})
    ]


RELUS = Processor(
    name="npu",
    kind=ProcessorKind.NPU,
    rules=(OperatorRule(operators=frozenset({"Relu"}), dtypes=frozenset({"int8"})),),
    first_subgraph_only=True,
)
CPU = Processor(name="cpu", kind=ProcessorKind.CPU, runs_everything=True)


def chain(*op_types: str) -> Workload:
    """Operators one after another, each named by its place."""
    made: list[Operator] = []
    for place, op_type in enumerate(op_types):
        one = operator(op_type, (1, 8))
        inputs = made[-1].outputs if made else one.inputs
        outputs = (replace(one.outputs[0], name=f"y{place}"),)
        made.append(replace(one, name=f"{place}", inputs=inputs, outputs=outputs))
    return Workload(operators=tuple(made), results=frozenset())


@pytest.mark.parametrize(
    ("op_types", "processors"),
    [
        (("Relu", "Erf", "Relu"), ("npu", "cpu", "cpu")),
        (("Erf", "Relu"), ("cpu", "cpu")),
        (("Relu", "Relu"), ("npu", "npu")),
    ],
)
def test_only_the_first_subgraph_is_taken(
    op_types: tuple[str, ...], processors: tuple[str, ...]
) -> None:
    """After the first operator that it refuses, nothing more goes to the processor."""
    board = Target(name="board", title="A board", processors=(RELUS, CPU))
    plan = make_plan(chain(*op_types), board)
    assert plan.processors == processors
    if op_types[-1] == "Relu" and "cpu" in processors:
        assert "one subgraph" in plan.reasons[-1]


def test_a_processor_that_takes_several_subgraphs_takes_all() -> None:
    """Without that property, work comes back to it."""
    every = replace(RELUS, first_subgraph_only=False)
    board = Target(name="board", title="A board", processors=(every, CPU))
    plan = make_plan(chain("Relu", "Erf", "Relu"), board)
    assert plan.processors == ("npu", "cpu", "npu")

"""A workload laid out on a target."""

from __future__ import annotations

from skerry.adapt.plan import memory_pools
from skerry.core.target import Figure, Processor, ProcessorKind, Target


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

"""A workload laid out on a target: where each operator runs, in which order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from skerry.adapt.operators import Operator, Workload, constant_bytes
from skerry.adapt.placement import UNKNOWN, place
from skerry.core.target import Figure, Processor, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where a target runs each operator of a workload.

    Attributes:
        target: The hardware.
        workload: What is to be run.
        processors: One name an operator; `NOWHERE` if none can run it, `UNKNOWN` if
            nobody knows which.
        reasons: Why the most wanted processor cannot; empty if it does.
    """

    target: Target
    workload: Workload
    processors: tuple[str, ...]
    reasons: tuple[str, ...]

    def operators_on(self, *names: str) -> list[Operator]:
        """The operators that run on the processors of these names."""
        placed = zip(self.workload.operators, self.processors, strict=True)
        return [operator for operator, name in placed if name in names]

    def macs_share(self, *names: str) -> float:
        """Share of all multiply-accumulates that run on these processors, 0–1."""
        total = self.workload.macs
        placed = sum(operator.macs for operator in self.operators_on(*names))
        return placed / total if total else 0.0

    def peak_bytes(self, *names: str) -> int | None:
        """Most activation bytes alive while one of these processors runs.

        Returns:
            None where a size is known only when the model runs.
        """
        live = self.workload.live_bytes()
        if live is None:
            return None
        placed = zip(live, self.processors, strict=True)
        return max((size for size, name in placed if name in names), default=0)

    def weight_bytes(self, *names: str) -> int:
        """Bytes of the constants that these processors read."""
        return constant_bytes(self.operators_on(*names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Processors that share one memory and one storage.

    Attributes:
        name: The processor whose memory it is.
        members: Names of the processors that use it.
        memory: Its memory for activations; None where the target names none.
        storage: Its memory for weights; None where the target names none.
    """

    name: str
    members: tuple[str, ...]
    memory: Figure | None
    storage: Figure | None


def make_plan(workload: Workload, target: Target) -> Plan:
    """Give each operator to the most wanted processor that can run it.

    A processor that takes one subgraph alone gets what comes before the first operator
    that it refuses, in the order of the model, and nothing after.
    """
    placed = [place(operator, target) for operator in workload.operators]
    first = target.processors[0]
    if first.first_subgraph_only:
        placed = _only_first_subgraph(workload.operators, placed, target)
    return Plan(
        target=target,
        workload=workload,
        processors=tuple(name for name, _ in placed),
        reasons=tuple(reason for _, reason in placed),
    )


def _only_first_subgraph(
    operators: Sequence[Operator], placed: list[tuple[str, str]], target: Target
) -> list[tuple[str, str]]:
    """Take from the first processor what comes after the first refused operator."""
    wanted = target.processors[0].name
    others = replace(target, processors=target.processors[1:])
    kept: list[tuple[str, str]] = []
    breaker = ""
    for operator, (name, reason) in zip(operators, placed, strict=True):
        if not breaker or name != wanted:
            kept.append((name, reason))
            if not breaker and name not in {wanted, UNKNOWN}:
                breaker = f"{operator.op_type} {operator.name!r}"
            continue
        instead, _ = place(operator, others)
        kept.append((instead, f"comes after {breaker}: {wanted} takes one subgraph"))
    return kept


def memory_pools(target: Target) -> list[Pool]:
    """Group a target's processors by the memory they use."""
    owners = {one.name: _owner(one, target.processors) for one in target.processors}
    return [
        Pool(
            name=one.name,
            members=tuple(name for name, owner in owners.items() if owner == one.name),
            memory=one.memory_bytes,
            storage=one.storage_bytes,
        )
        for one in target.processors
        if owners[one.name] == one.name
    ]


def _owner(processor: Processor, processors: Sequence[Processor]) -> str:
    """Follow `shares_memory_with` to its end; a ring ends where it closes."""
    by_name = {one.name: one for one in processors}
    seen = [processor.name]
    while (shared := by_name[seen[-1]].shares_memory_with) is not None:
        if shared in seen:
            return min(seen[seen.index(shared) :])
        seen.append(shared)
    return seen[-1]


def runs(plan: Plan) -> Iterator[tuple[str, list[int]]]:
    """Order the operators so that the work changes processor seldom.

    Of the operators whose inputs are made, one of the processor at work is always
    preferred; each time none is left, the work moves on and a new run begins.

    Yields:
        A processor's name and the places in the workload of the operators of one run.
    """
    waiting, readers = _dependences(plan.workload.operators)
    ready: dict[str, deque[int]] = {}
    for index, needs in enumerate(waiting):
        if not needs:
            ready.setdefault(plan.processors[index], deque()).append(index)
    while ready:
        name = min(ready, key=lambda one: ready[one][0])
        run: list[int] = []
        while name in ready:
            index = ready[name].popleft()
            run.append(index)
            for reader in readers[index]:
                waiting[reader].discard(index)
                if not waiting[reader]:
                    queue = ready.setdefault(plan.processors[reader], deque())
                    queue.append(reader)
            if not ready[name]:
                del ready[name]
        yield name, run


def _dependences(
    operators: Sequence[Operator],
) -> tuple[list[set[int]], list[set[int]]]:
    """For each operator, the operators it waits for and those that wait for it."""
    makers = {
        tensor.name: index
        for index, operator in enumerate(operators)
        for tensor in operator.outputs
    }
    waiting = [
        {makers[one.name] for one in operator.inputs if one and one.name in makers}
        for operator in operators
    ]
    readers: list[set[int]] = [set() for _ in operators]
    for index, needs in enumerate(waiting):
        for need in needs:
            readers[need].add(index)
    return waiting, readers

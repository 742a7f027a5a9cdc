"""Remedies for operators refused for their size, or for what stands before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from skerry.adapt.findings import layout_changes
from skerry.adapt.gains import Remedy, gain_of, moving
from skerry.adapt.placement import NOWHERE
from skerry.adapt.plan import Plan, make_plan
from skerry.adapt.rewrite.engine import Adapted, drawn_whole
from skerry.adapt.rewrite.means import MEAN_TILES
from skerry.adapt.rewrite.transposes import TRANSPOSE_TILES
from skerry.adapt.wording import show_bytes
from skerry.graph import Graph

TILING = (MEAN_TILES, TRANSPOSE_TILES)
"""Rules that put a result together from results on parts of the input."""


def find_arrangements(plan: Plan, graph: Graph, adapted: Adapted) -> list[Remedy]:
    """Find what would help without other operators: tiles, order, no detours.

    Args:
        plan: The model as it is laid out.
        graph: The model.
        adapted: What rewriting it would replace.
    """
    return [*_tiling(plan, graph, adapted), *_one_subgraph(plan), *_layouts(plan)]


def _tiling(plan: Plan, graph: Graph, adapted: Adapted) -> Iterator[Remedy]:
    """Advise the tiles that a rule would make where no other rule helps."""
    best = plan.target.processors[0]
    places = {one.name: at for at, one in enumerate(plan.workload.operators)}
    tiling = {rule.name for rule in TILING}
    helped = {one.node for one in adapted.applied if not tiling & set(one.rules)}
    refused = {
        one.op_type
        for one, name in zip(plan.workload.operators, plan.processors, strict=True)
        if name != best.name
    }
    for rule in TILING:
        if not rule.replaces & refused:
            continue
        for node, small in drawn_whole(graph, plan.target, rule):
            place = places.get(node)
            if place is None or node in helped:
                continue
            operator = plan.workload.operators[place]
            processors = list(plan.processors)
            processors[place] = best.name
            gain = gain_of(plan, replace(plan, processors=tuple(processors)))
            tiles = sum(one.op_type == "Slice" for one in small.nodes)
            shape = "×".join(str(size) for size in operator.activations[0].shape or ())
            advice = (
                f"Split {operator.op_type} {node!r} over {shape} into {tiles} tiles "
                f"and join their results: {moving(gain, plan)}."
            )
            solves = plan.processors[place] == NOWHERE
            yield replace(gain, advice=advice, solves=solves)


def _one_subgraph(plan: Plan) -> list[Remedy]:
    """Where a processor takes one subgraph: what the operator that ends it costs."""
    best = plan.target.processors[0]
    placed = zip(plan.workload.operators, plan.processors, strict=True)
    end = next((operator for operator, name in placed if name != best.name), None)
    if not best.first_subgraph_only or end is None:
        return []
    without = tuple(one for one in plan.workload.operators if one is not end)
    shorter = replace(plan.workload, operators=without)
    gain = gain_of(plan, make_plan(shorter, plan.target))
    if not gain.operators:
        return []
    advice = (
        f"Replace {end.op_type} {end.name!r}, or move it to the end: it ends the one "
        f"subgraph that {best.name} takes; {moving(gain, plan)}."
    )
    return [replace(gain, advice=advice)]


def _layouts(plan: Plan) -> list[Remedy]:
    """Advise to take out Transposes that undo one another."""
    changes = layout_changes(plan)
    pairs = [one for one in changes if one.undone_by]
    if not pairs:
        return []
    sizes = {one.operator: one.moved_bytes or 0 for one in changes}
    names = {name for one in pairs for name in (one.operator, one.undone_by)}
    moved_bytes = sum(sizes[name] for name in names)
    advice = (
        f"Take out {len(names)} Transposes that undo one another: "
        f"{show_bytes(moved_bytes)} less are read and written."
    )
    return [Remedy(advice=advice, moved_bytes=moved_bytes)]

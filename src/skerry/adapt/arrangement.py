"""Remedies for operators refused for their size, or for what stands before them."""

from __future__ import annotations

from dataclasses import replace

from skerry.adapt.findings import layout_changes
from skerry.adapt.gains import Remedy, gain_of, moving
from skerry.adapt.operators import Operator
from skerry.adapt.placement import NOWHERE, refusal
from skerry.adapt.plan import Plan, make_plan
from skerry.adapt.wording import show_bytes

_TILED = frozenset({"GlobalAveragePool", "ReduceMean", "Transpose"})
"""Operators whose result is put together from results on parts of the input."""

_TILES = (2, 4, 8, 16, 32, 64, 128)


def find_arrangements(plan: Plan) -> list[Remedy]:
    """Find what would help without other operators: tiles, order, no detours."""
    return [*_tiling(plan), *_one_subgraph(plan), *_layouts(plan)]


def _tiling(plan: Plan) -> list[Remedy]:
    """Advise to work in tiles where an operator is refused for its size alone."""
    best = plan.target.processors[0]
    found = []
    for place, operator in enumerate(plan.workload.operators):
        if operator.op_type not in _TILED or not refusal(operator, best):
            continue
        tiles = ((number, _tile(operator, number)) for number in _TILES)
        fitting = (
            (number, tile)
            for number, tile in tiles
            if tile is not None and not refusal(tile, best)
        )
        number, tile = next(fitting, (0, None))
        if tile is None:
            continue
        operators = list(plan.workload.operators)
        operators[place] = tile
        tiled = replace(plan.workload, operators=tuple(operators))
        gain = gain_of(plan, make_plan(tiled, plan.target))
        shape = "×".join(str(size) for size in operator.activations[0].shape or ())
        advice = (
            f"Split {operator.op_type} {operator.name!r} over {shape} into {number} "
            f"tiles and join their results: {moving(gain, plan)}."
        )
        solves = plan.processors[place] == NOWHERE
        found.append(replace(gain, advice=advice, solves=solves))
    return found


def _tile(operator: Operator, number: int) -> Operator | None:
    """One of a number of equal parts of an operator, cut along its longest side."""
    shape = operator.activations[0].shape
    if not shape:
        return None
    axis = max(range(len(shape)), key=lambda place: shape[place])
    if shape[axis] % number:
        return None
    small = tuple(
        size // number if place == axis else size for place, size in enumerate(shape)
    )
    inputs = tuple(
        replace(one, shape=small) if one is not None and one.shape == shape else one
        for one in operator.inputs
    )
    return replace(operator, inputs=inputs)


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

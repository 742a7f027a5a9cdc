"""Models for each rewrite rule, drawn by a random generator, and a check of its bound.

A case is a small model in which one operator is to be replaced. The replacements that
the rule draws for it are run by onnxruntime beside the original, without onnxruntime's
own rewrites, and no element may be further off than the rule says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from skerry.adapt.operators import read_workload
from skerry.adapt.rewrite import RULES, Replacement, Rule, Site
from skerry.adapt.rewrite.engine import finish
from skerry.core.target import Limit, OperatorRule, Processor, ProcessorKind, Target
from skerry.graph import Graph, infer_shapes, name_all_nodes, parse_graph
from tests import rewrite_curves, rewrite_layers
from tests.models import model_bytes
from tests.rewrite_case import Array, Case
from tests.running import run

CASES = {**rewrite_curves.CASES, **rewrite_layers.CASES}
"""For each rule, by name, the cases that it must draw replacements for."""


def rule_named(name: str) -> Rule:
    """Find a rule."""
    return next(rule for rule in RULES if rule.name == name)


def build(case: Case) -> Graph:
    """Make the model of a case, with shapes and names."""
    shape = ", ".join(str(one) for one in case.shape)
    signature = f"{case.dtype}[{shape}] x"
    if case.second is not None:
        more = ", ".join(str(one) for one in case.second)
        signature += f", {case.dtype}[{more}] z"
    sizes_made: tuple[int | str, ...] = case.shape
    if case.rank is not None:
        sizes_made = tuple(f"n{index}" for index in range(case.rank))
    made = ", ".join(str(one) for one in sizes_made)
    content = model_bytes(
        f"net ({signature}) => ({case.dtype}[{made}] y) {{ {case.text} }}",
        case.weights,
        opset=case.opset,
        domains=case.domains,
    )
    return infer_shapes(name_all_nodes(parse_graph(content)))


def site_of(graph: Graph, op_type: str) -> Site:
    """The first operator of a type, as a rule sees it."""
    node = next(node for node in graph.nodes if node.op_type == op_type)
    operators = {one.name: one for one in read_workload(graph).operators}
    return Site(graph=graph, node=node, operator=operators[node.name or ""])


def draw_inputs(case: Case, rng: Generator) -> dict[str, Array]:
    """Draw what the model is given, now and then with an outlier or a zero."""
    found: dict[str, Array] = {}
    for name, shape in (("x", case.shape), ("z", case.second)):
        if shape is None:
            continue
        spread = rng.uniform(0.01, 1)
        middle, half = (case.low + case.high) / 2, (case.high - case.low) / 2
        array = middle + half * spread * rng.uniform(-1, 1, shape)
        if case.dtype == "int8":
            found[name] = np.rint(array).astype(np.int8)
            continue
        if rng.integers(4) == 0 and array.size:
            array.flat[int(rng.integers(array.size))] = case.high
        found[name] = array.astype(np.float32)
    return found


def replacements(name: str, case: Case) -> Iterator[Replacement]:
    """What a rule draws for a case."""
    rule = rule_named(name)
    site = site_of(build(case), case.at)
    assert case.at in rule.replaces
    yield from rule.draw(site)


def excess(case: Case, replacement: Replacement, rng: Generator) -> float:
    """How far the worst element is beyond the bound, in units of what is allowed.

    Returns:
        At most 1 where the bound holds; 0 where nothing differs.
    """
    graph = build(case)
    inputs = draw_inputs(case, rng)
    drawn = replacement.draft.reads
    reads = {inner: value.name or "" for inner, value in drawn.items()}
    root = replacement.root.outputs[0].name or ""
    if case.reference is None:
        wider = graph.copy()
        wider.add_outputs(sorted({root, *reads.values()} - set(inputs)))
        known = inputs | run(infer_shapes(wider), inputs)
        old = known[root]
    else:
        known = inputs
        old = np.asarray(case.reference(list(inputs.values())))
    given = {inner: known[outer] for inner, outer in reads.items()}
    result = replacement.results[0]
    if result.producer() is None:
        new = given[result.name or ""]
    else:
        new = run(finish(replacement), given)[result.name or ""]
    assert new.shape == old.shape
    allowed = replacement.bound.allowed(list(given.values()), old)
    off = np.abs(new.astype(np.float64) - old.astype(np.float64))
    allowed = np.broadcast_to(allowed, off.shape)
    if not off.size or not off.any():
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(off > 0, off / allowed, 0.0)
    return float(np.max(share))


NPU = Path(__file__).parent / "unit" / "adapt" / "npu.toml"
"""The file of a target whose NPU takes integers, as an Ethos-U does."""


def target_of(
    *operators: str,
    dtypes: Sequence[str] = ("float32",),
    limits: Sequence[Limit] = (),
    max_rank: int | None = None,
) -> Target:
    """Hardware whose first processor runs these operators, and whose second any.

    The limits and the rank hold for the first one alone; Reshape always runs.
    """
    kinds = frozenset(dtypes)
    first = OperatorRule(
        operators=frozenset(operators[:1]),
        dtypes=kinds,
        limits=tuple(limits),
        max_rank=max_rank,
    )
    free = OperatorRule(operators=frozenset({*operators[1:], "Reshape"}), dtypes=kinds)
    return Target(
        name="board",
        title="A board",
        processors=(
            Processor(name="npu", kind=ProcessorKind.NPU, rules=(first, free)),
            Processor(name="cpu", kind=ProcessorKind.CPU, runs_everything=True),
        ),
    )

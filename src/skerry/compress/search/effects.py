"""What quantizing each operator does to the time on the target, from two profiles.

A runtime renames and fuses nodes, so its kernels are matched by the marks it adds to
names. The time of a pair of QuantizeLinear and DequantizeLinear nodes is shared by the
quantized operators on both sides of it: without them it would not be there. What no
operator can be named for, as changes of layout, belongs to none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from skerry.compress.ptq.plan import Plan
from skerry.core.profile import Profile
from skerry.graph import Graph

_MARKS = re.compile(r"(_token_\d+|/duplicated(_token_\d+)?|_nchwc)$")
_PAIR = re.compile(r"^(?P<value>.*)\.(Quantize|Dequantize)Linear(_\d+)?$", re.DOTALL)


def saved_ms(
    graph: Graph, plan: Plan, before: Profile, after: Profile
) -> dict[str, float]:
    """How much time quantizing each operator of a plan saves.

    Args:
        graph: The float graph that the plan was made for.
        plan: What was quantized.
        before: Of the float graph.
        after: Of the quantized one.

    Returns:
        By name of node, milliseconds; below 0 where integers take longer, their share
        of the pairs around them included.
    """
    owners = _owners(graph, plan)
    makers = {
        str(value.name): node.name or ""
        for node in graph.nodes
        for value in node.outputs
    }
    nodes = frozenset(node.name or "" for node in graph.nodes)
    floats = _times(before, nodes, makers, {})
    integers = _times(after, nodes, makers, owners)
    return {name: floats[name] - integers[name] for name in plan.nodes}


def _owners(graph: Graph, plan: Plan) -> dict[str, list[str]]:
    """By name of value, the quantized operators that read or write it."""
    quantized = frozenset(plan.nodes)
    writers = {value: node for node, value in plan.outputs.items()}
    owners: dict[str, list[str]] = {}
    for value in graph.values():
        name = str(value.name)
        readers = {use.node.name or "" for use in value.uses()} & quantized
        writer = {writers[name]} if name in writers else set()
        owners[name] = sorted(readers | writer)
    return owners


def _times(
    profile: Profile,
    nodes: frozenset[str],
    makers: Mapping[str, str],
    owners: Mapping[str, Iterable[str]],
) -> defaultdict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for kernel in profile.operators:
        name = kernel.name
        while (plain := _MARKS.sub("", name)) != name:
            name = plain
        pair = _PAIR.match(name)
        if name in nodes:
            whose = [name]
        elif pair is not None:
            whose = list(owners.get(pair["value"], ()))
        else:
            whose = [makers[name]] if name in makers else []
        for one in whose:
            found[one] += kernel.latency_ms / len(whose)
    return found

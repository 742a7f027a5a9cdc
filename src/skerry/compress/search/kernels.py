"""Tell which operator each kernel of a profile belongs to.

Runtimes fuse, split and rename: what a kernel is called begins with the name of a node
or of a value, and ends with what the runtime made of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from skerry.compress.ptq.operators import fused_activation
from skerry.core.profile import Profile
from skerry.graph import Graph, Node

_END_OF_A_NAME = re.compile(r"[^A-Za-z0-9]")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Reorder", "Reshape", "Transpose")
_NARROW = frozenset({"int8", "uint8", "int16", "uint16", "int4", "uint4"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a runtime made of one operator.

    Attributes:
        latency_ms: The time of all its kernels, those that round its values included.
        kernel: The kernel that took longest, without those that only convert.
        is_integer: Whether that computed in integers; None where that is not known.
    """

    latency_ms: float
    kernel: str
    is_integer: bool | None


def read_kernels(
    profile: Profile, graph: Graph, operators: Mapping[str, str]
) -> dict[str, Ran]:
    """Sum up a profile by operator.

    Args:
        profile: What a runtime measured.
        graph: The graph that it ran.
        operators: By name of node, the operator that it counts for; what other nodes
            of the graph take (pairs, for the most part) counts for the nearest one's.

    Returns:
        By name of operator; those without a kernel of their own have no entry.
    """
    owners = _owners(graph, operators)
    times: dict[str, float] = {}
    main: dict[str, tuple[bool, float, str, bool | None]] = {}
    for ran in profile.operators:
        owner = _find(ran.name, owners)
        if owner is None:
            continue
        times[owner] = times.get(owner, 0.0) + ran.latency_ms
        computes = not ran.op_type.startswith(_CONVERSIONS)
        is_integer = ran.dtype in _NARROW if ran.dtype else None
        found = (computes, ran.latency_ms, ran.op_type, is_integer)
        main[owner] = max(main.get(owner, found), found, key=lambda one: one[:2])
    return {
        name: Ran(latency_ms=times[name], kernel=kernel, is_integer=is_integer)
        for name, (_, _, kernel, is_integer) in main.items()
    }


def count_for(graph: Graph) -> dict[str, str]:
    """The operator that each node of a float graph counts for, by name.

    An activation that runtimes fuse into a layer counts for the layer: they tell its
    time under the one's name or the other's.
    """
    found = {str(node.name): str(node.name) for node in graph.nodes}
    for node in graph.nodes:
        fused = fused_activation(node)
        if fused is not None:
            found[str(fused.name)] = found[str(node.name)]
    return found


def _find(name: str, owners: Mapping[str, str]) -> str | None:
    """The owner of the longest known name that a kernel's name begins with."""
    if name in owners:
        return owners[name]
    for end in reversed([found.start() for found in _END_OF_A_NAME.finditer(name)]):
        if name[:end] in owners:
            return owners[name[:end]]
    return None


def _owners(graph: Graph, operators: Mapping[str, str]) -> dict[str, str]:
    """The operator that each node and each value of a graph counts for."""
    owners: dict[str, str] = {}
    waiting: list[Node] = []
    for node in graph.nodes:
        owner = operators.get(str(node.name)) or _owner_of_input(node, owners)
        if owner is None:
            waiting.append(node)
        else:
            _own(node, owner, owners)
    # What nothing of the model comes before is read by something of it.
    for node in reversed(waiting):
        readers = (
            owners.get(str(use.node.name))
            for output in node.outputs
            for use in output.uses()
        )
        owner = next((reader for reader in readers if reader is not None), None)
        if owner is not None:
            _own(node, owner, owners)
    return owners


def _owner_of_input(node: Node, owners: Mapping[str, str]) -> str | None:
    first = node.inputs[0] if node.inputs else None
    return None if first is None else owners.get(str(first.name))


def _own(node: Node, owner: str, owners: dict[str, str]) -> None:
    owners.setdefault(str(node.name), owner)
    for output in node.outputs:
        owners.setdefault(str(output.name), owner)

"""Look-up tables: in INT8, a chain of functions of one number has 256 results.

All of them are computed beforehand, as TensorFlow Lite does for 8-bit activations (B.
Jacob et al., CVPR 2018, section 2.1, on the same numbers). The table is laid out for
indices as Gather takes them: −128 … −1 count from its end, so the integer itself is the
index.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skerry.adapt.operators import ELEMENTWISE
from skerry.adapt.rewrite.bounds import Bound
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site
from skerry.adapt.rewrite.transposes import is_elementwise
from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Node,
    Value,
    dtype_code,
    dtype_name,
    infer_shapes,
    sole_use,
)

MOST_LINKS = 8
"""Operators between DequantizeLinear and QuantizeLinear."""

ONE_STEP = Bound(
    text="the same integers, or the next where a runtime's own function rounds the "
    "other way at a tie",
    error=1.0,
)


def _table(site: Site) -> Iterator[Replacement]:
    chain = _chain(site.node)
    if chain is None:
        return
    first, nodes, last = chain
    source = first.inputs[0]
    if source is None or dtype_name(source) not in {"int8", "uint8"}:
        return
    table = _results(site.graph, first, nodes, last)
    if table is None:
        return
    draft = site.draft()
    index = draft.op("Cast", draft.read(source), to=dtype_code("int32"))
    made = draft.op("Gather", draft.constant(table), index)
    yield site.to(draft, made, bound=ONE_STEP, root=last)


def _chain(node: Node) -> tuple[Node, list[Node], Node] | None:
    """Follow a chain both ways, from DequantizeLinear to QuantizeLinear."""
    nodes = [node]
    while (maker := _maker(nodes[0])) is not None and is_elementwise(maker):
        nodes.insert(0, maker)
    reader = _reader(nodes[-1])
    while reader is not None and is_elementwise(reader):
        nodes.append(reader)
        reader = _reader(reader)
    is_whole = (
        maker is not None
        and maker.op_type == "DequantizeLinear"
        and reader is not None
        and reader.op_type == "QuantizeLinear"
        and len(nodes) <= MOST_LINKS
        and all(_reader(one) is not None for one in nodes)
    )
    return (maker, nodes, reader) if is_whole and maker and reader else None


def _maker(node: Node) -> Node | None:
    return None if node.inputs[0] is None else node.inputs[0].producer()


def _reader(node: Node) -> Node | None:
    use = sole_use(node.outputs[0])
    return None if use is None else use[0]


def _results(graph: Graph, first: Node, nodes: list[Node], last: Node) -> Array | None:
    """What each integer becomes, in the order of Gather's indices."""
    scales = [graph.constant(one.inputs[1]) for one in (first, last)]
    zeros = [
        graph.constant(one.inputs[2]) if len(one.inputs) > 2 else np.int8(0)
        for one in (first, last)
    ]
    if any(one is None or np.size(one) != 1 for one in (*scales, *zeros)):
        return None
    source, target = (np.asarray(one).dtype for one in zeros)
    low = np.iinfo(source).min
    codes = np.arange(low, low + 256)
    if source.kind == "i":
        codes = np.roll(codes, 128)  # 0 … 127, then −128 … −1
    (scale, out_scale), (zero, out_zero) = (
        [np.asarray(one).reshape(()) for one in pair] for pair in (scales, zeros)
    )
    inputs = ((codes - zero.astype(np.int64)) * scale).astype(np.float32)
    outputs = _evaluate(graph, nodes, inputs)
    if outputs is None:
        return None
    ends = np.iinfo(target)
    steps = np.rint(outputs / out_scale) + out_zero
    table: Array = np.clip(steps, ends.min, ends.max).astype(target)
    return table


def _evaluate(graph: Graph, nodes: list[Node], inputs: Array) -> Array | None:
    """Fold a chain on constant inputs."""
    draft = Draft(graph, "float32")
    x: Value = draft.constant(inputs)
    for node in nodes:
        more = []
        for value in node.inputs[1:]:
            array = graph.constant(value)
            if value is not None and array is None:
                return None
            more.append(None if array is None else draft.constant(array))
        x = draft.like(node, x, *more)
    draft.graph.add_output(draft.op("Identity", x))
    try:
        folded = infer_shapes(draft.graph)
    except ModelError:
        return None
    return folded.constant(folded.nodes[-1].inputs[0])


LOOKUP = Rule(
    name="look-up table",
    replaces=ELEMENTWISE,
    advice="Replace the 8-bit activation by a table of its 256 results",
    source="arXiv:1712.05877, section 2.1; TensorFlow Lite's 8-bit tables",
    draw=_table,
)

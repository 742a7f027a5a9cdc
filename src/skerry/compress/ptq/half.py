"""The recipe step `half`: floats of two bytes, for storage or for the whole graph.

FP16 has 11 bits of precision and ends at 65,504 (IEEE 754 binary16); BF16 has 8 and
the range of float32 (it is its upper half).

*Storage*: weights lie in the file as two bytes each, behind a Cast that runtimes fold
when they load the model: half the size, the speed and memory of float32, on every
runtime.

*Compute*: every operator that the ONNX standard lets compute in FP16 does. Inputs and
outputs of the graph stay float32. Runtimes without such kernels convert around each
operator (onnxruntime on x86), which is slower than float32: measure before you ship.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from skerry.compress.ptq.calibrate import watch
from skerry.compress.ptq.operators import is_float
from skerry.compress.ptq.prepare import check_float, simplify
from skerry.compress.ptq.quantize import StepContext
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Choices, ParamValue, Space, StepSpec
from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Node,
    Value,
    constants_to_initializers,
    dtype_code,
    insert_after,
    make_initializer,
    make_node,
    make_value,
    place_after,
    places_for,
    remove_dead,
    set_dtype,
    upgrade_opset,
)

HalfType = Literal["float16", "bfloat16"]
"""Which floats of two bytes."""

LARGEST = 65504.0
"""The largest number of FP16; what rounds beyond it is infinite."""

_HEADROOM = 2.0
"""How much larger than on any calibration sample values may become."""

_SMALLEST_STORED = 128
"""Numbers under which the Cast takes more of the file than it saves."""

_CAST_OPSET = 13
"""From here on a Cast knows BF16."""

_PAIRS = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""Their scales are left alone: runtimes fuse what they find in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """Store weights as FP16 or BF16, or compute in FP16.

    Attributes:
        dtype: Which floats.
        compute: Whether operators compute in them too. Only in FP16: no runtime for
            CPUs but OpenVINO has kernels for BF16, and it takes them by itself.

    Raises:
        UsageError: There is no such dtype, or one that is not computed in.
    """

    SPACE: ClassVar[Space] = {"dtype": Choices(values=get_args(HalfType))}

    dtype: HalfType = "float16"
    compute: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in get_args(HalfType):
            raise UsageError(
                f"cannot store weights as {self.dtype!r}",
                hint=did_you_mean(str(self.dtype), get_args(HalfType)),
            )
        if self.compute and self.dtype != "float16":
            raise UsageError(
                f"cannot write a graph that computes in {self.dtype}",
                hint="OpenVINO computes float32 models in bfloat16 by itself where the "
                "CPU can; store weights as bfloat16 without `compute`.",
            )

    def apply(self, graph: Graph, context: StepContext) -> Graph:
        """Return the graph with floats of two bytes; the one given stays as it was.

        Args:
            graph: Any graph; what is not float32 stays as it is.
            context: With `compute`, its samples show which operators overflow.

        Raises:
            DataError: The calibration samples do not fit, or there are none.
            ModelError: The graph cannot be brought to an opset that has the dtype, or
                with `compute` is quantized already.
            RuntimeFailure: The runtime cannot run it.
        """
        if not self.compute:
            return store_half(graph, self.dtype)
        check_float(graph)
        ready = simplify(graph)
        nodes = _convertible(ready)
        names = {str(value.name) for node in nodes for value in _floats(node)}
        largest = _largest(ready, names, context)
        return compute_half(ready, largest)

    def spec(self) -> StepSpec:
        """This step as a recipe holds it."""
        params: dict[str, ParamValue] = {"dtype": self.dtype, "compute": self.compute}
        return StepSpec(name="half", params=params)


def store_half(graph: Graph, dtype: HalfType) -> Graph:
    """Store the float32 weights of a graph in two bytes each.

    A tensor stays float32 where it has fewer than 128 numbers, holds what the dtype
    does not, or is a scale of quantized values.

    Args:
        graph: It is left as it was.
        dtype: What to store weights as.

    Raises:
        ModelError: The graph cannot be brought to an opset that has the dtype.
    """
    ready = upgrade_opset(graph, _CAST_OPSET if dtype == "bfloat16" else graph.opset)
    stored = constants_to_initializers(ready)
    for value in stored.initializers:
        array = stored.constant(value)
        if array is None or array.dtype != np.float32 or array.size < _SMALLEST_STORED:
            continue
        users = {use.node.op_type for use in value.uses()}
        if value.is_graph_output() or not users or users & _PAIRS:
            continue
        made = make_initializer(array, stored.unique_name(f"{value.name}.half"), dtype)
        codes = stored.constant(made)
        if codes is None or not np.isfinite(codes.astype(np.float32)).all():
            continue
        name = stored.unique_name(f"{value.name}.float")
        cast = make_node(
            "Cast",
            [made],
            {"to": dtype_code("float32")},
            outputs=[make_value(name, "float32", array.shape)],
            name=stored.unique_name(f"{value.name}.Cast"),
        )
        for node, index in list(value.uses()):
            node.replace_input_with(index, cast.outputs[0])
        place_after(stored, stored.add_initializer(made), [cast])
    return remove_dead(stored)


def compute_half(graph: Graph, largest: Mapping[str, float]) -> Graph:
    """Let a graph compute in FP16 wherever nothing overflows.

    An operator stays float32 where the standard has no FP16 for it, where it has a
    graph inside (If, Loop, Scan), where it computes shapes, and where something that
    it reads or writes is too large for FP16. Casts stand at the borders.

    Args:
        graph: Its nodes are named, its constants are initializers, its values' types
            are known; it is left as it was.
        largest: The largest magnitude seen, by name of value; a value without an
            entry, or twice of which FP16 cannot hold, stays float32.
    """
    halved = graph.copy()
    chosen = {
        str(node.name)
        for node in _convertible(halved)
        if all(_fits(halved, value, largest) for value in _floats(node))
    }
    writer = _Writer(halved, frozenset(chosen))
    writer.convert()
    return remove_dead(halved)


class _Writer:
    """Holds the graph being converted and what was made for it so far."""

    def __init__(self, graph: Graph, chosen: frozenset[str]) -> None:
        self.graph = graph
        self._chosen = chosen

    def convert(self) -> None:
        """Convert what the chosen nodes read and write."""
        written = {
            value: None
            for node in self.graph.nodes
            if node.name in self._chosen
            for value in _written(self.graph, node)
        }
        given = [value for value in self.graph.values() if value not in written]
        for value in given:
            if is_float(value):
                self._read_as_half(value)
        for value in written:
            self._written_as_half(value)

    def _half_uses(self, value: Value) -> list[tuple[Node, int]]:
        return [
            (use.node, use.idx)
            for use in value.uses()
            if use.node.name in self._chosen
            and use.idx in places_for(use.node, self.graph.opset, "float16")[0]
        ]

    def _read_as_half(self, value: Value) -> None:
        uses = self._half_uses(value)
        if not uses:
            return
        array = self.graph.constant(value)
        if array is None:
            half = self._cast(value, "float16")
            place_after(self.graph, value, [half])
            read = half.outputs[0]
        else:
            name = self.graph.unique_name(f"{value.name}.half")
            read = self.graph.add_initializer(make_initializer(array, name, "float16"))
        for node, index in uses:
            node.replace_input_with(index, read)

    def _written_as_half(self, value: Value) -> None:
        uses = self._half_uses(value)
        if value.is_graph_output() or len(uses) < len(list(value.uses())):
            insert_after(self.graph, value, [self._cast(value, "float32")])
            for node, index in uses:
                node.replace_input_with(index, value)
        set_dtype(value, "float16")

    def _cast(self, value: Value, dtype: str) -> Node:
        name = str(value.name)
        made = self.graph.unique_name(f"{name}.{dtype}")
        node = make_node(
            "Cast",
            [value],
            {"to": dtype_code(dtype)},
            outputs=[made],
            name=self.graph.unique_name(f"{name}.Cast"),
        )
        set_dtype(node.outputs[0], dtype)
        return node


def _convertible(graph: Graph) -> list[Node]:
    """Nodes that compute on data in float32 and could do so in FP16."""
    moving = _moving(graph)
    return [
        node
        for node in graph.nodes
        if node.op_type not in _PAIRS
        and any(value in moving for value in filter(None, node.inputs))
        and (floats := [value for value in node.outputs if is_float(value)])
        and floats == _written(graph, node)
    ]


def _written(graph: Graph, node: Node) -> list[Value]:
    places = places_for(node, graph.opset, "float16")[1]
    return [v for i, v in enumerate(node.outputs) if i in places and is_float(v)]


def _floats(node: Node) -> list[Value]:
    """What a node reads and writes as float32."""
    values = (*filter(None, node.inputs), *node.outputs)
    return [value for value in values if is_float(value)]


def _moving(graph: Graph) -> set[Value]:
    """Values that depend on what the inputs hold, rather than on their shapes alone."""
    moving = set(graph.input_values)
    for node in graph.nodes:
        is_moved = any(value in moving for value in filter(None, node.inputs))
        if is_moved and node.op_type not in ("Shape", "Size"):
            moving.update(node.outputs)
    return moving


def _fits(graph: Graph, value: Value, largest: Mapping[str, float]) -> bool:
    array = graph.constant(value)
    if array is not None:
        # Infinity itself is in FP16 too: a mask of a softmax may hold it.
        finite = array[np.isfinite(array)]
        return not finite.size or float(np.abs(finite).max()) <= LARGEST
    return largest.get(str(value.name), np.inf) * _HEADROOM <= LARGEST


def _largest(
    graph: Graph, names: Iterable[str], context: StepContext
) -> dict[str, float]:
    """The largest magnitude that each value reaches on the calibration samples."""
    watched = sorted(
        name for name in names if graph.constant(graph.value(name)) is None
    )
    largest = dict.fromkeys(watched, 0.0)
    for found in watch(
        graph,
        watched,
        (sample.inputs for sample in context.calibration),
        runtime=context.runtime,
        threads=context.threads,
        progress=context.progress,
    ):
        for name in watched:
            largest[name] = max(largest[name], _magnitude(found[name]))
    return largest


def _magnitude(array: Array) -> float:
    if not array.size:
        return 0.0
    magnitude = float(np.maximum(array.max(), -array.min()))
    return magnitude if np.isfinite(magnitude) else np.inf

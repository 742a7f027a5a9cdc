"""The graph of a model: what it computes, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from skerry.core.errors import ModelError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.graph import _onnx
from skerry.graph._onnx import IrModel, Node, Value

_IR_VERSION = 8
"""Of graphs that begin empty: that of ONNX 1.10, older than any opset drawn in them."""


class Graph:
    """A model's graph, as nodes that read and make values.

    A graph is changed in place by its own methods and by the small edits of
    `skerry.graph.edit`; whatever takes a graph and returns one leaves the one it was
    given as it was. Tensors are never changed, so a copy is cheap: it shares them.

    Invariant: nodes stand in topological order, names of values are unique, and no
    initializer is an input.

    Example:
        >>> from pathlib import Path
        >>> graph = read_graph(Path("model.onnx"))  # doctest: +SKIP
        >>> [node.op_type for node in graph.nodes]  # doctest: +SKIP
        ['Conv', 'Relu', 'GlobalAveragePool', 'Flatten', 'Gemm']
    """

    __slots__ = ("_ir", "_names", "name")

    def __init__(self, ir: IrModel, *, name: str) -> None:
        """Wrap a decoded model; `read_graph` and `parse_graph` check it first.

        Args:
            ir: The model of onnx-ir; the graph owns it from here on.
            name: What messages call the model, such as its file name.
        """
        self._ir = ir
        self._names: set[str] | None = None
        self.name = name

    @classmethod
    def empty(cls, *, name: str, opset: int) -> Graph:
        """Make a graph without nodes, in an opset of the ONNX standard."""
        nodes = _onnx.IrGraph([], [], nodes=[], name=name, opset_imports={"": opset})
        return cls(IrModel(nodes, ir_version=_IR_VERSION), name=name)

    @property
    def ir(self) -> IrModel:
        """The model of onnx-ir that this wraps, for edits beyond these methods."""
        return self._ir

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The signature's inputs, in order."""
        return tuple(self._spec(value) for value in self._ir.graph.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The signature's outputs, in order."""
        return tuple(self._spec(value) for value in self._ir.graph.outputs)

    @property
    def input_values(self) -> tuple[Value, ...]:
        """The values that the caller gives, in order."""
        return tuple(self._ir.graph.inputs)

    @property
    def output_values(self) -> tuple[Value, ...]:
        """The values that the caller gets, in order."""
        return tuple(self._ir.graph.outputs)

    @property
    def initializers(self) -> tuple[Value, ...]:
        """The constant values that no node makes, in order."""
        return tuple(self._ir.graph.initializers.values())

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in topological order; those inside If and Loop are not in it."""
        return tuple(self._ir.graph)

    @property
    def all_nodes(self) -> tuple[Node, ...]:
        """The nodes, and those of the graphs inside If, Loop and Scan."""
        return tuple(_onnx.walk(self._ir.graph))

    @property
    def opset(self) -> int:
        """The version of the ONNX standard's operators."""
        return self._ir.graph.opset_imports[""]

    @property
    def custom_domains(self) -> tuple[str, ...]:
        """The domains of nodes that the ONNX standard does not know, sorted."""
        domains = {node.domain for node in self.all_nodes}
        return tuple(sorted(domains - _onnx.STANDARD_DOMAINS))

    @property
    def metadata(self) -> dict[str, str]:
        """The model's own key-value pairs; changing them changes the model."""
        return self._ir.metadata_props

    def value(self, name: str) -> Value:
        """Find a value of the graph by its name.

        Raises:
            UsageError: There is none of that name.
        """
        values = {value.name or "": value for value in self.values()}
        if name not in values:
            raise UsageError(
                f"{self.name} has no tensor {name!r}", hint=did_you_mean(name, values)
            )
        return values[name]

    def values(self) -> Iterator[Value]:
        """All values: inputs, initializers, then what each node makes."""
        yield from self.input_values
        yield from self.initializers
        for node in self._ir.graph:
            yield from (value for value in node.outputs if value.name)

    def constant(self, value: Value | None) -> Array | None:
        """Return the array that a value always holds, or None when it varies.

        Args:
            value: A value of this graph; None, as for an input left out, gives None.

        Returns:
            The content of an initializer or a Constant node; not to be written to.

        Raises:
            ModelError: The tensor's bytes cannot be read.
        """
        return None if value is None else _onnx.constant_array(value)

    def add_initializer(self, value: Value) -> Value:
        """Add a constant made by `make_initializer`; returns it.

        Raises:
            UsageError: An initializer of that name is there already.
        """
        if value.name in self._ir.graph.initializers:
            raise UsageError(
                f"{self.name} has an initializer {value.name!r} already",
                hint="Choose another name: Graph.unique_name makes one.",
            )
        self._ir.graph.register_initializer(value)
        return value

    def add_input(self, spec: TensorSpec) -> Value:
        """Add an input to the signature; returns its value."""
        value = _onnx.make_value(spec.name, spec.dtype, spec.shape)
        self._ir.graph.inputs.append(value)
        return value

    def add_node(self, node: Node) -> None:
        """Add a node as the last one; what it reads is made before."""
        self._ir.graph.append(node)

    def import_domain(self, domain: str, version: int) -> None:
        """Say which version of a domain's operators the nodes of it are."""
        self._ir.graph.opset_imports[domain] = version

    def unique_name(self, wish: str) -> str:
        """Return the wish, with a number if it is taken; a name is given only once.

        Names of nodes and of values are taken, inside If and Loop too.
        """
        if self._names is None:
            self._names = {value.name or "" for value in self.values()}
            for node in self.all_nodes:
                self._names.add(node.name or "")
                self._names.update(value.name or "" for value in node.outputs)
        name, number = wish, 1
        while name in self._names:
            number += 1
            name = f"{wish}_{number}"
        self._names.add(name)
        return name

    def add_outputs(self, names: Iterable[str]) -> None:
        """Make values inside the graph outputs too; those that are stay so once.

        Their dtype and shape are known once `infer_shapes` has found them.

        Raises:
            UsageError: There is no value of one of the names.
        """
        for name in names:
            value = self.value(name)
            if value not in self.output_values:
                self._ir.graph.outputs.append(value)

    def add_output(self, value: Value) -> None:
        """Let the caller get a value too, as the last output."""
        self._ir.graph.outputs.append(value)

    def extract(self, inputs: Iterable[str], outputs: Iterable[str]) -> Graph:
        """Return the part of the graph that makes some values out of others.

        Args:
            inputs: Names of values, which the part is given.
            outputs: Names of values, which it makes.

        Raises:
            ModelError: The outputs need more than the inputs.
        """
        part = _onnx.extract(self._ir, list(inputs), list(outputs))
        return Graph(part, name=self.name)

    def copy(self) -> Graph:
        """Return a graph of its own that shares the tensors."""
        return Graph(self._ir.clone(), name=self.name)

    def __deepcopy__(self, _memo: dict[int, object]) -> Graph:
        return self.copy()

    def to_bytes(self) -> bytes:
        """Return the ONNX file; the same graph gives the same bytes.

        Raises:
            ModelError: The file would be 2 GiB or larger.
        """
        return _onnx.encode(self._ir)

    def _spec(self, value: Value) -> TensorSpec:
        dtype, shape = _onnx.dtype_name(value), _onnx.dims(value)
        if dtype is None or shape is None:
            missing = "type" if dtype is None else "rank"
            raise ModelError(
                f"{self.name} does not say the {missing} of {value.name!r}",
                hint="Run skerry.graph.infer_shapes on it, or export it again.",
            )
        return TensorSpec(name=value.name or "", dtype=dtype, shape=shape)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self._ir.graph)} nodes)"

"""What a module does to compute a graph: which steps, with which tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from skerry.compress.train.layers import Layer, as_tensor, is_trained, layer_of
from skerry.compress.train.operators import BUILDERS, Operator
from skerry.compress.train.pairs import (
    DEQUANTIZES,
    QUANTIZES,
    check_quantizes,
    dequantized,
    multiplied,
    read_pair,
    unknown,
)
from skerry.compress.train.rounding import BiasRounder, Pair, Quantizing, Rounder
from skerry.graph import (
    Graph,
    Node,
    Value,
    constants_to_initializers,
    fold_constants,
    name_all_nodes,
    upgrade_opset,
)
from skerry.runtimes.torch import Tensor, nn

OPSET = 17
"""Older graphs are brought to it: it is what quantization writes, too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """One thing to compute.

    Attributes:
        name: The name of the node.
        op_type: Its operator.
        inputs: Names of values; None for an input left out.
        outputs: Names of values.
        layer: What `layers` or `quantizers` calls the module that does it.
        operator: What does it where there is no such module.
        done_with: Values that nothing after it reads.
    """

    name: str
    op_type: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    layer: str | None = None
    operator: Operator | None = None
    done_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """A tensor of a module that belongs into an initializer.

    Attributes:
        initializer: Its name.
        tensor: The tensor's name in the module, such as `layers.Conv_0.weight`.
        is_turned: Whether the module has its transpose.
        quantizer: What makes codes of it, where the initializer holds codes.
    """

    initializer: str
    tensor: str
    is_turned: bool = False
    quantizer: str | None = None


class Program:
    """All that a module is made of; filled while a graph is gone through.

    Args:
        graph: What is computed, in the form that it is written back in.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Operation] = []
        """What to compute, in order."""
        self.layers: dict[str, nn.Module] = {}
        """The layers by key."""
        self.quantizers: dict[str, Rounder] = {}
        """What rounds, by key."""
        self.rounds: dict[str, tuple[str, str | None]] = {}
        """The initializers of scale and zero point, by key of quantizer."""
        self.weights: dict[str, str] = {}
        """Keys of other trained tensors, by the name of the value."""
        self.parameters: dict[str, nn.Parameter] = {}
        """Those tensors by key."""
        self.constants: dict[str, Tensor] = {}
        """What is not trained, by the name of the value."""
        self.codes: dict[str, str] = {}
        """What rounds a constant whose initializer holds codes, by that one's name."""
        self.written: list[Written] = []
        """What `layers` and `weights` hold of the graph."""


def plan(graph: Graph, quantizing: Quantizing) -> Program:
    """Say what computes a graph.

    Args:
        graph: Float, or quantized by pairs; it is left as it was.
        quantizing: Makes what rounds.

    Raises:
        ModelError: The graph uses what is not known here.
    """
    ready = constants_to_initializers(upgrade_opset(graph, OPSET))
    planner = _Planner(name_all_nodes(fold_constants(ready)), quantizing)
    planner.add_nodes()
    planner.fetch_constants()
    planner.round_biases()
    planner.free_early()
    return planner.program


class _Planner:
    """Fills the program of a graph."""

    def __init__(self, graph: Graph, quantizing: Quantizing) -> None:
        self.program = Program(graph)
        self._graph = graph
        self._quantizing = quantizing
        self._keys: set[str] = set()
        self._parameters: dict[str, nn.Parameter] = {}
        self._biases: list[tuple[Node, Pair, str]] = []

    def add_nodes(self) -> None:
        """Plan what computes each node.

        Raises:
            ModelError: An operator is not known, or asks for too much.
        """
        for node in self._graph.nodes:
            if node.op_type == QUANTIZES:
                check_quantizes(self._graph, node)
            elif node.op_type == DEQUANTIZES:
                self._add_rounding(node)
            elif (layer := layer_of(self._graph, node)) is not None:
                self._add_layer(node, layer)
            else:
                self._add_operator(node)

    def fetch_constants(self) -> None:
        """Fetch what steps read and no node makes."""
        read = {name for step in self.program.steps for name in step.inputs}
        read |= {str(value.name) for value in self._graph.output_values}
        read -= {*self.program.weights, *self.program.constants}
        for value in self._graph.initializers:
            name, array = str(value.name), self._graph.constant(value)
            if name not in read or array is None:
                continue
            if is_trained(value, array):
                self._hold(name, self._parameter(value, as_tensor(array)))
            else:
                self.program.constants[name] = as_tensor(array)

    def round_biases(self) -> None:
        """Make what rounds biases, once all else that rounds is there."""
        found = self.program.quantizers
        keys = {
            step.outputs[0]: str(step.layer)
            for step in self.program.steps
            if step.op_type == DEQUANTIZES
        }
        for node, pair, key in self._biases:
            factors = [found[keys[one]] for one in multiplied(node) if one in keys]
            is_product = len(factors) == 2
            self._add_quantizer(
                key,
                node,
                BiasRounder(pair, *factors) if is_product else self._quantizing(pair),
            )

    def free_early(self) -> None:
        """Say after which step nothing reads a value any more."""
        read = {str(value.name) for value in self._graph.output_values}
        steps = self.program.steps
        for index in reversed(range(len(steps))):
            step = steps[index]
            own = {name for name in (*step.inputs, *step.outputs) if name is not None}
            steps[index] = replace(step, done_with=tuple(sorted(own - read)))
            read |= own

    def _add_operator(self, node: Node) -> None:
        is_standard = node.domain in ("", "ai.onnx")
        build = BUILDERS.get(node.op_type) if is_standard else None
        operator = None if build is None else build(node)
        if operator is None:
            raise unknown(self._graph, node)
        outputs = tuple(str(value.name) for value in node.outputs)
        self._add_step(node, _names(node.inputs), outputs, operator=operator)

    def _add_layer(self, node: Node, layer: Layer) -> None:
        key = self._key(str(node.name))
        self.program.layers[key] = layer.module
        for held in layer.held:
            value = node.inputs[held.index]
            array = self._graph.constant(value)
            if value is None or array is None:
                continue
            tensor = as_tensor(array)
            if held.tensor.startswith("running"):
                setattr(layer.module, held.tensor, tensor)
            elif held.is_turned:
                turned = nn.Parameter(tensor.T.contiguous())
                setattr(layer.module, held.tensor, turned)
            else:
                setattr(layer.module, held.tensor, self._parameter(value, tensor))
            self.program.written.append(
                Written(
                    initializer=str(value.name),
                    tensor=f"layers.{key}.{held.tensor}",
                    is_turned=held.is_turned,
                )
            )
        read, made = _names(node.inputs[:1]), (str(node.outputs[0].name),)
        if layer.before is not None:
            padded = (f"{made[0]} padded",)
            self._add_step(node, read, padded, operator=layer.before)
            read = padded
        if layer.after is None:
            self._add_step(node, read, made, layer=key)
        else:
            whole = (f"{made[0]} whole",)
            self._add_step(node, read, whole, layer=key)
            self._add_step(node, whole, made, operator=layer.after)

    def _add_rounding(self, node: Node) -> None:
        pair, source = read_pair(self._graph, node), node.inputs[0]
        made = (str(node.outputs[0].name),)
        codes = self._graph.constant(source)
        if source is None or codes is None:
            key = self._key_of(node)
            if key not in self.program.quantizers:
                self._add_quantizer(key, node, self._quantizing(pair))
            self._add_step(node, (pair.source,), made, layer=key)
            return
        key = self._key(str(node.name))
        self._add_step(node, (pair.source,), made, layer=key)
        if pair.kind == "bias":
            self._biases.append((node, pair, key))
        else:
            self._add_quantizer(key, node, self._quantizing(pair))
        if pair.kind == "constant":
            self.program.constants[pair.source] = dequantized(pair, codes)
            self.program.codes[pair.source] = key
        elif pair.source not in self.program.weights:
            parameter = self._parameter(source, dequantized(pair, codes))
            self._hold(pair.source, parameter, quantizer=key)

    def _add_step(
        self,
        node: Node,
        inputs: tuple[str | None, ...],
        outputs: tuple[str, ...],
        *,
        layer: str | None = None,
        operator: Operator | None = None,
    ) -> None:
        step = Operation(
            name=str(node.name),
            op_type=node.op_type,
            inputs=inputs,
            outputs=outputs,
            layer=layer,
            operator=operator,
        )
        self.program.steps.append(step)

    def _add_quantizer(self, key: str, node: Node, made: Rounder) -> None:
        self.program.quantizers[key] = made
        self.program.rounds[key] = _scale_names(node)

    def _key_of(self, node: Node) -> str:
        """The key of what rounds: pairs of the same scale and zero point share it."""
        names = _scale_names(node)
        for key, known in self.program.rounds.items():
            if known == names:
                return key
        return self._key(names[0])

    def _hold(
        self, name: str, parameter: nn.Parameter, *, quantizer: str | None = None
    ) -> None:
        """Keep a weight that no layer has."""
        key = self._key(name)
        self.program.weights[name] = key
        self.program.parameters[key] = parameter
        self.program.written.append(
            Written(initializer=name, tensor=f"weights.{key}", quantizer=quantizer)
        )

    def _parameter(self, value: Value, tensor: Tensor) -> nn.Parameter:
        """The parameter of an initializer: all that read it share it."""
        return self._parameters.setdefault(str(value.name), nn.Parameter(tensor))

    def _key(self, name: str) -> str:
        """A name that a module may have, and no other has yet."""
        wish = re.sub(r"\W", "_", name) or "_"
        # The dictionaries of torch keep modules beside their own methods.
        while wish in self._keys or hasattr(nn.ModuleDict, wish):
            wish += "_"
        self._keys.add(wish)
        return wish


def _names(values: Iterable[Value | None]) -> tuple[str | None, ...]:
    return tuple(None if value is None else str(value.name) for value in values)


def _scale_names(node: Node) -> tuple[str, str | None]:
    """The names of the initializers of scale and zero point."""
    scale, zero_point = (*_names(node.inputs[1:]), None)[:2]
    return str(scale), zero_point

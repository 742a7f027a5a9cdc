"""A graph as a torch module, which trains, and back into the same graph.

```python
module = from_graph(read_graph(Path("model.onnx")))
fit(module, training, epochs=1)
write_graph(module.to_graph(), Path("trained.onnx"))
```
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from skerry.compress.train.operators import Operator
from skerry.compress.train.program import Operation, Program, plan
from skerry.compress.train.rounding import Quantizing, Rounder
from skerry.core.errors import RuntimeFailure
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.graph import Graph, forget_shapes, infer_shapes, set_attribute, set_constant
from skerry.runtimes._reasons import plain_reason
from skerry.runtimes.torch import Tensor, nn


def from_graph(graph: Graph, quantizing: Quantizing = Rounder) -> GraphModule:
    """Make a module that computes what a graph does.

    Args:
        graph: Float, or quantized as `Quantize` writes it; it is left as it was.
        quantizing: Makes what rounds in place of each pair of QuantizeLinear and
            DequantizeLinear, and of each DequantizeLinear of a constant.

    Raises:
        ModelError: The graph uses an operator that is not known here; it is named.
    """
    return GraphModule(plan(graph, quantizing))


class GraphModule(nn.Module):
    """Computes what a graph does, step by step.

    `layers` holds a layer of torch for each node with constant weights, under the
    node's name (what is no letter, digit or underscore becomes an underscore);
    `weights` what else is trained, `quantizers` what rounds.

    Args:
        program: What to compute, and with what.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(program.layers)
        self.quantizers = nn.ModuleDict(program.quantizers)
        self.weights = nn.ParameterDict(program.parameters)
        self._graph = program.graph
        self._steps = tuple(program.steps)
        self._weights = dict(program.weights)
        self._written = tuple(program.written)
        self._rounds = dict(program.rounds)
        self._codes = dict(program.codes)
        # Whole numbers stay where Python reads them; floats go where the module goes.
        self._numbers = {
            name: tensor
            for name, tensor in program.constants.items()
            if not tensor.is_floating_point()
        }
        self._buffer_names: dict[str, str] = {}
        for index, (name, tensor) in enumerate(program.constants.items()):
            if tensor.is_floating_point():
                self._buffer_names[name] = f"constant_{index}"
                self.register_buffer(f"constant_{index}", tensor, persistent=False)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The signature's inputs, in the order of the arguments."""
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The signature's outputs, in order."""
        return self._graph.outputs

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the outputs; several come as a tuple.

        Raises:
            RuntimeFailure: A step failed; its node is named.
        """
        specs = self._graph.inputs
        if len(inputs) != len(specs):
            raise RuntimeFailure(
                f"{self._graph.name} takes {len(specs)} inputs, got {len(inputs)}",
                hint=f"It takes {', '.join(map(str, specs))}.",
            )
        values = self._constants()
        values |= {spec.name: x for spec, x in zip(specs, inputs, strict=True)}
        for step in self._steps:
            given = [None if name is None else values[name] for name in step.inputs]
            result = self._compute(step, given)
            made = (result,) if isinstance(result, Tensor) else result
            values.update(zip(step.outputs, made, strict=True))
            for name in step.done_with:
                values.pop(name, None)
        results = tuple(values[str(one.name)] for one in self._graph.output_values)
        return results[0] if len(results) == 1 else results

    def to_graph(self) -> Graph:
        """The graph with the weights, scales and zero points that the module has now.

        It has the operators, names and signature of the graph that the module was made
        of; constants that were computed are computed.
        """
        graph = self._graph.copy()
        held = {str(value.name): value for value in graph.initializers}
        shapes = [value.shape for value in graph.initializers]
        for name, array in self._arrays():
            set_constant(held[name], array)
        self._write_groups(graph)
        if shapes != [value.shape for value in graph.initializers]:
            forget_shapes(graph)
            return infer_shapes(graph)
        return graph

    def parameter(self, initializer: str) -> nn.Parameter:
        """The trained floats of an initializer of the graph, as the layers have them.

        Args:
            initializer: Of a weight, or of its codes; a layer may have it transposed.

        Raises:
            KeyError: Nothing of that name is trained.
        """
        tensors = {one.initializer: one.tensor for one in self._written}
        return self.get_parameter(tensors[initializer])

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        """What the initializers are to hold, by their names."""
        tensors: dict[str, Tensor] = {
            **dict(self.named_parameters(remove_duplicate=False)),
            **dict(self.named_buffers(remove_duplicate=False)),
        }
        for one in self._written:
            tensor = tensors[one.tensor].detach()
            tensor = tensor.T if one.is_turned else tensor
            if one.quantizer is None:
                yield one.initializer, tensor.cpu().numpy()
            else:
                yield one.initializer, self._rounder(one.quantizer).codes(tensor)
        for name, key in self._codes.items():
            yield name, self._rounder(key).codes(tensors[self._buffer_names[name]])
        for key, (scale, zero_point) in self._rounds.items():
            rounder = self._rounder(key)
            yield scale, rounder.step().detach().cpu().numpy()
            if zero_point is not None:
                yield zero_point, rounder.zero_point.detach().cpu().numpy()

    def _rounder(self, key: str) -> Rounder:
        return cast("Rounder", self.quantizers[key])

    def _write_groups(self, graph: Graph) -> None:
        """Write how many groups convolutions have: pruning takes whole ones away."""
        nodes = {str(node.name): node for node in graph.nodes}
        for step in self._steps:
            key = step.layer or ""
            groups = (
                getattr(self.layers[key], "groups", None)
                if key in self.layers
                else None
            )
            if isinstance(groups, int):
                set_attribute(nodes[step.name], "group", groups)

    def _constants(self) -> dict[str, Tensor]:
        values = dict(self._numbers)
        for name, buffer in self._buffer_names.items():
            values[name] = self.get_buffer(buffer)
        for name, key in self._weights.items():
            values[name] = self.weights[key]
        return values

    def _compute(
        self, step: Operation, given: list[Tensor | None]
    ) -> Tensor | tuple[Tensor, ...]:
        try:
            made: Tensor | tuple[Tensor, ...] = self._doer(step)(*given)
        except Exception as error:
            reason = plain_reason(str(error)) or type(error).__name__
            raise RuntimeFailure(
                f"{self._graph.name}: the {step.op_type} node {step.name!r} failed: "
                f"{reason}",
                hint="Check that the inputs have the shapes that the model expects.",
            ) from error
        return made

    def _doer(self, step: Operation) -> Operator:
        if step.operator is not None:
            return step.operator
        key = step.layer or ""
        return self.layers[key] if key in self.layers else self.quantizers[key]

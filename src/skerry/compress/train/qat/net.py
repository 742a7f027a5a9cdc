"""A network that trains with the numbers of its exported model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.qdq import Schemes
from skerry.compress.ptq.quantize import ACCURATE, Quantize, StepContext
from skerry.compress.train.export import export_graph
from skerry.compress.train.from_graph import from_graph
from skerry.compress.train.qat.fake import FakeQuantizer, Ranges, Sums
from skerry.compress.train.qat.placement import sums_before_pairs, weights_before
from skerry.compress.train.qat.schedule import Order, advance
from skerry.compress.train.rounding import Pair, Rounder
from skerry.core.errors import ModelError
from skerry.core.model import Model
from skerry.graph import Graph, write_graph
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import Tensor, nn, torch
from skerry.tasks.evaluate import Progress
from skerry.tasks.sample import SampleSource

START = replace(ACCURATE, rounding="nearest")
"""What training begins with by default: it chooses itself how weights are rounded."""


class QuantizedNet(nn.Module):
    """A network in which what the exported model rounds is rounded in training too.

    In evaluation it computes what the exported model computes. It is made by
    `quantized_net`.

    Args:
        graph: With pairs, as the quantizer wrote it.
        floats: What it was written from.
        schemes: By which.
        ranges: How scales follow training.

    Attributes:
        quantizers: All that have a scale to train, by its name in the graph, from the
            input to the output.

    Raises:
        ModelError: An operator cannot go into torch.
    """

    def __init__(
        self, graph: Graph, floats: Graph, schemes: Schemes, *, ranges: Ranges
    ) -> None:
        super().__init__()
        before = weights_before(graph, floats)
        places = {node.name: place for place, node in enumerate(graph.nodes)}
        last = len(places)
        made: dict[str, FakeQuantizer] = {}
        read_at: dict[str, tuple[int, bool]] = {}

        def quantizing(pair: Pair) -> Rounder:
            is_weight = pair.source in before
            if pair.kind != "activation" and not is_weight:
                return Rounder(pair)
            scheme = schemes.weights if is_weight else schemes.activations
            made[pair.name] = FakeQuantizer(pair, scheme, ranges)
            read_at[pair.name] = (
                min((places.get(name, last) for name in pair.consumers), default=last),
                is_weight,
            )
            return made[pair.name]

        self.body = from_graph(graph, quantizing)
        self.quantizers = {
            name: made[name] for name in sorted(made, key=read_at.__getitem__)
        }
        # What has other widths runtimes compute in floats.
        integer = {} if schemes.needs_wide_opset else sums_before_pairs(graph)
        for name, sums in integer.items():
            made[name].layer = Sums(made[sums.read], made[sums.weights], sums.axis)
        with torch.no_grad():
            for name, weights in before.items():
                self.body.parameter(name).copy_(torch.from_numpy(weights))

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the network; several outputs come as a tuple."""
        outputs: Tensor | tuple[Tensor, ...] = self.body(*inputs)
        return outputs

    def advance(
        self, epoch: int, epochs: int, *, order: Order = "together", frozen: float = 0.3
    ) -> None:
        """Set the quantizers for one epoch of training; see `schedule.advance`."""
        advance(
            tuple(self.quantizers.values()), epoch, epochs, order=order, frozen=frozen
        )

    def to_graph(self) -> Graph:
        """Return the trained graph: the quantizer's pairs, with what was learnt.

        Raises:
            ModelError: A weight or a scale is NaN or infinite.
        """
        self.check_finite()
        return self.body.to_graph()

    def check_finite(self) -> None:
        """Refuse what training has spoilt.

        Raises:
            ModelError: A weight or a scale is NaN or infinite.
        """
        for name, tensor in self.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ModelError(
                    f"the trained tensor {name} holds NaN or infinity",
                    hint="Training diverged: begin at a lower learning rate.",
                )

    def export(self, path: str | Path) -> Model:
        """Write the trained network as an ONNX file.

        Raises:
            ModelError: A weight or a scale is NaN or infinite.
            StorageError: The disk refused.
        """
        return write_graph(self.to_graph(), Path(path))


def quantized_net(
    module: nn.Module,
    example: tuple[Tensor, ...],
    samples: SampleSource,
    *,
    step: Quantize,
    ranges: Ranges = "learned",
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    progress: Progress | None = None,
) -> QuantizedNet:
    """Make the network that trains with rounded numbers out of a float one.

    Batch norms are folded, as the quantizer folds them: what trains is what is
    exported.

    Args:
        module: The float network; it is left as it was.
        example: One batch of its inputs; axis 0 is the batch.
        samples: Real inputs, for the ranges that training begins with.
        step: What is rounded, and how.
        ranges: How scales follow training.
        inputs: What its inputs are called, in order.
        outputs: What its outputs are called, in order.
        progress: Told of each sample.

    Returns:
        The network, in eval mode, where the example lies.

    Raises:
        DataError: The samples do not fit, or there are none.
        ModelError: The network cannot be exported or quantized, is quantized already,
            or has an operator that cannot go back into torch.
    """
    if any(isinstance(one, QuantizedNet) for one in module.modules()):
        raise ModelError(
            "the network is quantized already",
            hint="Give the float network that it was made from.",
        )
    # Exporting puts what it is given into eval mode.
    graph = export_graph(copy.deepcopy(module), example, inputs=inputs, outputs=outputs)
    context = StepContext(
        calibration=samples, runtime=get_runtime("onnxruntime"), progress=progress
    )
    floats = step.equalized(prepare(graph), context)
    found = step.measure(floats, context)
    written = step.write(floats, found.ranges, found.shifts, found.codes)
    net = QuantizedNet(written, floats, step.schemes, ranges=ranges)
    return net.to(example[0].device).eval()

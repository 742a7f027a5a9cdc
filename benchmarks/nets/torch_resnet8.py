"""ResNet-8 of MLPerf Tiny as a torch module, with the weights of its converted file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skerry.core.errors import ModelError
from skerry.graph import read_graph
from skerry.runtimes.torch import Tensor, functional, nn, torch

WIDTHS = (16, 32, 64)
CLASSES = 10
BRIGHTEST = 255.0
"""What pictures are divided by, and the stem's weights multiplied: a learning rate that
suits other layers would be too much for weights as small as theirs."""


class Block(nn.Module):
    """Two convolutions and a path around them; batch norms are folded.

    A stride of 2 pads as TensorFlow does: below and on the right.
    """

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.stride = 1 if inner == outer else 2
        self.first = nn.Conv2d(inner, outer, 3, self.stride)
        self.second = nn.Conv2d(outer, outer, 3, padding=1)
        self.around = (
            nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1, self.stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, outer, rows ÷ stride, columns ÷ stride]`."""
        low = 2 - self.stride
        padded = functional.pad(x, (low, 1, low, 1))
        made = self.second(functional.relu(self.first(padded)))
        return functional.relu(made + self.around(x))


class ResNet8(nn.Module):
    """A stem, three blocks, and a dense layer on the mean of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, padding=1)
        inner = (WIDTHS[0], *WIDTHS[:-1])
        self.blocks = nn.Sequential(*map(Block, inner, WIDTHS))
        self.classifier = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits [n, 10] of pictures [n, 32, 32, 3] in 0–255."""
        planes = picture.permute(0, 3, 1, 2) / BRIGHTEST
        x = functional.relu(self.stem(planes))
        logits: Tensor = self.classifier(self.blocks(x).mean((2, 3)))
        return logits


def read_resnet8(path: Path) -> ResNet8:
    """Make the module with the weights of the converted file.

    Raises:
        ModelError: The file has other layers.
    """
    graph = read_graph(path)
    net = ResNet8()
    first, second, third = (module for module in net.blocks)
    order = [net.stem, first.first, first.second]
    for block in (second, third):
        order += [block.around, block.first, block.second]
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    if len(convolutions) != len(order):
        raise ModelError(
            f"{path.name} has {len(convolutions)} convolutions, expected {len(order)}",
            hint="Give MLPerf Tiny's ResNet-8 as `tensorflow_tiny.py` converts it.",
        )
    dense = next(node for node in graph.nodes if node.op_type == "MatMul")
    shift = next(use.node for use in dense.outputs[0].uses())
    found = [
        *zip(order, ([*node.inputs[1:]] for node in convolutions), strict=True),
        (net.classifier, [dense.inputs[1], shift.inputs[1]]),
    ]
    with torch.no_grad():
        for layer, values in found:
            weight, bias = (np.array(graph.constant(value)) for value in values)
            is_dense = layer is net.classifier
            layer.weight.copy_(torch.from_numpy(weight.T if is_dense else weight))
            layer.bias.copy_(torch.from_numpy(bias))
        net.stem.weight.mul_(BRIGHTEST)
    return net.eval()

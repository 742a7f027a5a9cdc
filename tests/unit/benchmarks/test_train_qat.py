from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._train_qat import Off, codes_off, lost_points
from skerry.compress.train.fit import fit
from skerry.compress.train.qat.net import START, QuantizedNet, quantized_net
from skerry.runtimes.torch import torch
from tests import training


@pytest.fixture(scope="module")
def net() -> QuantizedNet:
    """The toy net, trained with eight bits."""
    toy = training.toy_training()
    found = quantized_net(
        toy.module,
        toy.example,
        toy.calibration,
        step=START,
        inputs=toy.inputs,
        outputs=toy.outputs,
    )
    fit(found, toy, epochs=1, keep_best=False)
    return found


def compare(net: QuantizedNet, path: Path) -> Off:
    """Compare the codes of some pictures."""
    return codes_off(net, training.pictures(130, seed=5)[0], path)


def test_integer_kernels_make_the_simulations_codes(
    net: QuantizedNet, tmp_path: Path
) -> None:
    """All codes of all layers, of each picture; the file is whole."""
    off = compare(net, tmp_path / "net.onnx")
    assert off.inputs == 130
    assert off.codes > 130 * 8 * 8 * 8
    assert off.by == {1: 0, 2: 0}
    assert off.answers == 0


def test_a_simulation_that_is_wrong_shows(
    net: QuantizedNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with other weights than the simulation's has codes that are off."""
    graph = net.to_graph()
    monkeypatch.setattr(net, "to_graph", graph.copy)
    weights = next(one for one in net.parameters() if one.ndim == 4)
    before = weights.detach().clone()
    with torch.no_grad():
        weights.mul_(0.9)
    off = compare(net, tmp_path / "net.onnx")
    with torch.no_grad():
        weights.copy_(before)
    assert off.by[1] > 0


def test_points_are_lost_by_picture() -> None:
    """100 where only the float net is right, -100 where only the rounded one is."""
    right = {"float32": [1, 1, 0, 0], "rounded": [1, 0, 1, 0]}
    assert lost_points(right, "rounded").tolist() == [0, 100, -100, 0]

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.train.fit import fit
from skerry.compress.train.from_graph import from_graph
from skerry.compress.train.qat.fake import Ranges
from skerry.compress.train.qat.net import START, QuantizedNet, quantized_net
from skerry.core.errors import ModelError
from skerry.core.seams import LoadOptions
from skerry.graph import Graph, parse_graph
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import nn, output_tensors, torch
from skerry.tasks.sample import MemorySource, Sample
from tests import models, running, training

Source = Callable[..., MemorySource]

TOY = training.toy_training()


def toy_net(ranges: Ranges = "learned", **parameters: object) -> QuantizedNet:
    """The toy net as it is before it is trained, rounded."""
    return quantized_net(
        TOY.module,
        TOY.example,
        TOY.calibration,
        step=Quantize(**parameters),
        ranges=ranges,
        inputs=TOY.inputs,
        outputs=TOY.outputs,
    )


@pytest.mark.parametrize(
    ("parameters", "ranges"),
    [
        ({}, "learned"),
        ({"operators": "all"}, "learned"),
        ({"per_channel": False}, "observed"),
        ({"activation_symmetric": True}, "observed"),
        ({"operators": "fused"}, "learned"),
        ({"rounding": "adaptive", "correct_bias": True}, "observed"),
    ],
)
def test_the_exported_model_computes_what_was_trained(
    parameters: dict[str, object], ranges: Ranges, tmp_path: Path
) -> None:
    """After training, the runtime's integer kernels give the network's own answers."""
    net = toy_net(ranges, **parameters)
    fit(net, TOY, epochs=1, learning_rate=1e-3, keep_best=False)
    session = get_runtime("onnxruntime").load(
        net.export(tmp_path / "net.onnx"), LoadOptions()
    )
    pictures, _ = training.pictures(100, seed=9)
    with torch.inference_mode():
        expected = net(torch.from_numpy(pictures)).numpy()
    found = session.run({"picture": pictures})["logits"]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_what_trains_is_the_quantizers_graph() -> None:
    """Nodes and names stay; training changes what the initializers hold."""
    net = toy_net(weight_bits=4, weight_method="mse")
    graph = net.to_graph()
    fit(net, TOY, epochs=1, learning_rate=1e-2, keep_best=False)
    trained = net.to_graph()
    assert trained.to_bytes() != graph.to_bytes()
    assert [node.name for node in trained.nodes] == [node.name for node in graph.nodes]
    assert [one.name for one in trained.initializers] == [
        one.name for one in graph.initializers
    ]


def test_quantizers_are_ordered_from_input_to_output() -> None:
    """Each layer's weights stand beside what the layer reads."""
    kinds = [one.is_weights for one in toy_net().quantizers.values()]
    assert kinds[:6] == [False, True] * 3


def test_training_moves_scales_and_codes() -> None:
    """Weights change their codes, and scales of both kinds learn."""
    net = toy_net(weight_bits=4)
    before = {name: one.clone() for name, one in net.state_dict().items()}
    fit(net, TOY, epochs=1, learning_rate=1e-2, keep_best=False)
    moved = {
        name
        for name, one in net.state_dict().items()
        if not torch.equal(one, before[name])
    }
    assert len([name for name in moved if name.endswith("growth")]) == len(
        net.quantizers
    )
    assert any("weights" in name for name in moved)


def test_a_constant_on_the_left_is_no_layers_weights() -> None:
    """It is rounded as activations are, and is exported as it is simulated."""
    content = models.model_bytes(
        """net (float[1, 1, 4, 4] picture) => (float[1, 1, 3, 4] logits) {
          a = Conv(picture, w) logits = MatMul(left, a)
        }""",
        models.random_weights({"w": (1, 1, 1, 1), "left": (3, 4)}),
    )
    graph = parse_graph(content)
    pictures = np.random.default_rng(0).normal(size=(8, 1, 1, 4, 4))
    source = MemorySource(
        samples=tuple(
            Sample(inputs={"picture": one.astype(np.float32)}, label=None, name="s")
            for one in pictures
        )
    )
    net = quantized_net(
        from_graph(graph),
        (torch.zeros(1, 1, 4, 4),),
        source,
        step=Quantize(operators="all"),
        inputs=TOY.inputs,
        outputs=TOY.outputs,
    )
    one = source.samples[0].inputs
    found = running.run(net.to_graph(), one)["logits"]
    with torch.inference_mode():
        expected = output_tensors(net(torch.from_numpy(one["picture"])))[0].numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_a_copy_is_of_its_own() -> None:
    """Steps that follow change a copy; the network that it was made from stays."""
    net = toy_net()
    expected = net(*TOY.example)
    changed = copy.deepcopy(net)
    assert torch.equal(changed(*TOY.example), expected)
    with torch.no_grad():
        for quantizer in changed.quantizers.values():
            quantizer.growth.add_(0.5)
    assert not torch.equal(changed(*TOY.example), expected)
    assert torch.equal(net(*TOY.example), expected)
    assert changed.to_graph().to_bytes() != net.to_graph().to_bytes()


def test_a_rounded_net_is_no_start() -> None:
    """Whatever is quantized already is refused, as module and as graph."""
    net = toy_net()
    with pytest.raises(ModelError, match="quantized already"):
        quantized_net(
            net,
            TOY.example,
            TOY.calibration,
            step=START,
            inputs=TOY.inputs,
            outputs=TOY.outputs,
        )
    with pytest.raises(ModelError, match="quantized already"):
        quantized_net(
            from_graph(net.to_graph()),
            TOY.example,
            TOY.calibration,
            step=START,
            inputs=TOY.inputs,
            outputs=TOY.outputs,
        )


class Odd(nn.Module):
    """Writes a graph with an operator that torch is not told how to compute."""

    def to_graph(self) -> Graph:
        """A convolution, and the determinants of what it makes."""
        return parse_graph(
            models.model_bytes(
                """net (float[1, 2, 4, 4] picture) => (float[1, 2] logits) {
                  a = Conv(picture, w) logits = Det(a)
                }""",
                models.random_weights({"w": (2, 2, 1, 1)}),
            )
        )


def test_an_operator_that_torch_has_not_is_named() -> None:
    """Before anything is trained."""
    picture = np.random.default_rng(0).normal(size=(2, 1, 2, 4, 4))
    samples = tuple(
        Sample(inputs={"picture": one.astype(np.float32)}, label=None, name="s")
        for one in picture
    )
    with pytest.raises(ModelError, match="Det"):
        quantized_net(
            Odd(),
            (torch.zeros(1, 2, 4, 4),),
            MemorySource(samples=samples),
            step=START,
            inputs=TOY.inputs,
            outputs=TOY.outputs,
        )


def test_what_diverged_is_not_exported(tmp_path: Path) -> None:
    """A weight that is no number is named, and no file is written."""
    net = toy_net()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        net.export(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
@pytest.mark.parametrize("operators", ["weights", "all"])
def test_moved_weights_and_scales_are_exported(
    build: models.Builder, operators: str, make_source: Source, tmp_path: Path
) -> None:
    """Depthwise and grouped layers, products, carried values: the same answers."""
    graph = parse_graph(build())
    source = make_source(graph)
    net = quantized_net(
        from_graph(graph),
        tuple(torch.from_numpy(one) for one in source.samples[0].inputs.values()),
        source,
        step=Quantize(operators=operators),
        inputs=tuple(one.name for one in graph.inputs),
        outputs=tuple(one.name for one in graph.outputs),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for one in net.parameters():
            one.add_(0.05 * torch.randn_like(one) * one.abs().mean().clamp_min(0.5))
    session = get_runtime("onnxruntime").load(
        net.export(tmp_path / "net.onnx"), LoadOptions()
    )
    for sample in source:
        found = next(iter(session.run(sample.inputs).values()))
        with torch.inference_mode():
            tensors = map(torch.from_numpy, sample.inputs.values())
            expected = output_tensors(net(*tensors))[0].numpy()
        # Runtimes have tables of eight bits for some of what `all` rounds.
        tolerance = 1e-3 if operators == "weights" else 2e-2
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()

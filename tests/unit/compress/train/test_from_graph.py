"""A graph as a module: real layers, trained, and back into the same graph."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.train.fit import fit
from skerry.compress.train.from_graph import GraphModule, from_graph
from skerry.compress.train.rounding import BiasRounder, Pair, Rounder
from skerry.core.errors import RuntimeFailure
from skerry.graph import Graph, parse_graph
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import TorchSession, nn, torch
from skerry.tasks.sample import MemorySource, Sample
from tests import models, running
from tests.training import samples, toy_training
from tests.unit.compress.train.nets import exported_toy


def assert_same(module: GraphModule, graph: Graph, closeness: float = 1e-5) -> None:
    """The module gives what onnxruntime makes of a graph, by name."""
    session = TorchSession(module, module.inputs, module.outputs)
    for seed in range(2):
        inputs = running.random_inputs(graph, seed)
        expected, found = running.run(graph, inputs), session.run(inputs)
        assert expected.keys() == found.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=closeness)


@pytest.mark.parametrize(
    "content",
    [
        models.conv_net(),
        models.conv_net(batch="n", size=16),
        models.dynamic_net(),
        models.mlp(),
        models.reshape_net(),
    ],
)
def test_a_module_computes_what_its_graph_does(content: bytes) -> None:
    """Before and after the way back, on random inputs."""
    graph = parse_graph(content)
    module = from_graph(graph)
    assert_same(module, graph)
    assert running.same_outputs(graph, module.to_graph())


def test_layers_are_torchs_own_under_the_names_of_their_nodes() -> None:
    """What prunes or hooks layers finds convolutions, norms and products."""
    module = from_graph(exported_toy())
    kinds = {name: type(layer) for name, layer in module.layers.items()}
    assert kinds["_stem_Conv"] is nn.Conv2d
    assert kinds["_stem_norm_BatchNormalization"] is nn.BatchNorm2d
    assert kinds["_classifier_Gemm"] is nn.Linear
    assert len(kinds) == 9
    parameters = sum(one.numel() for one in module.parameters())
    assert parameters == sum(one.numel() for one in toy_training().module.parameters())


def test_a_product_is_turned_as_torch_has_it_and_back() -> None:
    """MatMul and an untransposed Gemm become linear layers of transposed weights."""
    weights = models.random_weights({"a": (3, 5), "b": (5, 2), "c": (2,)})
    graph = parse_graph(
        models.model_bytes(
            "net (float[n, 3] x) => (float[n, 2] y) "
            "{ h = MatMul(x, a) y = Gemm(h, b, c) }",
            weights,
        )
    )
    module = from_graph(graph)
    assert [tuple(one.weight.shape) for one in module.layers.values()] == [
        (5, 3),
        (2, 5),
    ]
    assert_same(module, graph)
    with torch.no_grad():
        module.parameter("c").add_(1)
        module.layers["h"].weight.mul_(2)
    written = module.to_graph()
    assert np.allclose(
        written.constant(written.value("a")), 2 * np.asarray(weights["a"])
    )
    assert_same(module, written)


def test_weights_that_two_nodes_share_stay_shared() -> None:
    """One parameter, one initializer; a transposed reader takes the tensor itself."""
    graph = parse_graph(
        models.model_bytes(
            "net (float[n, 3] x) => (float[n, 3] y) "
            "{ h = Gemm<transB = 1>(x, a) i = Gemm<transB = 1>(h, a) "
            "y = MatMul(i, a) }",
            models.random_weights({"a": (3, 3)}),
        )
    )
    module = from_graph(graph)
    assert len(list(module.parameters())) == 1
    with torch.no_grad():
        module.parameter("a").mul_(0.5)
    assert_same(module, module.to_graph())


def test_numbers_of_formulas_are_not_trained() -> None:
    """Only weights are: not the 3 and 6 of a written-out HardSwish."""
    module = from_graph(parse_graph(models.conv_net()))
    assert not dict(module.weights)
    assert all("layers" in name for name, _ in module.named_parameters())


def test_slopes_norms_and_added_vectors_are_trained() -> None:
    """What is no layer of torch's is a parameter all the same."""
    graph = parse_graph(
        models.model_bytes(
            "net (float[n, 4] x) => (float[n, 4] y) { h = MatMul(x, w) "
            "i = Add(h, bias) j = PRelu(i, slope) "
            "k = LayerNormalization(j, scale, shift) y = Mul(k, half) }",
            models.random_weights(
                {
                    "w": (4, 4),
                    "bias": (4,),
                    "slope": (4,),
                    "scale": (4,),
                    "shift": (4,),
                    "half": (4,),
                }
            ),
        )
    )
    module = from_graph(graph)
    assert set(module.weights) == {"bias", "slope", "scale", "shift"}
    assert_same(module, graph)


def test_a_batch_that_was_written_down_may_be_any_other() -> None:
    """A graph of one sample trains on many: a written size of the batch gives way."""
    graph = parse_graph(
        models.model_bytes(
            "net (float[1, 2, 3] x) => (float[1, 6] y) { y = Reshape(x, shape) }",
            {"shape": np.array([1, -1])},
        )
    )
    module = from_graph(graph)
    assert module(torch.zeros(5, 2, 3)).shape == (5, 6)


def test_a_module_trains_and_its_graph_scores_as_it_does() -> None:
    """Fine-tuning an ONNX file without the code it was made by."""
    module = from_graph(exported_toy())
    training = toy_training(module)
    trained = copy.deepcopy(module)
    log = fit(trained, training, epochs=2)
    assert log.epochs[-1].score is not None
    assert log.epochs[-1].score > 0.9
    assert_same(trained, trained.to_graph())
    # What it was copied from is as it was, and shares nothing with it.
    assert_same(module, exported_toy())


def test_a_layer_that_lost_channels_is_written_as_it_is() -> None:
    """Groups, shapes and what depends on them follow the layers."""
    module = from_graph(exported_toy())
    layers = module.layers
    with torch.no_grad():
        for name in ("_stem_Conv", "_depth_Conv"):
            layers[name].weight = nn.Parameter(layers[name].weight[:6])
        for name in ("_stem_norm", "_depth_norm"):
            norm = layers[f"{name}_BatchNormalization"]
            for own in ("weight", "bias"):
                setattr(norm, own, nn.Parameter(getattr(norm, own)[:6]))
            norm.running_mean = norm.running_mean[:6]
            norm.running_var = norm.running_var[:6]
        layers["_depth_Conv"].groups = 6
        layers["_point_Conv"].weight = nn.Parameter(layers["_point_Conv"].weight[:, :6])
    assert_same(module, module.to_graph())


def quantized() -> Graph:
    """The toy net, quantized wherever that works."""
    context = StepContext(
        calibration=samples(8, seed=0), runtime=get_runtime("onnxruntime")
    )
    return Quantize(operators="all").apply(exported_toy(), context)


def test_a_quantized_graph_is_simulated_and_comes_back_as_it_was() -> None:
    """Each place that rounds has a quantizer; nothing trained, nothing changed."""
    graph = quantized()
    module = from_graph(graph)
    places = [node for node in graph.nodes if node.op_type == "DequantizeLinear"]
    assert 0 < len(module.quantizers) <= len(places)
    assert len(module.weights) == 10
    assert_same(module, graph)
    again = from_graph(module.to_graph()).to_graph()
    assert again.to_bytes() == module.to_graph().to_bytes()
    assert running.same_outputs(graph, module.to_graph())


@pytest.mark.parametrize(
    "params",
    [
        {"weight_bits": 4},
        {"weight_bits": 4, "activation_bits": 16},
        {"activation_bits": 16, "activation_symmetric": True},
        {"activation_symmetric": True, "operators": "all"},
        {"per_channel": False, "operators": "all"},
        {"equalize": "activations", "rounding": "adaptive", "correct_bias": True},
    ],
)
@pytest.mark.parametrize("content", [models.conv_net(), models.mlp()])
def test_codes_of_any_scheme_come_back_as_they_were(
    content: bytes, params: dict[str, object]
) -> None:
    """Each initializer of the quantized graph holds the same numbers after all."""
    graph = parse_graph(content)
    source = MemorySource(
        samples=tuple(
            Sample(inputs=running.random_inputs(graph, seed), label=None, name="s")
            for seed in range(4)
        )
    )
    context = StepContext(calibration=source, runtime=get_runtime("onnxruntime"))
    before = Quantize(**params).apply(graph, context)
    after = from_graph(before).to_graph()
    codes = {
        value.name
        for node in before.nodes
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for value in node.inputs
        if before.constant(value) is not None
    }
    assert codes
    for name in codes:
        held, kept = (one.constant(one.value(name)) for one in (before, after))
        assert held.dtype == kept.dtype
        # A bias of more than 24 bits has more of them than a float.
        fineness = 1e-7 if held.dtype == np.int32 else 0
        assert np.allclose(held.astype(float), kept.astype(float), fineness, 0)
    assert_same(from_graph(before), before, closeness=0.05)


def test_whoever_asks_for_quantizers_of_their_own_gets_the_places() -> None:
    """Kinds, readers, ranges of codes: all that a trained quantizer is made from."""
    seen: dict[str, list[Pair]] = {}

    def note(pair: Pair) -> Rounder:
        seen.setdefault(pair.kind, []).append(pair)
        return Rounder(pair)

    module = from_graph(quantized(), note)
    assert set(seen) == {"activation", "weight"}
    assert {pair.dtype for pair in seen["weight"]} == {"int8"}
    assert {pair.limits for pair in seen["activation"]} == {(0, 255)}
    stem = next(pair for pair in seen["weight"] if pair.consumers == ("/stem/Conv",))
    assert (stem.axis, stem.scale.shape) == (0, (8,))
    assert sum(isinstance(one, BiasRounder) for one in module.quantizers.values()) == 5


@pytest.mark.parametrize("content", [models.conv_net(), models.mlp()])
def test_trained_scales_and_weights_are_written_as_codes(content: bytes) -> None:
    """A scale changed in training changes the codes of all that is rounded by it."""
    graph = parse_graph(content)
    source = MemorySource(
        samples=(
            Sample(inputs=running.random_inputs(graph), label=None, name="s"),
            Sample(inputs=running.random_inputs(graph, 1), label=None, name="s"),
        )
    )
    context = StepContext(calibration=source, runtime=get_runtime("onnxruntime"))
    module = from_graph(Quantize(operators="all").apply(graph, context))
    with torch.no_grad():
        for rounder in module.quantizers.values():
            if not isinstance(rounder, BiasRounder):
                rounder.scale.mul_(1.25)
        for parameter in module.parameters():
            parameter.mul_(1.1)
    written = module.to_graph()
    assert_same(module, written, closeness=0.02)
    assert_same(from_graph(written), written, closeness=0.02)


def test_wrong_inputs_are_told_with_the_node_that_fails() -> None:
    """A count that is wrong, or a shape that a node cannot take."""
    module = from_graph(exported_toy())
    with pytest.raises(RuntimeFailure, match="takes 1 inputs, got 2"):
        module(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    with pytest.raises(RuntimeFailure, match="Conv node '/stem/Conv' failed"):
        module(torch.zeros(1, 3, 8, 8))


def test_names_that_torch_reserves_are_no_obstacle() -> None:
    """Nodes may be called as the methods of torch's dictionaries are."""
    graph = parse_graph(models.mlp())
    for node, name in zip(graph.nodes, ("keys", "train", "a.b", "items"), strict=False):
        node.name = name
    assert_same(from_graph(graph), graph)

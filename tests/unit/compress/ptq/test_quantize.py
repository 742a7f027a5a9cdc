from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import ACCURATE, Quantize, StepContext
from skerry.core.errors import DataError, ModelError, SkerryError, UsageError
from skerry.core.seams import LoadOptions, Runtime
from skerry.graph import Graph, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import output_distance
from skerry.tasks.samples import MemorySource
from tests import models, running

Quantized = Callable[..., Graph]
MakeSource = Callable[..., MemorySource]

NETS = (models.conv_net, models.dynamic_net, models.mlp, models.reshape_net)


def transposed_conv(group: int) -> bytes:
    """Build a transposed convolution: x [1, 4, 5, 5] to y [1, 4, 11, 11]."""
    return models.model_bytes(
        f"""net (float[1, 4, 5, 5] x) => (float[1, 4, 11, 11] y) {{
          y = ConvTranspose<group = {group}, strides = [2, 2]>(x, w, b)
        }}""",
        models.random_weights({"w": (4, 4 // group, 3, 3), "b": (4,)}),
    )


def residual_net() -> bytes:
    """Build a block whose input is added to its output, then pooled."""
    return models.model_bytes(
        """net (float[1, 4, 8, 8] x) => (float[1, 4, 1, 1] y) {
          a = Conv<pads = [1, 1, 1, 1]>(x, first)
          ra = Relu(a)
          b = Conv<pads = [1, 1, 1, 1]>(ra, second)
          s = Add(b, ra)
          rs = Relu(s)
          p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(rs)
          c = Conv(p, third)
          y = GlobalAveragePool(c)
        }""",
        models.random_weights(
            {
                "first": (4, 4, 3, 3),
                "second": (4, 4, 3, 3),
                "third": (4, 4, 1, 1),
            }
        ),
    )


def constants_net() -> bytes:
    """Build a net whose weights come from Constant nodes, in opset 11."""
    w = models.random_weights({"w": (4, 3)})["w"]
    numbers = ", ".join(f"{number:.6f}" for number in w.reshape(-1))
    return models.model_bytes(
        f"""net (float[1, 4] x) => (float[1, 3] y) {{
          w = Constant<value = float[4, 3] {{{numbers}}}>()
          y = MatMul(x, w)
        }}""",
        opset=11,
    )


def branching_net() -> bytes:
    """Build a convolution that only nodes inside an If read."""
    return models.model_bytes(
        """net (bool flag, float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) {
          c = Conv(x, w)
          y = If(flag) <
            then_branch = yes () => (float[1, 2, 4, 4] a) { a = Relu(c) },
            else_branch = no () => (float[1, 2, 4, 4] b) { b = Identity(x) }
          >
        }""",
        models.random_weights({"w": (2, 2, 1, 1)}),
    )


ALL_NETS = (
    *NETS,
    residual_net,
    constants_net,
    branching_net,
    lambda: transposed_conv(1),
    lambda: transposed_conv(2),
)


@pytest.mark.parametrize("operators", ["weights", "all"])
@pytest.mark.parametrize("build", ALL_NETS)
def test_runtimes_agree_with_the_float_net(
    build: models.Builder, operators: str, quantized: Quantized, tmp_path: Path
) -> None:
    """Legal ONNX of the same signature; both runtimes run it, near the float net."""
    before = parse_graph(build())
    after = quantized(build(), operators=operators)
    onnx.checker.check_model(onnx.load_from_string(after.to_bytes()), full_check=True)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert after.opset >= 17
    model = write_graph(after, tmp_path / "quantized.onnx")
    answers = []
    for name in ("onnxruntime", "openvino"):
        options = LoadOptions(threads=1, precision="float32")
        session = get_runtime(name).load(model, options)
        answers.append(
            [session.run(running.random_inputs(before, seed)) for seed in range(3)]
        )
        session.close()
    for seed, (ours, theirs) in enumerate(zip(*answers, strict=True)):
        expected = running.run(before, running.random_inputs(before, seed))
        assert output_distance(expected, ours) < 0.02
        # OpenVINO 2026.4 computes garbage where a product of matrices of rank 2 has
        # no bias and an INT8 output; the search finds that out by measuring.
        if (build, operators) != (models.mlp, "all"):
            assert output_distance(expected, theirs) < 0.02
            assert output_distance(ours, theirs) < 0.01


def test_weights_are_stored_as_int8(quantized: Quantized, tmp_path: Path) -> None:
    """A file that is nearly all weights shrinks to about a quarter: no float copy."""
    content = models.model_bytes(
        """net (float[1, 64] x) => (float[1, 64] y) {
          h = Gemm(x, first, bias)
          y = MatMul(h, second)
        }""",
        models.random_weights(
            {"first": (64, 512), "bias": (512,), "second": (512, 64)}
        ),
    )
    after = quantized(content)
    assert write_graph(after, tmp_path / "q.onnx").size_bytes < 0.3 * len(content)


def test_the_source_is_left_as_it_was(
    make_source: MakeSource, runtime: Runtime
) -> None:
    """The graph that was given has the same bytes as before."""
    graph = parse_graph(models.conv_net())
    content = graph.to_bytes()
    context = StepContext(calibration=make_source(graph), runtime=runtime)
    Quantize(operators="all").apply(graph, context)
    assert graph.to_bytes() == content


def test_the_same_step_gives_the_same_bytes(quantized: Quantized) -> None:
    """Nothing of the result depends on chance."""
    one, other = (quantized(models.conv_net(), operators="all") for _ in range(2))
    assert one.to_bytes() == other.to_bytes()


def test_a_recipe_holds_the_whole_step() -> None:
    """What a recipe holds makes an equal step."""
    step = Quantize(
        operators="all", method="mse", per_channel=False, keep_float=("a", "b")
    )
    for one in (step, ACCURATE, Quantize(equalize="weights")):
        assert one.spec().name == "quantize"
        assert Quantize(**one.spec().params) == one


def test_an_old_recipe_means_what_it_meant(quantized: Quantized) -> None:
    """A recipe that names no equalization and no correction does without them."""
    old = {
        "operators": "weights",
        "method": "mse",
        "per_channel": True,
        "keep_float": [],
    }
    plain = {"equalize": "none", "weight_method": "minmax", "correct_bias": False}
    content = models.conv_net()
    assert quantized(content, **old).to_bytes() == (
        quantized(content, **old, **plain).to_bytes()
    )


@pytest.mark.parametrize("build", NETS)
def test_the_accurate_step_loses_little(
    build: models.Builder, quantized: Quantized
) -> None:
    """Equalized, corrected and quantized, per channel and per tensor."""
    for per_channel in (True, False):
        params = {**ACCURATE.spec().params, "per_channel": per_channel}
        after = quantized(build(), **params)
        graph = parse_graph(build())
        given = running.random_inputs(graph, 50)
        distance = output_distance(running.run(graph, given), running.run(after, given))
        assert distance < 0.05


def test_what_a_search_may_set_makes_steps() -> None:
    """Each value of each range is one that the step takes, its own among them."""
    space = Quantize.SPACE
    others = {"keep_float", "runtime", "weight_block"}
    assert set(space) == set(ACCURATE.spec().params) - others
    for name, choices in space.items():
        assert choices.values[0] == Quantize().spec().params[name]
        assert ACCURATE.spec().params[name] in choices.values
        for value in choices.values:
            assert replace(ACCURATE, **{name: value}).spec().params[name] == value


def test_progress_is_told(make_source: MakeSource, runtime: Runtime) -> None:
    """Each calibration sample is reported."""
    graph, told = parse_graph(models.mlp()), []
    context = StepContext(
        calibration=make_source(graph),
        runtime=runtime,
        progress=lambda *step: told.append(step),
    )
    Quantize().apply(graph, context)
    assert told == [("calibrate", done, 0) for done in range(1, 9)]


def test_operators_inside_if_stay_as_they_are(quantized: Quantized) -> None:
    """The graphs of a branch hold the operators that they held."""
    after = quantized(branching_net(), operators="all")
    inside = set(after.all_nodes) - set(after.nodes)
    assert sorted(node.op_type for node in inside) == ["Identity", "Relu"]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda: models.model_bytes(
                "net (float[4] x) => (float[4] y) { y = Relu(x) }"
            ),
            "nothing to quantize",
        ),
        (
            lambda: models.model_bytes(
                "net (float16[2, 2] x) => (float16[2, 2] y) { y = MatMul(x, w) }",
                {"w": np.ones((2, 2), np.float16)},
            ),
            "nothing to quantize",
        ),
    ],
)
def test_nothing_to_quantize_is_an_error(
    build: models.Builder, said: str, quantized: Quantized
) -> None:
    """A model without float32 weights is refused, with what to do."""
    with pytest.raises(ModelError, match=said) as caught:
        quantized(build())
    assert caught.value.hint


def test_a_quantized_model_is_refused(quantized: Quantized) -> None:
    """Quantizing twice is an error that names the operator."""
    once = quantized(models.mlp())
    with pytest.raises(ModelError, match=r"quantized already: .*Linear") as caught:
        quantized(once.to_bytes())
    assert "float model" in caught.value.hint


@pytest.mark.parametrize("name", ["second.weight", "first.bias"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_broken_weights_are_named(
    name: str, number: float, quantized: Quantized
) -> None:
    """NaN and infinity among weights and biases: an error with the tensor's name."""
    proto = onnx.load_from_string(models.mlp())
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            array = onnx.numpy_helper.to_array(tensor).copy()
            array.reshape(-1)[0] = number
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    with pytest.raises(SkerryError, match=name):
        quantized(proto.SerializeToString())


def test_samples_that_do_not_fit_are_an_error(
    make_source: MakeSource, runtime: Runtime
) -> None:
    """Calibration inputs of another model are refused."""
    graph, other = parse_graph(models.mlp()), parse_graph(models.conv_net())
    context = StepContext(calibration=make_source(other), runtime=runtime)
    with pytest.raises(DataError):
        Quantize().apply(graph, context)


def test_unknown_choices_are_named(quantized: Quantized) -> None:
    """A wrong choice of operators or method, or a node that is not there, is told."""
    with pytest.raises(UsageError, match="weigths") as caught:
        quantized(models.mlp(), operators="weigths")
    assert "weights" in caught.value.hint
    with pytest.raises(UsageError, match="min-max"):
        quantized(models.mlp(), method="min-max")
    with pytest.raises(UsageError, match="wieghts") as caught:
        quantized(models.mlp(), equalize="wieghts")
    assert "weights" in caught.value.hint
    with pytest.raises(UsageError, match="min-max"):
        quantized(models.mlp(), weight_method="min-max")
    with pytest.raises(UsageError, match="hiden") as caught:
        quantized(models.mlp(), keep_float=("hiden",))
    assert "hidden" in caught.value.hint


def test_preparing_keeps_what_is_computed() -> None:
    """Folding and upgrading change nothing but the last bits."""
    for build in (*NETS, residual_net, constants_net):
        graph = parse_graph(build())
        ready = prepare(graph)
        assert running.same_outputs(graph, ready)
        assert all(node.name for node in ready.nodes)
        assert "BatchNormalization" not in {node.op_type for node in ready.nodes}


def test_per_tensor_has_one_scale_a_weight(quantized: Quantized) -> None:
    """Without scales per channel each scale is one number."""
    after = quantized(models.conv_net(), per_channel=False)
    scales = [
        after.constant(node.inputs[1])
        for node in after.nodes
        if node.op_type == "DequantizeLinear"
    ]
    assert scales
    assert all(scale is not None and scale.ndim == 0 for scale in scales)


@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
@pytest.mark.parametrize("operators", ["weights", "all", "fused"])
def test_a_step_gives_the_bytes_that_a_search_does(
    build: models.Builder, operators: str, make_source: MakeSource, runtime: Runtime
) -> None:
    """Though it looks at what it needs alone, and the search at all it may need."""
    step = Quantize(operators=operators)
    graph = parse_graph(build())
    context = StepContext(calibration=make_source(graph), runtime=runtime)
    equalized = step.equalized(prepare(graph), context)
    measured = step.measure(equalized, context)
    searched = step.write(equalized, measured.ranges)
    assert step.apply(graph, context).to_bytes() == searched.to_bytes()

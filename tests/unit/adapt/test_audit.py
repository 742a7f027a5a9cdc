"""What an audit says of a model on a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.audit import Audit, Bound, Verdict, audit
from skerry.adapt.target_files import load_target
from skerry.core.target import Figure, Processor, ProcessorKind, Target
from skerry.graph import Graph, parse_graph
from tests import models
from tests.models import model_bytes

ETHOS = load_target(Path(__file__).with_name("npu.toml"))
X86 = load_target("x86-64")


def resized(target: Target, **figures: float) -> Target:
    """The target with other figures of its first processor."""
    changes = {key: Figure(value=one, source="test") for key, one in figures.items()}
    first = replace(target.processors[0], **changes)  # type: ignore[arg-type]
    return replace(target, processors=(first, *target.processors[1:]))


def advice(found: Audit) -> str:
    """All advice, as one text."""
    return "\n".join(remedy.advice for remedy in found.remedies)


def test_a_float_model_falls_back_from_the_npu(float_net: Graph) -> None:
    """Everything lands on the CPU, in one sub-graph, each with its reason."""
    found = audit(float_net, ETHOS)
    assert {one.processor for one in found.operators} == {"cortex-m55"}
    assert [len(one.operators) for one in found.subgraphs] == [4]
    assert found.subgraphs[0].cause.startswith("float32 activations")
    assert [(one.processor, one.macs_share) for one in found.shares] == [
        ("cortex-m55", 1.0)
    ]
    assert [(one.op_types, one.operators) for one in found.fallbacks] == [
        (("Conv", "Relu", "MaxPool"), 3),
        (("Div",), 1),
    ]
    assert found.would_run


def test_quantizing_and_rewriting_are_advised_with_their_gain(float_net: Graph) -> None:
    """INT8 moves what the table has; a division by a constant then follows."""
    first, second = audit(float_net, ETHOS).remedies
    assert first.advice.startswith("Quantize to INT8: 3 of 4 operators with 100 %")
    assert "still on other processors: Div" in first.advice
    assert (first.operators, first.macs_share) == (3, 1.0)
    assert second.advice.startswith("Once quantized: Replace Div by a constant")
    assert (second.operators, second.changes) == (1, 2)


def test_a_quantized_model_is_audited_as_integers(quantized_net: Graph) -> None:
    """Convolution and activation run on the NPU; the float Sigmoid does not."""
    found = audit(quantized_net, ETHOS)
    assert [one.processor for one in found.operators] == [
        "ethos-u55",
        "ethos-u55",
        "ethos-u55",
        "cortex-m55",
    ]
    assert [one.processor for one in found.subgraphs] == ["ethos-u55", "cortex-m55"]
    assert found.subgraphs[0].cause == ""
    assert found.subgraphs[1].cause.startswith("float32 activations")
    assert found.shares[0].macs_share == 1.0
    assert found.operators[0].dtype == "int8"


def test_a_cpu_runs_all_and_says_what_int8_would_bring(float_net: Graph) -> None:
    """The x86 target has no fallback; its remedy is 8-bit arithmetic."""
    found = audit(float_net, X86)
    assert found.would_run
    assert found.fallbacks == ()
    assert [one.processor for one in found.subgraphs] == ["cpu"]
    assert "100 % of the multiply-adds could use 8-bit instructions" in advice(found)
    assert "at most 4.0 times as fast" in advice(found)


def test_a_quantized_model_needs_no_quantizing(quantized_net: Graph) -> None:
    """Where all MACs are INT8 already, no 8-bit instructions are promised."""
    assert "8-bit instructions" not in advice(audit(quantized_net, X86))


def test_unknown_figures_stay_unknown(float_net: Graph) -> None:
    """Without a figure nothing is said to fit, or to be bound by anything."""
    found = audit(float_net, X86)
    assert [one.fits for one in found.fits] == [None, None]
    assert {one.bound for one in found.operators} == {Bound.UNKNOWN}


def test_what_does_not_fit_is_a_problem_by_how_much(float_net: Graph) -> None:
    """Too many activations: the model would not run, and INT8 would help."""
    found = audit(float_net, resized(ETHOS, memory_bytes=1024))
    assert not found.would_run
    assert found.problems == (
        "Activations need 2 KiB; ethos-u55 has 1 KiB: 1 KiB too much.",
    )
    activations = next(one for one in found.fits if one.what == "activations")
    assert activations.fits is False
    assert (activations.needed_bytes, activations.as_int8_bytes) == (2048, 512)
    assert found.remedies[0].solves
    assert "activations would fit" in found.remedies[0].advice


def test_what_does_not_fit_even_at_int8_must_shrink(float_net: Graph) -> None:
    """The remedy says how far, and where the peak is."""
    found = audit(float_net, resized(ETHOS, memory_bytes=256, storage_bytes=100))
    assert len(found.problems) == 2
    assert "smaller input" in advice(found)
    assert "need 512 B while Relu" in advice(found)
    assert "2.0 times what ethos-u55 has" in advice(found)
    assert "Prune the model" in advice(found)


def test_processors_with_memories_of_their_own_are_checked_apart(
    quantized_net: Graph,
) -> None:
    """A CPU that does not share the NPU's SRAM is measured by its own."""
    cpu = Processor(
        name="cpu",
        kind=ProcessorKind.CPU,
        runs_everything=True,
        memory_bytes=Figure(value=10, source="test"),
    )
    apart = replace(ETHOS, processors=(ETHOS.processors[0], cpu))
    found = audit(quantized_net, apart)
    assert [(one.processor, one.what, one.fits) for one in found.fits] == [
        ("ethos-u55", "activations", True),
        ("ethos-u55", "weights", True),
        ("cpu", "activations", False),
    ]


def test_an_unknown_domain_is_a_problem_anywhere() -> None:
    """An operator that no processor knows keeps the model from running."""
    content = model_bytes(
        "net (float[1, 4] x) => (float[1, 4] y) { a = Relu(x) y = com.example.Odd(a) }",
        domains=', "com.example": 1',
    )
    found = audit(parse_graph(content, name="odd"), X86)
    assert found.problems == (
        "No processor runs Odd (×1): of com.example, not of ONNX itself.",
    )
    assert found.subgraphs[-1].processor == ""


def test_open_sizes_are_a_problem_to_the_npu_and_advice_to_the_user() -> None:
    """Sizes known only at run time: fix them first."""
    found = audit(parse_graph(models.dynamic_net(), name="dynamic"), ETHOS)
    assert found.peak_activation_bytes is None
    assert any("only when the model runs" in one.reason for one in found.fallbacks)
    assert found.remedies[0].advice.startswith("Fix the sizes of the model's inputs")


def test_a_roofline_tells_what_bounds_an_operator(quantized_net: Graph) -> None:
    """Fast memory leaves the arithmetic as the limit; slow memory is the limit."""
    quick = resized(ETHOS, bandwidth_gb_s=1e6, storage_bandwidth_gb_s=1e6)
    fast = audit(quantized_net, quick)
    assert fast.operators[0].bound is Bound.COMPUTE
    for slow in ("bandwidth_gb_s", "storage_bandwidth_gb_s"):
        slowed = audit(quantized_net, resized(quick, **{slow: 1e-6}))
        assert slowed.operators[0].bound is Bound.MEMORY
    # The float Sigmoid on the CPU: no figure is known there.
    assert fast.operators[-1].bound is Bound.UNKNOWN


def test_floats_are_held_against_the_rate_of_floats(float_net: Graph) -> None:
    """A CPU that is four times as fast in INT8 has a quarter of that for floats."""
    # 6912 MACs move 768 + 1024 + 448 bytes: at 1 GB/s that is 2240 ns, and computing
    # takes as long at 6.2 G operations a second, which are 24.7 in INT8.
    for peak_gops, bound in ((24, Bound.COMPUTE), (25, Bound.MEMORY)):
        target = resized(X86, peak_gops=peak_gops, bandwidth_gb_s=1)
        assert audit(float_net, target).operators[0].bound is bound


def test_a_processor_without_work_needs_no_memory(float_net: Graph) -> None:
    """What an idle NPU could hold is not asked."""
    cpu = Processor(name="cpu", kind=ProcessorKind.CPU, runs_everything=True)
    apart = replace(ETHOS, processors=(ETHOS.processors[0], cpu))
    assert audit(float_net, apart).fits == ()


def test_branches_are_ordered_to_change_processor_seldom() -> None:
    """Two parallel branches, each NPU then CPU, need one change and not three."""
    content = model_bytes(
        """net (float[1, 4] x) => (float[1, 4] y) {
          xq = QuantizeLinear(x, scale, zero)
          xd = DequantizeLinear(xq, scale, zero)
          a1 = Relu(xd)
          a1q = QuantizeLinear(a1, scale, zero)
          a1d = DequantizeLinear(a1q, scale, zero)
          a2 = Sqrt(a1d)
          b1 = Sigmoid(xd)
          b1q = QuantizeLinear(b1, scale, zero)
          b1d = DequantizeLinear(b1q, scale, zero)
          b2 = Sqrt(b1d)
          y = Add(a2, b2)
        }""",
        {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)},
    )
    found = audit(parse_graph(content, name="branches"), ETHOS)
    assert [(one.processor, len(one.operators)) for one in found.subgraphs] == [
        ("ethos-u55", 2),
        ("cortex-m55", 3),
    ]


@pytest.mark.parametrize("target", [X86, ETHOS], ids=lambda one: one.name)
@pytest.mark.parametrize("make", models.ALL, ids=lambda one: one.__name__)
def test_each_operator_is_placed_once(
    make: Callable[[], bytes], target: Target
) -> None:
    """Whatever the model: sub-graphs and shares hold each operator exactly once."""
    found = audit(parse_graph(make(), name="model"), target)
    in_order = [name for one in found.subgraphs for name in one.operators]
    assert sorted(in_order) == sorted(one.name for one in found.operators)
    assert sum(one.operators for one in found.shares) == len(found.operators)
    has_macs = any(one.macs for one in found.operators)
    assert sum(one.macs_share for one in found.shares) == pytest.approx(float(has_macs))
    assert sum(one.operators for one in found.fallbacks) == sum(
        bool(one.reason) for one in found.operators
    )


def test_what_nobody_knows_is_a_verdict_of_its_own(float_net: Graph) -> None:
    """Neither runs nor fails: how many operators are not known is said."""
    first = replace(ETHOS.processors[0], rules=(), rules_complete=False)
    unknown = replace(ETHOS, processors=(first, *ETHOS.processors[1:]))
    found = audit(float_net, unknown)
    assert found.verdict is Verdict.UNKNOWN
    assert found.unknown_operators == len(found.operators) == 4
    assert found.said == "not known: 4 operators"
    assert not found.would_run
    assert audit(float_net, ETHOS).said == "runs"
    tight = replace(resized(ETHOS, memory_bytes=1024))
    assert audit(float_net, tight).said == "does not run"

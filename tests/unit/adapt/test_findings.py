"""What costs more than it should is found, and nothing else."""

from __future__ import annotations

import numpy as np

from skerry.adapt.audit import Bound, audit
from skerry.adapt.findings import large_tensors, layout_changes
from skerry.adapt.operators import read_workload
from skerry.adapt.plan import make_plan
from skerry.adapt.speed import find_speed, peak_of
from skerry.adapt.target_files import load_target
from skerry.core.target import (
    Figure,
    OperatorCost,
    OperatorRule,
    Processor,
    ProcessorKind,
    Target,
)
from skerry.graph import Graph, infer_shapes, parse_graph
from tests.models import model_bytes

X86 = load_target("x86-64")


def graph(text: str, **weights: object) -> Graph:
    """A small graph with shapes."""
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    return infer_shapes(parse_graph(model_bytes(text, arrays), name="net"))


def cpu(**figures: float) -> Target:
    """A CPU that runs everything, with some figures."""
    known = {name: Figure(value=value, source="x") for name, value in figures.items()}
    processor = Processor(
        name="cpu", kind=ProcessorKind.CPU, runs_everything=True, **known
    )
    return Target(name="t", title="t", processors=(processor,))


TURNED = """t (float[1, 4, 4, 2] x) => (float[1, 4, 4, 2] y) {
  a = Transpose<perm = [0, 3, 1, 2]>(x)
  r = Relu(a)
  y = Transpose<perm = [0, 2, 3, 1]>(r)
}"""


def test_transposes_that_undo_one_another_are_paired() -> None:
    """With an operator between them that does not mind the layout."""
    found = layout_changes(make_plan(read_workload(graph(TURNED)), X86))
    assert [one.permutation for one in found] == [(0, 3, 1, 2), (0, 2, 3, 1)]
    assert found[0].undone_by == found[1].operator
    assert found[1].undone_by == ""
    assert found[0].moved_bytes == 2 * 4 * 4 * 2 * 4
    (remedy,) = audit(graph(TURNED), X86).remedies
    assert remedy.advice.startswith("Take out 2 Transposes that undo one another")
    assert remedy.moved_bytes == 512


def test_transposes_around_what_minds_the_layout_stay() -> None:
    """A pool between them, two readers, or the model's: nothing is undone."""
    pooled = TURNED.replace("Relu(a)", "MaxPool<kernel_shape = [1, 1]>(a)")
    read_twice = TURNED.replace("r = Relu(a)", "r = Relu(a) s = Exp(a)")
    same = TURNED.replace("[0, 2, 3, 1]", "[0, 3, 1, 2]").replace(
        "(float[1, 4, 4, 2] y)", "(float[1, 4, 2, 4] y)"
    )
    given = TURNED.replace("4, 2] y) {", "4, 2] y, float[1, 2, 4, 4] r) {")
    for text in (pooled, read_twice, same, given):
        plan = make_plan(read_workload(graph(text)), X86)
        assert layout_changes(plan)[0].undone_by == ""


def test_a_tensor_larger_than_the_memory_is_named() -> None:
    """Once, with the operator that first has it in hand."""
    plan = make_plan(read_workload(graph(TURNED)), cpu(memory_bytes=100))
    found = large_tensors(plan)
    assert [(one.name, one.size_bytes, one.limit_bytes) for one in found] == [
        ("x", 128, 100),
        ("a", 128, 100),
        ("r", 128, 100),
        ("y", 128, 100),
    ]
    assert large_tensors(make_plan(plan.workload, cpu(memory_bytes=128))) == ()


def test_floats_between_integers_and_wide_integers_are_troubles() -> None:
    """An island of floats, and a Mul in int64; a float model has none."""
    island = graph(
        """i (int8[8] x) => (int8[8] y) {
          a = DequantizeLinear(x, s, z)
          b = Relu(a)
          c = QuantizeLinear(b, s, z)
          d = DequantizeLinear(c, s, z)
          e = Exp(d)
          f = Sin(e)
          g = Exp(f)
          h = QuantizeLinear(g, s, z)
          j = DequantizeLinear(h, s, z)
          k = Relu(j)
          y = QuantizeLinear(k, s, z)
        }""",
        s=np.array(0.1, np.float32),
        z=np.array(0, np.int8),
    )
    found = audit(island, X86).dtype_troubles
    assert {one.op_type for one in found} <= {"Exp", "Sin"}
    assert any("float32 " in one.why for one in found)
    wide = graph("w (int64[4] x) => (int64[4] y) { y = Mul(x, x) }")
    (trouble,) = audit(wide, X86).dtype_troubles
    assert trouble.why == "computes in int64, which accelerators seldom take"
    assert audit(graph(TURNED), X86).dtype_troubles == ()


def test_measured_costs_are_believed_before_the_roofline() -> None:
    """The table's cost where there is one; else the slower of computing and moving."""
    text = "m (float[64, 64] x) => (float[64, 64] y) { y = MatMul(x, w) }"
    matmul = graph(text, w=np.ones((64, 64), np.float32))
    (operator,) = read_workload(matmul).operators
    roof = cpu(peak_fp32_gops=1.0, bandwidth_gb_s=1.0).processors[0]
    speed = find_speed(operator, roof)
    assert speed.bound is Bound.COMPUTE
    assert speed.time_us == 2 * 64**3 / 1000
    assert speed.balance == 0.5
    assert speed.intensity == 64**3 / (3 * 64 * 64 * 4)
    rule = OperatorRule(
        operators=frozenset({"MatMul"}),
        dtypes=frozenset({"float32"}),
        cost=OperatorCost(fixed_us=7),
    )
    told = Processor(name="n", kind=ProcessorKind.NPU, rules=(rule,))
    assert find_speed(operator, told).time_us == 7
    assert find_speed(operator, told).bound is Bound.UNKNOWN
    assert find_speed(operator, None).time_us is None


def test_peaks_follow_from_one_another() -> None:
    """FP32 by its own figure, or by INT8's and the speed-up; else unknown."""
    assert peak_of(cpu(peak_gops=8.0).processors[0], "int8") == 8
    assert peak_of(cpu(peak_gops=8.0).processors[0], "float32") is None
    both = cpu(peak_gops=8.0, int8_speedup=4.0).processors[0]
    assert peak_of(both, "float32") == 2
    assert peak_of(cpu(peak_fp16_gops=3.0).processors[0], "float16") == 3


def test_what_other_processors_hand_over_is_counted() -> None:
    """Bytes that cross between subgraphs, and the share bound by memory."""
    text = """n (float[8] x) => (float[8] y) { a = Relu(x) b = Sin(a) y = Relu(b) }"""
    rule = OperatorRule(operators=frozenset({"Relu"}), dtypes=frozenset({"float32"}))
    npu = Processor(name="npu", kind=ProcessorKind.NPU, rules=(rule,))
    target = Target(
        name="t", title="t", processors=(npu, *cpu(bandwidth_gb_s=1.0).processors)
    )
    found = audit(graph(text), target)
    assert [one.read_bytes for one in found.subgraphs] == [0, 32, 32]
    assert found.time_us is None
    fast = cpu(peak_fp32_gops=1e6, bandwidth_gb_s=1.0)
    assert audit(graph(text), fast).memory_bound_share == 1

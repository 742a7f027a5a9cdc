"""One-operator models: valid ONNX, and the operator that was asked about."""

from __future__ import annotations

import onnx
import pytest

from skerry.adapt.placement import quantity
from skerry.adapt.probe.cases import Case, case_graph, case_of, case_operator
from skerry.adapt.probe.sweep import Sweep
from skerry.adapt.probe.sweeps import DTYPES, all_sweeps, work_bytes
from skerry.graph import infer_shapes

SWEEPS = all_sweeps()


@pytest.mark.parametrize(
    "sweep", SWEEPS, ids=lambda one: f"{one.op_type}-{'-'.join(map(str, one.where))}"
)
def test_each_sweep_makes_valid_models(sweep: Sweep) -> None:
    """Its operator computes in the dtype asked for, in the situation it names."""
    operator = case_operator(sweep.case("int8"))
    assert (operator.op_type, operator.dtype) == (sweep.op_type, "int8")
    for limit in sweep.where:
        if limit.one_of is not None:
            assert set(quantity(operator, limit.quantity)) <= set(limit.one_of)


def test_cases_stand_side_by_side() -> None:
    """Many cases make one model that the ONNX checker accepts, each part named."""
    cases = [sweep.case(dtype) for sweep in SWEEPS for dtype in ("int8", "float32")]
    graph = infer_shapes(case_graph(cases))
    onnx.checker.check_model(onnx.load_from_string(graph.to_bytes()), full_check=True)
    numbers = {case_of(value.name or "") for value in graph.output_values}
    assert numbers == set(range(len(cases)))


def test_other_names_are_no_case() -> None:
    """Tensors that a compiler names by itself belong to none."""
    assert case_of("c12_y0") == 12
    assert case_of("conv_1") is None
    assert case_of("") is None


def test_lines_vary_what_they_say() -> None:
    """The quantity of a line changes with its parameter."""
    for sweep in SWEEPS[::3]:
        for line in sweep.lines:
            seen = {
                quantity(
                    case_operator(
                        sweep.case("int8", **{**line.settings, line.parameter: value})
                    ),
                    line.quantity,
                )
                for value in (line.values[0], line.values[-1])
            }
            assert len(seen) == 2, (sweep.op_type, line.quantity)


def test_work_counts_all_that_is_read_and_made() -> None:
    """Activations, weights and results, in the width of the dtype."""
    case = Case(op_type="Add", dtype="int16", shapes=((2, 3), (2, 3)), output=(2, 3))
    assert work_bytes(case) == 36
    assert set(DTYPES) >= {"int8", "uint8", "int16"}

"""Operator tables as TOML: what is written is read back as it was."""

from __future__ import annotations

import msgspec
import pytest

from skerry.adapt.probe.cases import Case, case_graph
from skerry.adapt.probe.recode import recoded
from skerry.adapt.probe.tables import rule_table, target_toml, with_rules
from skerry.adapt.target_files import load_target, parse_target, target_document
from skerry.adapt.tflite import _schema, write_tflite
from skerry.core.target import Citation, Limit, OperatorCost, OperatorRule, Take

RULES = (
    OperatorRule(
        operators=frozenset({"Conv"}),
        dtypes=frozenset({"int8", "uint8"}),
        weight_dtypes=frozenset({"int8"}),
        constant_weights=True,
        max_rank=4,
        limits=(
            Limit(quantity="kernel_span", take=Take.FIRST, at_most=64.0),
            Limit(quantity="steps", at_least=1, at_most=3),
            Limit(quantity="mode", one_of=("linear", 2.0)),
        ),
        cost=OperatorCost(fixed_us=1.5, us_per_mb=3.0, samples=7, error=0.1),
    ),
    OperatorRule(operators=frozenset({"Relu"}), dtypes=frozenset({"int8"})),
)
SOURCE = Citation(
    source="a probe", url="https://example.com/x", quote="X 1.0", date="2026-11-21"
)


def test_a_table_takes_the_place_of_another() -> None:
    """The figures stay, the rules and who says so are new."""
    document = target_document("ethos-u55-128")
    text = target_toml(
        with_rules(document, "ethos-u55", RULES, SOURCE), remarks=("By a probe.", "")
    )
    assert text.startswith("# By a probe.\n#\n")
    old, new = load_target("ethos-u55-128"), parse_target(text.encode(), name="new")
    assert new.processors[0].rules == RULES
    assert new.processors[0].operators_source == SOURCE
    assert new.processors[0].peak_gops == old.processors[0].peak_gops
    assert new.processors[1:] == old.processors[1:]


def test_a_table_of_all_that_runs_makes_refusals_void() -> None:
    """A partial table becomes a complete one."""
    document = target_document("rk3588")
    text = target_toml(with_rules(document, "npu", RULES, SOURCE), remarks=())
    (npu, *_) = parse_target(text.encode(), name="new").processors
    assert npu.rules_complete
    assert npu.refusals == ()


def test_what_is_as_by_default_is_left_out() -> None:
    """A rule without conditions is two lines."""
    assert rule_table(RULES[1]) == {"operators": ["Relu"], "dtypes": ["int8"]}
    table = rule_table(RULES[0])
    assert msgspec.convert(table, OperatorRule) == RULES[0]
    assert table["limits"][0]["at_most"] == 64


@pytest.mark.parametrize(
    ("dtype", "zero", "bias"), [("uint8", 128, "int32"), ("int16", 0, "int64")]
)
def test_int8_becomes_another_code(dtype: str, zero: int, bias: str) -> None:
    """Activations change, and what belongs to them; 16-bit nets keep int8 weights."""
    case = Case(
        op_type="Gemm",
        dtype="int8",
        shapes=((1, 4),),
        weights=((2, 4), (2,)),
        output=(1, 2),
        attributes={"transB": 1},
    )
    content = write_tflite(case_graph([case]))
    net = _schema.decode(recoded(content, dtype), "net")
    (dense,) = [one for one in net.operators if one.code == "FULLY_CONNECTED"]
    given, weights, added = (net.tensors[index] for index in dense.inputs)
    assert (given.dtype, added.dtype) == (dtype, bias)
    assert weights.dtype == ("uint8" if dtype == "uint8" else "int8")
    assert given.quantization is not None
    assert given.quantization.zero_point.tolist() == [zero]
    assert recoded(content, "int8") == content

"""From answers to rules: the limits that the one who answers really keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from skerry.adapt.placement import refusal
from skerry.adapt.probe.cases import Case, case_operator
from skerry.adapt.probe.costs import fit_cost
from skerry.adapt.probe.learn import Answer, Ask, learn
from skerry.adapt.probe.sweeps import all_sweeps
from skerry.core.target import Limit, OperatorRule, Processor, ProcessorKind, Take

SWEEPS = all_sweeps()
MOST = 6
"""Situations of one operator that a test asks about."""


def asked_of(*rules: OperatorRule) -> Ask:
    """One who answers by an operator table that the probe does not see."""
    processor = Processor(name="npu", kind=ProcessorKind.NPU, rules=rules)

    def ask(cases: Sequence[Case]) -> list[Answer]:
        operators = [case_operator(case) for case in cases]
        return [
            Answer(
                runs=not refusal(operator, processor), time_us=3 + operator.macs / 1e5
            )
            for operator in operators
        ]

    return ask


def learnt(op_type: str, ask: Ask, *dtypes: str) -> tuple[OperatorRule, ...]:
    """The rules that come out for one operator, without their costs."""
    sweeps = [sweep for sweep in SWEEPS if sweep.op_type == op_type][:MOST]
    found = learn(sweeps, dtypes or ("int8", "float32"), ask)
    return tuple(replace(rule, cost=None) for rule in found.rules)


def hidden(op_type: str, **what: object) -> OperatorRule:
    """A rule of the hidden table, for int8."""
    return OperatorRule(
        operators=frozenset({op_type}), dtypes=frozenset({"int8"}), **what
    )


def test_what_is_not_in_the_table_gets_no_rule() -> None:
    """Neither an operator nor a dtype."""
    assert learnt("Sin", asked_of(hidden("Cos"))) == ()
    assert learnt("Sin", asked_of(hidden("Sin")), "float32") == ()
    assert learnt("Sin", asked_of(hidden("Sin"))) == (hidden("Sin"),)


@pytest.mark.parametrize("largest", [7, 201])
def test_a_limit_is_found_exactly(largest: int) -> None:
    """Between two values of the ladder, by bisection."""
    limit = Limit(quantity="kernel_span", take=Take.FIRST, at_most=largest)
    truth = hidden("Conv", constant_weights=True, limits=(limit,))
    for rule in learnt("Conv", asked_of(truth)):
        is_dilated = Limit(quantity="dilation", one_of=("some",)) in rule.limits
        assert limit in rule.limits or is_dilated


def test_dtypes_of_one_limit_share_a_rule() -> None:
    """One rule names both."""
    truth = replace(hidden("Softmax"), dtypes=frozenset({"int8", "uint8"}))
    assert learnt("Softmax", asked_of(truth), "int8", "uint8") == (truth,)


def test_values_that_are_no_range_are_listed() -> None:
    """A scale of 1, 2 and 4, but not 3."""
    scales = Limit(quantity="scales", one_of=(1, 2, 4))
    mode = Limit(quantity="mode", one_of=("nearest",))
    truth = hidden("Resize", limits=(scales, mode))
    found = learnt("Resize", asked_of(truth))
    assert found
    assert all(scales in rule.limits for rule in found)
    assert all(mode in rule.limits for rule in found)


def test_ranks_become_the_largest_rank() -> None:
    """`max_rank` has a field of its own."""
    (rule,) = learnt("Tanh", asked_of(hidden("Tanh", max_rank=4)))
    assert rule.max_rank == 4
    assert rule.limits == ()


def test_a_constant_that_must_be_one_is_told() -> None:
    """Two activations are refused, an activation and a constant are not."""
    (rule,) = learnt("Mul", asked_of(hidden("Mul", constant_weights=True)))
    assert rule.constant_weights
    (rule,) = learnt("Mul", asked_of(hidden("Mul")))
    assert not rule.constant_weights


def test_what_was_learnt_answers_as_the_one_asked() -> None:
    """On every case that was asked, the table says what the toolchain said."""
    truth = (
        hidden("Tanh", max_rank=4),
        hidden(
            "Conv",
            constant_weights=True,
            limits=(
                Limit(quantity="strides", at_most=3),
                Limit(quantity="grouping", one_of=("one", "depthwise")),
            ),
        ),
        hidden("MaxPool", limits=(Limit(quantity="padding", one_of=("none",)),)),
    )
    told: list[str] = []
    asked = [one for one in SWEEPS if one.op_type in {"Conv", "MaxPool", "Tanh"}]
    found = learn(asked[::2], ("int8",), asked_of(*truth), told=told.append)
    processor = Processor(name="npu", kind=ProcessorKind.NPU, rules=found.rules)
    for one in found.asked:
        assert (not refusal(case_operator(one.case), processor)) == one.answer.runs
    assert told


def test_costs_are_fitted() -> None:
    """A fixed part, a part a multiply-add, a part a byte; none is negative."""
    samples = [
        (macs, size, 2 + 5 * macs / 1e6 + 0.5 * size / 1e6)
        for macs, size in ((1e6, 2e6), (4e6, 1e6), (9e6, 9e6), (0, 3e6))
    ]
    cost = fit_cost(samples)
    assert cost is not None
    assert cost.fixed_us == pytest.approx(2, rel=1e-3)
    assert cost.us_per_million_macs == pytest.approx(5, rel=1e-3)
    assert cost.us_per_mb == pytest.approx(0.5, rel=1e-3)
    assert (cost.samples, cost.error) == (4, 0)
    assert cost.time_us(10**6, 10**6) == pytest.approx(7.5, rel=1e-3)
    assert fit_cost([]) is None
    falling = fit_cost([(1e6, 1e3, 9.0), (9e6, 1e3, 3.0)])
    assert falling is not None
    assert min(falling.fixed_us, falling.us_per_million_macs, falling.us_per_mb) >= 0

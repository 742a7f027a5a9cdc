"""Targets as files: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from skerry.adapt.target_files import load_target, parse_target, target_names
from skerry.core.errors import UsageError
from skerry.core.target import (
    Figure,
    Limit,
    OperatorRule,
    Processor,
    ProcessorKind,
    Take,
    Target,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "target-1.toml"

SMALL = """
schema = "skerry.target/1"
name = "small"
title = "A board"
operators_source = "a table"

[[processors]]
name = "npu"
kind = "npu"
memory_bytes = { value = 1024, source = "a data sheet" }

[[processors.rules]]
operators = ["Conv"]
dtypes = ["int8"]
limits = [{ quantity = "strides", at_most = 3 }]
"""


def test_golden_file_reads_as_it_always_has() -> None:
    """The first version of the schema gives each field its meaning."""
    assert load_target(GOLDEN) == Target(
        name="golden",
        title="A board that does not exist",
        operators_source="tests/golden",
        processors=(
            Processor(
                name="npu",
                kind=ProcessorKind.NPU,
                peak_gops=Figure(value=512, source="data sheet, page 1"),
                int8_speedup=Figure(value=4.5, source="data sheet, page 2"),
                bandwidth_gb_s=Figure(value=4, source="data sheet, page 3"),
                storage_bandwidth_gb_s=Figure(value=0.5, source="data sheet, page 4"),
                memory_bytes=Figure(value=262144, source="data sheet, page 5"),
                storage_bytes=Figure(value=None, source="not published"),
                rules=(
                    OperatorRule(
                        operators=frozenset({"Conv", "ConvTranspose"}),
                        dtypes=frozenset({"int8", "int16"}),
                        weight_dtypes=frozenset({"int8"}),
                        constant_weights=True,
                        max_rank=4,
                        limits=(
                            Limit(quantity="strides", at_least=1, at_most=3),
                            Limit(
                                quantity="kernel_shape",
                                take=Take.PRODUCT,
                                at_most=4096,
                            ),
                            Limit(quantity="mode", one_of=("linear", 2)),
                        ),
                    ),
                ),
            ),
            Processor(
                name="cpu",
                kind=ProcessorKind.CPU,
                runs_everything=True,
                shares_memory_with="npu",
            ),
        ),
    )


@pytest.mark.parametrize("name", target_names())
def test_built_in_targets_load_under_their_own_names(name: str) -> None:
    """Each target that comes with Skerry is valid and called what its file is."""
    assert load_target(name).name == name


@pytest.mark.parametrize("name", target_names())
def test_built_in_rules_name_operators_of_onnx(name: str) -> None:
    """No operator in a table is misspelt: ONNX knows each."""
    for processor in load_target(name).processors:
        for rule in processor.rules:
            for operator in rule.operators:
                assert onnx.defs.has(operator), operator


def test_a_file_of_the_users_is_read_by_its_path(tmp_path: Path) -> None:
    """A path and the text of a path both lead to the file."""
    path = tmp_path / "mine.toml"
    path.write_text(SMALL)
    assert load_target(path) == load_target(str(path))
    assert load_target(path).name == "small"


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    """The hint names the target that was meant."""
    with pytest.raises(UsageError, match="no target called 'ethos-u55'") as caught:
        load_target("ethos-u55")
    assert "'ethos-u55-128'" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("skerry.target/1", "skerry.target/9", "schema is 'skerry.target/9'"),
        ("title", "titel", "unknown key 'titel'"),
        ("memory_bytes", "memory_byte", "unknown key 'memory_byte'"),
        (", source", ", sauce", "unknown key 'sauce'"),
        ("at_most", "atmost", "unknown key 'atmost'"),
        (', source = "a data sheet"', "", "missing required field `source`"),
        ('"a data sheet"', '" "', "a figure needs a source"),
        ("1024", "-1", "value is -1, expected a number above 0"),
        ("1024", "nan", "value is nan, expected a number above 0"),
        ("1024", '"lots"', "Expected `float | null`"),
        ('"npu"\nkind', '"n"\nshares_memory_with = "x"\nkind', "no other processor"),
        ('kind = "npu"', 'kind = "tpu"', "Invalid enum value 'tpu'"),
        ('dtypes = ["int8"]', 'dtypes = ["int9"]', "unknown dtype 'int9'"),
        ("at_most = 3", "at_least = 4, at_most = 3", "that nothing can keep"),
        ("at_most = 3", "one_of = []", "that nothing can keep"),
        ('["Conv"]', "[]", "a rule without operators"),
        ('"a table"', '""', "operators_source is empty"),
        ("[[processors]]", "[processors]", "Expected `array`, got `object`"),
    ],
)
def test_a_faulty_file_is_refused_with_its_fault(old: str, new: str, what: str) -> None:
    """Each fault is a UsageError that names what is wrong."""
    assert parse_target(SMALL.encode(), name="small.toml").name == "small"
    assert old in SMALL
    with pytest.raises(UsageError) as caught:
        parse_target(SMALL.replace(old, new, 1).encode(), name="small.toml")
    assert what in str(caught.value)
    assert "small.toml" in str(caught.value)
    assert caught.value.hint


def test_processors_must_be_there_once_and_able() -> None:
    """None, two of one name, and one that can run nothing are refused."""
    head = SMALL.partition("[[processors]]")[0]
    with pytest.raises(UsageError, match="no processors"):
        parse_target((head + "processors = []").encode(), name="x")
    idle = '[[processors]]\nname = "a"\nkind = "cpu"\n'
    with pytest.raises(UsageError, match="no rules"):
        parse_target((head + idle).encode(), name="x")
    able = idle + "runs_everything = true\n"
    with pytest.raises(UsageError, match="two processors 'a'"):
        parse_target((head + able * 2).encode(), name="x")


def test_a_key_is_answered_with_the_nearest() -> None:
    """The hint names the key that was meant."""
    with pytest.raises(UsageError) as caught:
        parse_target(SMALL.replace("at_most", "atmost").encode(), name="x")
    assert caught.value.hint == "Did you mean 'at_most'?"

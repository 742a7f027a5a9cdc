"""Targets as files: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import onnx
import pytest

from skerry.adapt.target_files import load_target, parse_target, target_names
from skerry.core.errors import UsageError
from skerry.core.target import (
    Bus,
    Citation,
    Figure,
    Limit,
    OperatorCost,
    OperatorRule,
    Processor,
    ProcessorKind,
    Refusal,
    Sparsity,
    SparsityKind,
    Take,
    Target,
)

GOLDEN = Path(__file__).parents[2] / "golden"

SMALL = """
schema = "skerry.target/2"
name = "small"
title = "A board"

[[processors]]
name = "npu"
kind = "npu"

[processors.operators_source]
source = "a table"
url = "https://e.org"
quote = "supported"
date = "2026-11-21"

[processors.memory_bytes]
value = 1024
source = "a data sheet"
url = "https://e.org"
quote = "1 KiB"
computed = "1 * 1024"
date = "2026-11-21"

[processors.bandwidth_gb_s]
value = 4
source = "a manual"
url = "https://e.org"
quote = "4 GB/s"
date = "2026-11-21"

[[processors.rules]]
operators = ["Conv"]
dtypes = ["int8"]
limits = [{ quantity = "strides", at_most = 3 }]
"""

RULE = OperatorRule(
    operators=frozenset({"Conv", "ConvTranspose"}),
    dtypes=frozenset({"int8", "int16"}),
    weight_dtypes=frozenset({"int8"}),
    constant_weights=True,
    max_rank=4,
    limits=(
        Limit(quantity="strides", at_least=1, at_most=3),
        Limit(quantity="kernel_shape", take=Take.PRODUCT, at_most=4096),
        Limit(quantity="mode", one_of=("linear", 2)),
    ),
)


def figure(value: float | None, place: str, quote: str = "", by: str = "") -> Figure:
    """A figure as the golden file has them."""
    return Figure(
        value=value,
        source="s",
        url=f"https://e.org/{place}",
        quote=quote,
        computed=by,
        date="2026-11-21",
    )


def test_golden_file_reads_as_it_always_has() -> None:
    """The first version of the schema gives each field its meaning."""
    words = Citation(source="tests/golden")
    assert load_target(GOLDEN / "target-1.toml") == Target(
        name="golden",
        title="A board that does not exist",
        processors=(
            Processor(
                name="npu",
                kind=ProcessorKind.NPU,
                operators_source=words,
                peak_gops=Figure(value=512, source="data sheet, page 1"),
                int8_speedup=Figure(value=4.5, source="data sheet, page 2"),
                bandwidth_gb_s=Figure(value=4, source="data sheet, page 3"),
                storage_bandwidth_gb_s=Figure(value=0.5, source="data sheet, page 4"),
                memory_bytes=Figure(value=262144, source="data sheet, page 5"),
                storage_bytes=Figure(value=None, source="not published"),
                rules=(RULE,),
            ),
            Processor(
                name="cpu",
                kind=ProcessorKind.CPU,
                operators_source=words,
                runs_everything=True,
                shares_memory_with="npu",
            ),
        ),
    )


def test_second_golden_file_reads_as_it_always_has() -> None:
    """The second version of the schema gives each field its meaning."""
    where = {"source": "s", "date": "2026-11-21"}
    evidence = Citation(url="https://e.org/c", quote="strides to 3", **where)
    refused = Citation(url="https://e.org/g", quote="Erf is not", **where)
    cost = OperatorCost(
        fixed_us=2, us_per_million_macs=8.5, us_per_mb=250, samples=40, error=0.1
    )
    npu = Processor(
        name="npu",
        kind=ProcessorKind.NPU,
        toolchain="its compiler",
        toolchain_options=("--fast",),
        first_subgraph_only=True,
        rules_complete=False,
        operators_source=Citation(url="https://e.org/o", quote="supported", **where),
        peak_gops=figure(512, "1", "512 GOPS"),
        peak_fp16_gops=figure(256, "2", "128 × 2", "128 * 2"),
        peak_fp32_gops=figure(64, "3", "64"),
        int8_speedup=figure(4.5, "4", "4,5 times"),
        bandwidth_gb_s=figure(4, "5", "four"),
        storage_bandwidth_gb_s=figure(0.5, "6", "0.5 GB/s"),
        memory_bytes=figure(262144, "7", "0x40000"),
        storage_bytes=figure(None, "8"),
        cache_bytes=figure(524288, "f", "512 KiB", "512 * 1024"),
        power_mw=figure(300, "9", "300 mW"),
        wake_energy_uj=figure(1500, "a", "1,500 µJ"),
        sparsity=Sparsity(
            kind=SparsityKind.STRUCTURED_2_4,
            url="https://e.org/b",
            quote="2:4 structured",
            **where,
        ),
        rules=(replace(RULE, evidence=evidence, cost=cost),),
        refusals=(Refusal(operators=frozenset({"Erf"}), evidence=refused),),
    )
    cpu = Processor(
        name="cpu",
        kind=ProcessorKind.CPU,
        runs_everything=True,
        shares_memory_with="npu",
    )
    bus = Bus(
        between=("npu", "cpu"),
        bandwidth_gb_s=figure(0.625, "d", "5 Gbit/s", "5 / 8"),
        energy_pj_byte=figure(None, "e"),
    )
    assert load_target(GOLDEN / "target-2.toml") == Target(
        name="golden",
        title="A board that does not exist",
        processors=(npu, cpu),
        buses=(bus,),
        power_mw=figure(2500, "t", "2.5 W", "2.5 * 1000"),
    )


def instances(within: object) -> Iterator[object]:
    """Every dataclass at any depth, itself too."""
    if isinstance(within, tuple):
        for one in within:
            yield from instances(one)
    elif is_dataclass(within):
        yield within
        for field in fields(within):
            yield from instances(getattr(within, field.name))


def test_second_golden_file_has_each_field() -> None:
    """A field that is added is added there too."""
    wanted: set[str] = set()
    used: set[str] = set()
    for one in instances(load_target(GOLDEN / "target-2.toml")):
        for field in fields(one):  # type: ignore[arg-type]
            name = f"{type(one).__name__}.{field.name}"
            wanted.add(name)
            if getattr(one, field.name) != field.default:
                used.add(name)
    assert used == wanted


@pytest.mark.parametrize("name", target_names())
def test_built_in_targets_load_under_their_own_names(name: str) -> None:
    """Each target that comes with Skerry is valid and called what its file is."""
    assert load_target(name).name == name


@pytest.mark.parametrize("name", target_names())
def test_built_in_rules_name_operators_of_onnx(name: str) -> None:
    """No operator in a table is misspelt: ONNX knows each."""
    for processor in load_target(name).processors:
        for rule in (*processor.rules, *processor.refusals):
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
    with pytest.raises(UsageError, match="no target called 'ethos-u55-12'") as caught:
        load_target("ethos-u55-12")
    assert "'ethos-u55-128'" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("skerry.target/2", "skerry.target/9", "schema is 'skerry.target/9'"),
        ("title", "titel", "unknown key 'titel'"),
        ("memory_bytes", "memory_byte", "unknown key 'memory_byte'"),
        ("\nsource", "\nsauce", "unknown key 'sauce'"),
        ("at_most", "atmost", "unknown key 'atmost'"),
        ('source = "a data sheet"', "", "missing required field `source`"),
        ('"a data sheet"', '" "', "it needs a source"),
        ("= 1024", "= -1", "value is -1, expected a number above 0"),
        ("= 1024", "= nan", "value is nan, expected a number above 0"),
        ("= 1024", '= "lots"', "Expected `float | null`"),
        ("= 4\n", "= 5\n", "npu: bandwidth_gb_s: 5 is not in the quote"),
        ("1 * 1024", "3 * 1024", "3 is neither in the quote nor a factor"),
        ("1 * 1024", "1 * 1000", "computed gives 1000, the value is 1024"),
        ("1 * 1024", "1024", "none of its numbers is in the quote"),
        ("1 * 1024", "1 ** 1024", "cannot be computed"),
        ('"4 GB/s"', '""', "quote is empty: give the words that carry the number"),
        ('"supported"', '""', "operators_source: quote is empty"),
        ("https://e.org", "page 5", "url is 'page 5'"),
        ("2026-11-21", "yesterday", "date is 'yesterday'"),
        ('"npu"\nkind', '"n"\nshares_memory_with = "x"\nkind', "no other processor"),
        ('"npu"\nkind', '"unknown"\nkind', "no processor may be called 'unknown'"),
        ('kind = "npu"', 'kind = "tpu"', "Invalid enum value 'tpu'"),
        ('dtypes = ["int8"]', 'dtypes = ["int9"]', "unknown dtype 'int9'"),
        ("at_most = 3", "at_least = 4, at_most = 3", "that nothing can keep"),
        ("at_most = 3", "one_of = []", "that nothing can keep"),
        ('["Conv"]', "[]", "a rule without operators"),
        ("[[processors]]", "[processors]", "Expected `array`, got `object`"),
        (
            "[[processors]]",
            'buses = [{ between = ["npu", "dsp"] }]\n[[processors]]',
            "a bus ends at 'dsp', which is no processor",
        ),
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
    untold = idle + "rules_complete = false\n"
    with pytest.raises(UsageError, match="no operators_source"):
        parse_target((head + untold).encode(), name="x")
    able = idle + "runs_everything = true\n"
    with pytest.raises(UsageError, match="two processors 'a'"):
        parse_target((head + able * 2).encode(), name="x")


def test_a_key_is_answered_with_the_nearest() -> None:
    """The hint names the key that was meant."""
    with pytest.raises(UsageError) as caught:
        parse_target(SMALL.replace("at_most", "atmost").encode(), name="x")
    assert caught.value.hint == "Did you mean 'at_most'?"


def test_what_is_unknown_needs_no_quote() -> None:
    """A figure that nobody gives says where it was looked for, and when."""
    unknown = SMALL.replace("value = 4", 'value = "unknown"').replace('"4 GB/s"', '""')
    found = parse_target(unknown.encode(), name="x").processors[0].bandwidth_gb_s
    assert found is not None
    assert found.value is None
    with pytest.raises(UsageError, match="date is ''"):
        parse_target(unknown.replace("2026-11-21", "").encode(), name="x")

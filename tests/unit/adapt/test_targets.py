"""The targets that come with Skerry: cited, and true to what is documented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import date
from importlib.resources import files

import pytest

from skerry.adapt.operators import Operator, Tensor
from skerry.adapt.placement import NOWHERE, UNKNOWN, place
from skerry.adapt.target_files import TARGET_SCHEMA, load_target, target_names
from skerry.core.target import Citation, Figure
from tests.unit.adapt.test_placement import operator

WANTED = {
    "android-cpu",
    "ascend-310",
    "cambricon-mlu220",
    "coral-edge-tpu",
    "ek-ra8d1",
    "hailo-8l",
    "intel-npu",
    "jetson-nano",
    "jetson-orin-nano",
    "kirin-990",
    "kria-kv260",
    "nucleo-h7a3zi",
    "nucleo-l4r5zi",
    "nucleo-u575zi",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "rk3588",
    "rv1106",
    "snapdragon-8-gen-3",
    "stm32mp257",
    "stm32n6570-dk",
    "x86-64",
}


def citations(within: object) -> Iterator[Citation]:
    """Every citation at any depth."""
    if isinstance(within, Citation):
        yield within
    elif isinstance(within, tuple):
        for one in within:
            yield from citations(one)
    elif is_dataclass(within):
        for field in fields(within):
            yield from citations(getattr(within, field.name))


def test_the_boards_that_were_asked_for_are_there() -> None:
    """None of the list is missing."""
    assert set(target_names()) >= WANTED


@pytest.mark.parametrize("name", target_names())
def test_each_figure_has_its_words_its_address_and_its_day(name: str) -> None:
    """The newest schema alone: each figure and rule can be read again by anybody."""
    content = (files("skerry.adapt") / "targets" / f"{name}.toml").read_text("utf-8")
    assert f'schema = "{TARGET_SCHEMA}"' in content
    found = list(citations(load_target(name)))
    assert found
    for one in found:
        assert one.source, one
        assert one.url.startswith("https://"), one
        assert date.fromisoformat(one.date) <= date.today(), one  # noqa: DTZ011 (a day, anywhere)
        if isinstance(one, Figure):
            assert one.quote or one.value is None, one


@pytest.mark.parametrize("name", target_names())
def test_a_table_that_is_not_public_is_not_guessed(name: str) -> None:
    """Where the table is partial, an operator that none names is placed UNKNOWN."""
    target = load_target(name)
    first = target.processors[0]
    placed, reason = place(operator("Hardmax", (1, 8)), target)
    named = {one for each in (*first.rules, *first.refusals) for one in each.operators}
    if first.rules_complete or "Hardmax" in named:
        assert placed != UNKNOWN
    else:
        assert placed == UNKNOWN
        assert reason == f"no public operator table of {first.name} names it"


@pytest.mark.parametrize(
    ("sizes", "processor"),
    [((1, 3, 64, 128), "npu"), ((1, 3, 256, 2560), "cpu"), ((1, 8, 64, 1376), "cpu")],
)
def test_rk3588_transposes_small_planes_alone(
    sizes: tuple[int, ...], processor: str
) -> None:
    """Issues 490 and 88: a plane of more than 8192 falls to the CPU."""
    placed, reason = place(
        operator("Transpose", sizes, perm=(0, 2, 3, 1)), load_target("rk3588")
    )
    assert placed == processor
    assert ("product of spatial" in reason) == (processor == "cpu")


@pytest.mark.parametrize(
    ("asked", "processor"),
    [
        (operator("Transpose", (1, 32, 128, 2048)), NOWHERE),  # issue 145
        (operator("Transpose", (1, 3, 16, 16)), "npu"),
        (operator("Min", (1, 8), (1, 8)), NOWHERE),  # issue 482
        (operator("Pow", (1, 8)), NOWHERE),  # issue 312 of the model zoo
        (operator("ArgMax", (1, 8)), NOWHERE),  # issue 557
        (
            operator("AveragePool", (1, 8, 9, 9), pads=(1, 1, 1, 1)),
            NOWHERE,
        ),  # issue 217
        (operator("AveragePool", (1, 8, 9, 9), pads=(0, 0, 0, 0)), "npu"),
        (operator("AveragePool", (1, 8, 9, 9), pads=(1,), count_include_pad=1), "npu"),
        (operator("Relu", (1, 8), dtype="float16"), NOWHERE),  # no FP16
        (operator("Resize", (1, 8, 9, 9)), "npu"),
        (operator("Resize", (1, 8, 9, 9), mode="linear"), NOWHERE),  # issue 560
        (operator("Relu", (1, 8)), "npu"),
    ],
)
def test_rv1106_has_no_fallback(asked: Operator, processor: str) -> None:
    """What its NPU refuses runs nowhere: said before it fails on the board."""
    assert place(asked, load_target("rv1106"))[0] == processor


@pytest.mark.parametrize(
    ("asked", "processor"),
    [
        (operator("ReduceMean", (1, 3, 256, 128), axes=(2, 3)), "host"),  # issue 461
        (operator("ReduceMean", (1, 3, 64, 128), axes=(2, 3)), "edge-tpu"),  # in four
        (operator("Transpose", (1, 3, 8, 8)), "host"),  # issue 342
        (operator("Transpose", (1, 3, 8, 8), perm=(0, 2, 3, 1)), "edge-tpu"),
        (operator("Relu", (2, 3, 8, 8)), "host"),
        (operator("Relu", (12, 64)), "edge-tpu"),
        (operator("Relu", (1, 8), dtype="float32"), "host"),
        (operator("Softmax", (1, 1000)), "edge-tpu"),
        (operator("Softmax", (1, 20000)), "host"),
        (operator("Softmax", (4, 10)), "host"),
    ],
)
def test_edge_tpu_takes_what_its_table_says(asked: Operator, processor: str) -> None:
    """Each documented limit holds."""
    assert place(asked, load_target("coral-edge-tpu"))[0] == processor


def test_stm32mp2_takes_one_scale_a_tensor() -> None:
    """Weights with a scale a channel go to the GPU."""
    target = load_target("stm32mp257")
    conv = operator("Conv", (1, 8, 9, 9), constants=((8, 8, 3, 3),))
    weights = Tensor(
        name="w", dtype="int8", shape=(8, 8, 3, 3), is_constant=True, scales=1
    )
    for scales, processor in ((1, "npu"), (8, "gpu")):
        own = replace(weights, scales=scales)
        asked = replace(conv, inputs=(conv.inputs[0], own))
        assert place(asked, target)[0] == processor


@pytest.mark.parametrize(
    ("name", "asked", "processor"),
    [
        ("hailo-8l", operator("Transpose", (1, 8)), "cpu"),
        (
            "jetson-orin-nano",
            operator("Conv", (1, 3, 8, 8), constants=((3, 3, 3, 3),)),
            "gpu",
        ),
        ("jetson-nano", operator("Relu", (1, 8)), "cpu"),
        ("jetson-nano", operator("Relu", (1, 8), dtype="float16"), "gpu"),
        ("snapdragon-8-gen-3", operator("Relu", (1, 8), dtype="uint8"), "hexagon"),
        ("snapdragon-8-gen-3", operator("Relu", (1, 8)), "hexagon"),
        ("snapdragon-8-gen-3", operator("MatMul", (1, 8), (8, 8)), "cpu"),
        ("rk3588", operator("Relu", (1, 8), dtype="uint8"), "npu"),
        ("rk3588", operator("Slice", (2, 8)), NOWHERE),
        ("rk3588", operator("Clip", (1, 8193)), "cpu"),
        ("rk3588", operator("Gemm", (1, 8), constants=((8, 4),)), "npu"),
        ("kirin-990", operator("LayerNormalization", (1, 8), dtype="float16"), "cpu"),
        (
            "ascend-310",
            operator("LayerNormalization", (1, 8), dtype="float16"),
            "ascend",
        ),
        ("nucleo-l4r5zi", operator("Erf", (1, 8)), NOWHERE),
        ("nucleo-l4r5zi", operator("Relu", (1, 8)), "cortex-m4"),
        ("kria-kv260", operator("Relu", (1, 8)), "dpu"),
        ("stm32n6570-dk", operator("Relu", (1, 8)), "neural-art"),
        ("stm32n6570-dk", operator("Softmax", (1, 8)), "cortex-m55"),
        ("stm32n6570-dk", operator("Tanh", (1, 8)), UNKNOWN),
    ],
)
def test_public_tables_are_kept(name: str, asked: Operator, processor: str) -> None:
    """One operator of each table goes where the table says."""
    assert place(asked, load_target(name))[0] == processor

"""Which processor runs an operator, and the reason that another does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.adapt.operators import AttributeValue, Operator, Tensor
from skerry.adapt.placement import NOWHERE, UNKNOWN, place, quantity, refusal
from skerry.adapt.target_files import load_target
from skerry.core.target import (
    Citation,
    Limit,
    OperatorRule,
    Processor,
    ProcessorKind,
    Refusal,
    Take,
    Target,
)

ETHOS = load_target(Path(__file__).with_name("npu.toml"))


def operator(
    op_type: str,
    *shapes: tuple[int, ...] | None,
    dtype: str = "int8",
    constants: tuple[tuple[int, ...], ...] = (),
    out: tuple[int, ...] | None = None,
    **attributes: AttributeValue,
) -> Operator:
    """Make an operator: shapes of its activations, then of its constants."""
    read = [Tensor(name=f"x{n}", dtype=dtype, shape=s) for n, s in enumerate(shapes)]
    fixed = [
        Tensor(name=f"w{n}", dtype=dtype, shape=s, is_constant=True)
        for n, s in enumerate(constants)
    ]
    made = Tensor(name="y", dtype=dtype, shape=out or shapes[0])
    return Operator(
        name=op_type.lower(),
        op_type=op_type,
        domain="",
        inputs=(*read, *fixed),
        outputs=(made,),
        attributes=attributes,
    )


def conv(dtype: str = "int8", **attributes: AttributeValue) -> Operator:
    """A 3 × 3 convolution of 8 planes."""
    return operator(
        "Conv", (1, 8, 16, 16), dtype=dtype, constants=((8, 8, 3, 3),), **attributes
    )


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (conv(), ""),
        (conv("uint8"), ""),
        (conv("float32"), "float32 activations (takes int8, int16, uint8)"),
        (conv("int16"), "int16 weights (takes int8, uint8)"),
        (conv(strides=(3, 3)), ""),
        (conv(strides=(4, 4)), ""),  # long, but neither padded nor dilated
        (conv(strides=(4, 4), pads=(1, 1, 1, 1)), "strides 4 > 3"),
        (conv(strides=(4, 4), auto_pad="SAME_UPPER"), "strides 4 > 3"),
        (conv(strides=(5, 1), group=8), "strides 5 > 3"),
        (conv(dilations=(32, 1)), "kernel_span[0] 65 > 64"),
        (
            operator("Conv", (1, 8, 16, 16), (8, 8, 3, 3)),
            "second input is no constant",
        ),
        (operator("Conv", None), "a shape is known only when the model runs"),
        (
            operator("Conv", (1, 8, 9, 9, 9), constants=((8, 8, 3, 3, 3),)),
            "5 dimensions > 4",
        ),
        (operator("Sqrt", (1, 8)), "not in the operator table"),
        (operator("MatMul", (1, 8, 8), (1, 8, 8)), ""),
        (
            operator("MatMul", (1, 8, 8), (1, 8, 8), dtype="uint8"),
            "second input is no constant",
        ),
        (operator("AveragePool", (1, 8, 16, 16), kernel_shape=(8, 8)), ""),
        (operator("AveragePool", (1, 8, 16, 16), kernel_shape=(9, 9)), ""),
        (
            operator(
                "AveragePool", (1, 8, 16, 16), kernel_shape=(9, 9), pads=(1, 1, 1, 1)
            ),
            "kernel_shape 9 > 8",
        ),
        (operator("GlobalAveragePool", (1, 8, 16, 16)), ""),
        (operator("GlobalAveragePool", (2, 8, 16, 16)), "batch 2 > 1"),
        (operator("ArgMax", (1, 200), axis=-1), "reduced 200 > 127"),
        (operator("Softmax", (1, 40, 6625), axis=2), ""),
        (operator("Softmax", (1, 65536, 2), axis=-1), "rows 65536 > 65535"),
        (operator("Resize", (1, 8, 4, 4), out=(1, 8, 8, 8)), ""),
        (
            operator("Resize", (1, 8, 4, 4), out=(1, 8, 12, 12)),
            "scales 3 (takes 1, 2, 4, 8)",
        ),
        (
            operator("Resize", (1, 8, 4, 4), out=(1, 8, 16, 8)),
            "scale_ratio 2 (takes 1)",
        ),
        (
            operator("Resize", (1, 8, 4, 4), out=(1, 8, 16, 16), mode="linear"),
            (
                "coordinate_transformation_mode half_pixel "
                "(takes align_corners, asymmetric)"
            ),
        ),
        (
            operator("Resize", (1, 8, 4, 4), out=(1, 8, 8, 8), mode="cubic"),
            "mode cubic (takes linear)",
        ),
        (replace(conv(), domain="com.example"), "of com.example, not of ONNX itself"),
    ],
)
def test_the_npu_takes_what_velas_table_says(asked: Operator, reason: str) -> None:
    """Each constraint holds or is the reason given, in its own numbers."""
    npu = ETHOS.processors[0]
    assert refusal(asked, npu) == reason


def test_what_falls_back_goes_to_the_next_processor() -> None:
    """The CPU takes what the NPU refuses, and the NPU's reason is kept."""
    chosen, reason = place(conv("float32"), ETHOS)
    assert chosen == "cortex-m55"
    assert reason.startswith("float32 activations")
    assert place(conv(), ETHOS) == ("ethos-u55", "")


def test_an_operator_beyond_onnx_runs_nowhere() -> None:
    """A processor that runs everything runs everything of ONNX, and no more."""
    for domain, runs in (("com.example", False), ("ai.onnx.ml", True)):
        chosen, _ = place(replace(conv("float32"), domain=domain), ETHOS)
        assert (chosen != NOWHERE) == runs


def test_the_rule_that_comes_nearest_gives_the_reason() -> None:
    """Of two rules that refuse, the one with fewer breaches speaks."""
    far = OperatorRule(
        operators=frozenset({"Conv"}),
        dtypes=frozenset({"int16"}),
        limits=(Limit(quantity="strides", at_most=0),),
    )
    near = replace(far, dtypes=frozenset({"int8"}))
    npu = Processor(name="npu", kind=ProcessorKind.NPU, rules=(far, near))
    assert refusal(conv(), npu) == "strides 1 > 0"


def test_a_target_without_a_fallback_runs_nothing_else() -> None:
    """Without another processor an operator that is refused has no place."""
    alone = Target(
        name="npu",
        title="An NPU alone",
        processors=ETHOS.processors[:1],
    )
    assert place(conv("float32"), alone)[0] == NOWHERE


def test_what_no_public_table_names_is_unknown() -> None:
    """A partial table refuses what breaks its rules, and leaves the rest open."""
    partial = replace(ETHOS.processors[0], rules_complete=False)
    target = replace(ETHOS, processors=(partial, ETHOS.processors[1]))
    assert place(conv(), target) == ("ethos-u55", "")
    assert place(conv("float32"), target)[0] == "cortex-m55"
    assert place(operator("Sqrt", (1, 8)), target) == (
        UNKNOWN,
        "no public operator table of ethos-u55 names it",
    )


def test_what_is_known_to_be_refused_is_not_unknown() -> None:
    """A partial table can name what does not run; the next processor takes it."""
    refused = Refusal(operators=frozenset({"Sqrt"}), evidence=Citation(source="s"))
    partial = replace(ETHOS.processors[0], rules_complete=False, refusals=(refused,))
    target = replace(ETHOS, processors=(partial, ETHOS.processors[1]))
    asked = operator("Sqrt", (1, 8))
    assert place(asked, target) == ("cortex-m55", "known to be refused")


@pytest.mark.parametrize(
    ("asked", "name", "value"),
    [
        (operator("Relu", (2, 3, 4, 5, 6)), "outer", (6,)),
        (operator("Relu", (7,)), "outer", (1,)),
        (operator("Relu", (2, 3)), "sizes", (2, 3)),
        (operator("Relu", (2, 3, 4)), "spatial", (3, 4)),
        (operator("Relu", ()), "spatial", ()),
        (operator("Transpose", (2, 3, 4)), "order", ("210",)),
        (operator("Transpose", (2, 3, 4), perm=(0, 2, 1)), "order", ("021",)),
        (operator("AveragePool", (1, 8, 9, 9)), "count_include_pad", (0,)),
        (operator("Relu", (2, 3)), "weight_scales", ()),
        (conv(), "weight_scales", ()),
    ],
)
def test_quantities_of_shapes(
    asked: Operator, name: str, value: tuple[float | str, ...]
) -> None:
    """What the limits of boards look at follows from shapes and attributes."""
    assert quantity(asked, name) == value


@pytest.mark.parametrize(
    ("take", "bounds", "breach"),
    [
        (Take.EACH, {"at_most": 4}, "kernel_shape 5 > 4"),
        (Take.EACH, {"at_least": 4}, "kernel_shape 3 < 4"),
        (Take.EACH, {"at_least": 3, "at_most": 5}, ""),
        (Take.FIRST, {"at_most": 3}, ""),
        (Take.FIRST, {"at_most": 2}, "kernel_shape[0] 3 > 2"),
        (Take.PRODUCT, {"at_most": 15}, ""),
        (Take.PRODUCT, {"at_most": 14}, "product of kernel_shape 15 > 14"),
    ],
)
def test_limits_look_at_the_part_they_name(
    take: Take, bounds: dict[str, float], breach: str
) -> None:
    """Each entry, the first one, or the product is compared with the bounds."""
    rule = OperatorRule(
        operators=frozenset({"MaxPool"}),
        dtypes=frozenset({"int8"}),
        limits=(Limit(quantity="kernel_shape", take=take, **bounds),),
    )
    npu = Processor(name="npu", kind=ProcessorKind.NPU, rules=(rule,))
    pool = operator("MaxPool", (1, 8, 16, 16), kernel_shape=(3, 5))
    assert refusal(pool, npu) == breach


@pytest.mark.parametrize(
    ("asked", "name", "values"),
    [
        (conv(), "kernel_shape", (3, 3)),
        (conv(kernel_shape=(1, 5)), "kernel_shape", (1, 5)),
        (conv(dilations=(2, 3)), "kernel_span", (5, 7)),
        (conv(), "strides", (1,)),
        (conv(group=4), "group", (4,)),
        (conv(), "pads", ()),
        (conv(auto_pad="SAME_LOWER"), "pads", (1,)),
        (conv(), "no_such_thing", ()),
        (operator("GlobalMaxPool", (2, 3, 4, 5)), "reduced", (4, 5)),
        (operator("GlobalMaxPool", (2, 3, 4, 5)), "batch", (2,)),
        (operator("ReduceMean", (2, 3, 4), axes=(-1,)), "reduced", (4,)),
        (operator("ReduceMean", (2, 3, 4)), "reduced", (2, 3, 4)),
        (operator("ArgMax", (2, 3, 4)), "reduced", (2,)),
        (operator("Softmax", (2, 3, 4), axis=1), "rows", (8,)),
        (operator("Resize", (1, 1, 2, 3), out=(1, 1, 4, 9)), "scales", (2, 3)),
    ],
)
def test_quantities_are_read_as_onnx_means_them(
    asked: Operator, name: str, values: tuple[float, ...]
) -> None:
    """Attributes, their defaults, and what follows from shapes."""
    assert quantity(asked, name) == values

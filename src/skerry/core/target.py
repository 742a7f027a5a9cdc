"""What a piece of hardware can do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProcessorKind(StrEnum):
    """The kinds of processor a target may have."""

    CPU = "cpu"
    GPU = "gpu"
    NPU = "npu"
    DSP = "dsp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number and where it is from.

    Attributes:
        value: The number, in the unit that the field's name gives; None if unknown.
        source: Where it was read: a document's title and section, or a URL.
    """

    value: float | None
    source: str


class Take(StrEnum):
    """Which part of a list of numbers a limit looks at."""

    EACH = "each"
    FIRST = "first"
    PRODUCT = "product"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a quantity of an operator must keep on a processor.

    Attributes:
        quantity: An ONNX attribute, such as `strides`, or a quantity that
            `skerry.adapt` computes from the shapes, such as `scales` or `batch`.
        take: Of a list: each entry, the first one (the height), or the product.
        at_least: Smallest value allowed.
        at_most: Largest value allowed.
        one_of: The values allowed, numbers or words; None for any.
    """

    quantity: str
    take: Take = Take.EACH
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[float | str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRule:
    """Conditions under which a processor runs some operators natively.

    Several rules may name one operator: it runs if one of them holds.

    Attributes:
        operators: ONNX operator types.
        dtypes: The numpy dtype names of the activations taken.
        weight_dtypes: Those of a constant second input; None for any.
        constant_weights: Whether the second input must be a constant.
        max_rank: Most dimensions that a tensor may have; None for any.
        limits: What the operator's quantities must keep, all of them.
    """

    operators: frozenset[str]
    dtypes: frozenset[str]
    weight_dtypes: frozenset[str] | None = None
    constant_weights: bool = False
    max_rank: int | None = None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """One processor of a target.

    Attributes:
        name: Its name, unique in the target.
        kind: CPU, GPU, NPU or DSP.
        runs_everything: Whether it runs any operator of ONNX itself, in any dtype (a
            CPU with a full runtime).
        rules: What it runs natively otherwise.
        shares_memory_with: The processor whose memory and storage it uses.
        peak_gops: Peak 10⁹ operations a second (a multiply-add is two) at INT8.
        int8_speedup: Peak rate at INT8 ÷ peak rate at float32.
        bandwidth_gb_s: Of the memory for activations, 10⁹ bytes a second.
        storage_bandwidth_gb_s: Of the memory for weights, 10⁹ bytes a second.
        memory_bytes: Memory for activations (SRAM where the processor has its own).
        storage_bytes: Memory for weights (flash on a microcontroller).
    """

    name: str
    kind: ProcessorKind
    runs_everything: bool = False
    rules: tuple[OperatorRule, ...] = ()
    shares_memory_with: str | None = None
    peak_gops: Figure | None = None
    int8_speedup: Figure | None = None
    bandwidth_gb_s: Figure | None = None
    storage_bandwidth_gb_s: Figure | None = None
    memory_bytes: Figure | None = None
    storage_bytes: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A piece of hardware: its processors, in order of preference.

    Attributes:
        name: Its short name, as the command line takes it.
        title: One line for people.
        processors: Most wanted first; what one cannot run falls back to the next.
        operators_source: Where the operator tables were read.
    """

    name: str
    title: str
    processors: tuple[Processor, ...]
    operators_source: str

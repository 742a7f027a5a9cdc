"""What a piece of hardware can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeLimit:
    """A range that an operator's attribute must keep on a processor.

    Attributes:
        attribute: The ONNX attribute, such as `strides`; each entry of a list counts.
        at_least: Smallest value allowed.
        at_most: Largest value allowed.
    """

    attribute: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRule:
    """How a processor runs one operator natively.

    Attributes:
        dtypes: The numpy dtype names of the activations it takes.
        limits: What its attributes must keep.
        max_rank: Most dimensions its tensors may have; None for any.
        constant_weights: Whether its second input must be a constant.
    """

    dtypes: frozenset[str]
    limits: tuple[AttributeLimit, ...] = ()
    max_rank: int | None = None
    constant_weights: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """One processor of a target.

    Attributes:
        name: Its name, unique in the target.
        kind: CPU, GPU, NPU or DSP.
        operators: What it runs natively, by ONNX operator type.
        runs_everything: Whether it runs any ONNX operator (a CPU with a full runtime).
        peak_gops: Peak 10⁹ operations a second (a multiply-add is two) at INT8.
        bandwidth_gb_s: Memory bandwidth, 10⁹ bytes a second.
        memory_bytes: Memory for activations (SRAM where the processor has its own).
        storage_bytes: Memory for weights (flash on a microcontroller).
    """

    name: str
    kind: ProcessorKind
    operators: Mapping[str, OperatorRule] = field(default_factory=dict)
    runs_everything: bool = False
    peak_gops: Figure | None = None
    bandwidth_gb_s: Figure | None = None
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

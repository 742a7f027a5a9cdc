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
class Citation:
    """Where something was read, so that anybody can read it again.

    Attributes:
        source: The document: its title and section.
        url: Where it can be read.
        quote: Its words; ` … ` stands between parts that are apart. Empty where
            nothing was found: then `source` says where it was looked for.
        date: When it was looked up, as 2026-11-21.
    """

    source: str
    url: str = ""
    quote: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Citation):
    """A number and the words that carry it.

    Attributes:
        value: The number, in the unit that the field's name gives; None if unknown.
        computed: How the value follows from numbers of the quote and factors between
            units, such as `128 * 2 * 500 / 1000`; empty where the quote holds it.
    """

    value: float | None
    computed: str = ""


class SparsityKind(StrEnum):
    """What a processor makes of zeros among the weights."""

    NONE = "none"
    """Multiplies them like any other."""
    COMPRESSED = "compressed"
    """Stores them in fewer bytes, and multiplies them like any other."""
    STRUCTURED_2_4 = "2:4"
    """Skips two of each four weights, if those two are zeros."""
    UNSTRUCTURED = "unstructured"
    """Skips zeros wherever they are."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsity(Citation):
    """What a processor makes of zeros among the weights, and who says so."""

    kind: SparsityKind


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
class OperatorCost:
    """What an operator costs on a processor, as it was measured or compiled.

    Attributes:
        fixed_us: Of each call, 10⁻⁶ s.
        us_per_million_macs: Of a million multiply-accumulates.
        us_per_mb: Of 10⁶ bytes read and written, weights and activations.
        samples: How many operators the three follow from.
        error: Median relative error of the three on those, 0–1.
    """

    fixed_us: float = 0.0
    us_per_million_macs: float = 0.0
    us_per_mb: float = 0.0
    samples: int = 0
    error: float = 0.0

    def time_us(self, macs: int, size_bytes: int) -> float:
        """Estimate the time of one call."""
        return (
            self.fixed_us
            + self.us_per_million_macs * macs / 1e6
            + self.us_per_mb * size_bytes / 1e6
        )


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
        evidence: Who says so, where it is not the processor's operator table.
        cost: What they cost there; None where nobody measured it.
    """

    operators: frozenset[str]
    dtypes: frozenset[str]
    weight_dtypes: frozenset[str] | None = None
    constant_weights: bool = False
    max_rank: int | None = None
    limits: tuple[Limit, ...] = ()
    evidence: Citation | None = None
    cost: OperatorCost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Operators that somebody says a processor does not run.

    Attributes:
        operators: ONNX operator types.
        evidence: Who says so.
    """

    operators: frozenset[str]
    evidence: Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """One processor of a target.

    Attributes:
        name: Its name, unique in the target.
        kind: CPU, GPU, NPU or DSP.
        runs_everything: Whether it runs any operator of ONNX itself, in any dtype (a
            CPU with a full runtime).
        rules: What it runs natively otherwise.
        rules_complete: Whether it refuses what no rule names. False where the public
            operator table is partial or missing: then nobody knows, and an audit says
            so.
        refusals: What it is known to refuse all the same.
        first_subgraph_only: Whether it takes only what comes before the first operator
            that it refuses, and nothing after.
        operators_source: Where its operator table was read.
        toolchain: The compiler or runtime that brings a model to it.
        toolchain_options: What that is told on its command line for this processor.
        shares_memory_with: The processor whose memory and storage it uses.
        peak_gops: Peak 10⁹ operations a second (a multiply-add is two) at INT8.
        peak_fp16_gops: The same at FP16.
        peak_fp32_gops: The same at FP32.
        int8_speedup: Peak rate at INT8 ÷ peak rate at float32.
        bandwidth_gb_s: Of the memory for activations, 10⁹ bytes a second.
        storage_bandwidth_gb_s: Of the memory for weights, 10⁹ bytes a second.
        memory_bytes: Memory for activations (SRAM where the processor has its own).
        storage_bytes: Memory for weights (flash on a microcontroller).
        cache_bytes: Fast memory of its own, filled from the others; what is larger
            runs, but slower.
        power_mw: What it draws at work.
        wake_energy_uj: What it costs to wake it from its sleep, in millionths of a
            joule.
        sparsity: What it makes of zeros among the weights.
    """

    name: str
    kind: ProcessorKind
    runs_everything: bool = False
    rules: tuple[OperatorRule, ...] = ()
    rules_complete: bool = True
    refusals: tuple[Refusal, ...] = ()
    first_subgraph_only: bool = False
    operators_source: Citation | None = None
    toolchain: str = ""
    toolchain_options: tuple[str, ...] = ()
    shares_memory_with: str | None = None
    peak_gops: Figure | None = None
    peak_fp16_gops: Figure | None = None
    peak_fp32_gops: Figure | None = None
    int8_speedup: Figure | None = None
    bandwidth_gb_s: Figure | None = None
    storage_bandwidth_gb_s: Figure | None = None
    memory_bytes: Figure | None = None
    storage_bytes: Figure | None = None
    cache_bytes: Figure | None = None
    power_mw: Figure | None = None
    wake_energy_uj: Figure | None = None
    sparsity: Sparsity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """What carries tensors between two processors.

    Attributes:
        between: The names of the two.
        bandwidth_gb_s: 10⁹ bytes a second, in one direction.
        energy_pj_byte: What one byte costs on its way, in 10⁻¹² joule.
    """

    between: tuple[str, str]
    bandwidth_gb_s: Figure | None = None
    energy_pj_byte: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A piece of hardware: its processors, in order of preference.

    Attributes:
        name: Its short name, as the command line takes it.
        title: One line for people.
        processors: Most wanted first; what one cannot run falls back to the next, and
            where there is none, the model does not run.
        buses: What lies between processors that share no memory.
        power_mw: What the whole of it draws at work.
    """

    name: str
    title: str
    processors: tuple[Processor, ...]
    buses: tuple[Bus, ...] = ()
    power_mw: Figure | None = None

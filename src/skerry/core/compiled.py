"""What a compiler made of a model: where each operator runs, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.core.target import ProcessorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledOperator:
    """One operator as the compiler schedules it.

    A compiler may take one operator of the model apart into several of its own, or
    fuse several into one; their names say which.

    Attributes:
        name: Of the tensor it makes, in the compiler's words.
        source: The operator of the model that it comes from, in the model's words.
        op_type: What the compiler runs for it, in its own words.
        kind: The kind of processor it runs on.
        cycles: Of that processor's clock; 0 where the compiler counts none.
        macs: Multiply-accumulates.
    """

    name: str
    source: str
    op_type: str
    kind: ProcessorKind
    cycles: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a compiler says of a model for one target.

    Attributes:
        toolchain: The compiler and its version.
        operators: In the order in which they run.
        cycles: Of the accelerator, in all.
        memory_bytes: Of the fast memory (SRAM) for activations.
        storage_bytes: Of the memory for weights (flash or DRAM).
        time_ms: Of one inference, without what falls back to the CPU.
        macs: Multiply-accumulates of one inference on the accelerator.
    """

    toolchain: str
    operators: tuple[CompiledOperator, ...]
    cycles: int
    memory_bytes: int
    storage_bytes: int
    time_ms: float
    macs: int

    @property
    def fallbacks(self) -> tuple[CompiledOperator, ...]:
        """The operators that are left to the CPU."""
        return tuple(one for one in self.operators if one.kind is ProcessorKind.CPU)

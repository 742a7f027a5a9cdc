"""A compiler of TFLite files that compiles nothing: it places operators by their name.

The shipped fake of `skerry.core.seams.Toolchain`, for tests of what asks a compiler.
"""

from __future__ import annotations

from pathlib import Path

from skerry.adapt.tflite import operator_codes
from skerry.core.compiled import Compiled, CompiledOperator
from skerry.core.errors import ModelError
from skerry.core.files import read_file
from skerry.core.model import Model
from skerry.core.target import ProcessorKind, Target

CYCLES = 100
CYCLES_PER_MS = 100_000


class SimulatedToolchain:
    """Leaves some operators to the CPU, fails on others, takes 100 cycles for the rest.

    Args:
        left: Operators of TFLite's schema, such as `SIN`, that stay on the CPU.
        fatal: Operators that it fails on, as compilers do.

    Attributes:
        compiled: How many models it compiled or failed on.
    """

    name = "simulated"
    version = "simulated 1.0"

    def __init__(
        self,
        *,
        left: frozenset[str] = frozenset(),
        fatal: frozenset[str] = frozenset(),
    ) -> None:
        self.compiled = 0
        self._left = left
        self._fatal = fatal

    def compile(
        self, model: Model, target: Target, out: Path | None = None
    ) -> Compiled:
        """Place the operators of a TFLite file; nothing is written.

        Raises:
            ModelError: It is no TFLite file, or holds an operator that is fatal.
        """
        del target, out
        self.compiled += 1
        codes = operator_codes(read_file(model.path), name=model.path.name)
        if fatal := sorted(self._fatal & {code for code, _ in codes}):
            raise ModelError(
                f"{self.name} fails on {fatal[0]}", hint="Take it out of the model."
            )
        operators = tuple(
            CompiledOperator(
                name=made,
                source=code,
                op_type=code,
                kind=ProcessorKind.CPU if code in self._left else ProcessorKind.NPU,
                cycles=0 if code in self._left else CYCLES,
                macs=0,
            )
            for code, made in codes
        )
        cycles = sum(one.cycles for one in operators)
        return Compiled(
            toolchain=self.version,
            operators=operators,
            cycles=cycles,
            memory_bytes=0,
            storage_bytes=0,
            time_ms=cycles / CYCLES_PER_MS,
            macs=0,
        )

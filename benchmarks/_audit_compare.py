"""One model, placed by the audit and by Vela, operator by operator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skerry.adapt.audit import Audit, audit
from skerry.adapt.tflite import operator_codes, read_tflite_graph
from skerry.core.compiled import Compiled
from skerry.core.seams import Toolchain
from skerry.core.target import Target
from skerry.runtimes import open_any

NOTATION = frozenset({"DEQUANTIZE", "QUANTIZE"})
"""Where a file changes dtype: QDQ pairs to the audit, and no operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two place one model's operators.

    Attributes:
        operators: How many were compared.
        on_cpu: How many of them Vela leaves to the CPU.
        differing: What each of those is that the two place differently.
        audited_ms: The audit's estimate of the time; None where it has none.
        compiled_ms: Vela's.
    """

    operators: int
    on_cpu: int
    differing: tuple[str, ...]
    audited_ms: float | None
    compiled_ms: float


def compare(path: Path, target: Target, toolchain: Toolchain) -> Comparison:
    """Audit a TFLite file first, and only then have it compiled."""
    content = path.read_bytes()
    found = audit(read_tflite_graph(content, name=path.name), target)
    compiled = toolchain.compile(open_any(path), target)
    return _compared(content, found, compiled, target)


def _compared(
    content: bytes, found: Audit, compiled: Compiled, target: Target
) -> Comparison:
    left = {operator.name for operator in compiled.fallbacks}
    wanted = target.processors[0].name
    reasons: dict[str, list[str]] = {}
    for one in found.operators:
        source, _, what = one.name.rpartition(":")
        reasons.setdefault(source, [])
        # A Transpose that reading put between ONNX's layout and TFLite's is in no file.
        if one.processor != wanted and not what.startswith("Transpose_"):
            reasons[source].append(f"{one.op_type}: {one.reason}")
    differing, compared, on_cpu = [], 0, 0
    for code, name in operator_codes(content, name="the model"):
        if code in NOTATION or name not in reasons:
            continue
        compared += 1
        on_cpu += name in left
        refused = reasons[name]
        if code == "TRANSPOSE":
            refused = [
                one.reason
                for one in found.operators
                if one.name.rpartition(":")[0] == name and one.processor != wanted
            ]
        if (name in left) != bool(refused):
            where = "CPU" if name in left else "NPU"
            why = refused[0] if refused else "accepted"
            differing.append(f"{code} {name}: Vela {where}, audit {why}")
    return Comparison(
        operators=compared,
        on_cpu=on_cpu,
        differing=tuple(differing),
        audited_ms=None if found.time_us is None else found.time_us / 1000,
        compiled_ms=compiled.time_ms,
    )

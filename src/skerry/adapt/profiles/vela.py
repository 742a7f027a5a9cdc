"""What Arm's Vela estimates of each operator: its `…_per-layer.csv`.

The file counts cycles; what a cycle takes follows from the summary that Vela writes
beside it, where the same inference stands in cycles and in seconds.
"""

from __future__ import annotations

from skerry.adapt.vela import parse_compiled
from skerry.core.compiled import Compiled
from skerry.core.errors import DataError
from skerry.core.profile import OperatorTime, Profile

PER_LAYER = "_per-layer.csv"
"""Ends the name of the file that Vela writes of the operators."""

_HEAD = b"Original Operator,NNG Operator,Target,"


def is_vela(content: bytes) -> bool:
    """Whether a file begins as Vela's per-layer file does."""
    return content.startswith(_HEAD)


def read_vela(content: bytes, summary: bytes, *, name: str) -> Profile:
    """Read both files of one compilation.

    Args:
        content: `…_per-layer.csv`.
        summary: `…_summary_….csv`; empty where there is none.
        name: What messages call the first.

    Raises:
        DataError: One of the two is not what Vela writes, or the second is missing.
    """
    if not summary:
        raise DataError(
            f"{name} counts cycles, and no summary beside it says what one takes",
            hint="Keep both of Vela's files in one folder: NAME_per-layer.csv and "
            "NAME_summary_….csv.",
        )
    return profile_of(parse_compiled(content, summary, toolchain="vela"))


def profile_of(compiled: Compiled) -> Profile:
    """Make a profile of what the compiler estimates; a thread for each processor."""
    a_cycle_ms = compiled.time_ms / compiled.cycles if compiled.cycles else 0.0
    operators = tuple(
        OperatorTime(
            name=each.name or each.source,
            op_type=each.op_type,
            latency_ms=each.cycles * a_cycle_ms,
            macs=each.macs,
            processor=each.kind.value.upper(),
        )
        for each in compiled.operators
    )
    notes = ["Times are the compiler's estimates."]
    if compiled.fallbacks:
        notes.append("What falls back to the CPU has no time.")
    return Profile(
        runtime="vela",
        threads=0,
        repeats=0,
        operators=operators,
        memory_bytes=compiled.memory_bytes,
        notes=tuple(notes),
    )

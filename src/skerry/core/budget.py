"""What the user demands of a model, and whether a result keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits a model must keep; None where the user demands nothing.

    Attributes:
        accuracy_drop: Largest loss of the task's metric, as a fraction (0.005 is
            half a point); of the value before where the metric is in the unit of the
            labels, as a regression's errors are.
        latency_ms: Largest median latency of one inference on the target.
        memory_bytes: Largest peak memory.
        size_bytes: Largest model file.
        energy_mj: Largest energy of one inference, in millijoules.
    """

    accuracy_drop: float | None = None
    latency_ms: float | None = None
    memory_bytes: int | None = None
    size_bytes: int | None = None
    energy_mj: float | None = None

    def breaches(self, measured: Mapping[str, float]) -> list[Breach]:
        """Compare measured figures with the limits.

        Args:
            measured: Figures by the name of the limit; a limit without a figure is
                a breach too, for what was not measured does not hold.

        Returns:
            One entry a limit that does not hold, in the order of the fields.
        """
        found = []
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is None:
                continue
            got = measured.get(field.name)
            if got is None or not got <= limit:
                found.append(Breach(limit=field.name, allowed=limit, measured=got))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A limit that does not hold; `measured` is None where nothing was measured."""

    limit: str
    allowed: float
    measured: float | None

    def __str__(self) -> str:
        got = "not measured" if self.measured is None else f"{self.measured:g}"
        return f"{self.limit}: {got}, allowed {self.allowed:g}"

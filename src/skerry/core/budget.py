"""What the user demands of a model, and whether a result keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields


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
        conditions: Largest loss of the metric under a condition, by its name (`dark`,
            `blur`, …): a fraction as `accuracy_drop` is one, of what the source model
            scores under the same condition.
    """

    accuracy_drop: float | None = None
    latency_ms: float | None = None
    memory_bytes: int | None = None
    size_bytes: int | None = None
    energy_mj: float | None = None
    conditions: Mapping[str, float] = field(default_factory=dict)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are demanded, by name; a condition's is `conditions.dark`."""
        names = [one.name for one in fields(self) if one.name != "conditions"]
        found = {name: getattr(self, name) for name in names}
        given = {name: limit for name, limit in found.items() if limit is not None}
        return given | {
            condition_limit(name): limit for name, limit in self.conditions.items()
        }

    def breaches(self, measured: Mapping[str, float]) -> list[Breach]:
        """Compare measured figures with the limits.

        Args:
            measured: Figures by the name of the limit; a limit without a figure is
                a breach too, for what was not measured does not hold.

        Returns:
            One entry a limit that does not hold, in the order of `limits`.
        """
        found = []
        for name, limit in self.limits.items():
            got = measured.get(name)
            if got is None or not got <= limit:
                found.append(Breach(limit=name, allowed=limit, measured=got))
        return found


def condition_limit(condition: str) -> str:
    """The name of the limit of the loss under a condition."""
    return f"conditions.{condition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A limit that does not hold; `measured` is None where nothing was measured."""

    limit: str
    allowed: float
    measured: float | None

    def __str__(self) -> str:
        got = "not measured" if self.measured is None else f"{self.measured:g}"
        return f"{self.limit}: {got}, allowed {self.allowed:g}"

"""Compression as data: which steps, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.core.errors import UsageError

ParamValue = str | int | float | bool | list[str]
"""What a step's parameter may be in a recipe file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """A parameter that is one of some values; the first is the usual one.

    Raises:
        UsageError: There are none.
    """

    values: tuple[ParamValue, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("a choice of no values", hint="Give at least one value.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A parameter that is a number between two others, both included.

    Attributes:
        low: The least value.
        high: The largest value.
        is_integer: Whether it is a whole number.
        is_log: Whether ratios count rather than differences, as for learning rates.

    Raises:
        UsageError: The ends are the wrong way round, or not above 0 for ratios.
    """

    low: float
    high: float
    is_integer: bool = False
    is_log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise UsageError(
                f"a span from {self.low:g} to {self.high:g}",
                hint="Give the lower end first.",
            )
        if self.is_log and self.low <= 0:
            raise UsageError(
                f"a span of ratios from {self.low:g}, expected above 0",
                hint="Begin it above 0, or count differences.",
            )


Space = Mapping[str, Choices | Span]
"""What a search may set each parameter of a step to: the attribute `SPACE` of a step's
class, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One step of a recipe: the name of a registered step and its parameters."""

    name: str
    params: Mapping[str, ParamValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps in the order in which they are applied."""

    steps: tuple[StepSpec, ...]

"""Compression as data: which steps, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ParamValue = str | int | float | bool | list[str]
"""What a step's parameter may be in a recipe file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One step of a recipe: the name of a registered step and its parameters."""

    name: str
    params: Mapping[str, ParamValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps in the order in which they are applied."""

    steps: tuple[StepSpec, ...]

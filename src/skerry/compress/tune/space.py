"""What recipes a search may propose: slots in order, each one step or none.

A space is walked by a function that chooses, name after name: drawing at random,
asking a model of what was good, or taking what another recipe has are the same walk.
So a parameter is only chosen where its step is, and no sampler needs to know of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any

import numpy as np

from skerry.core.errors import SkerryError
from skerry.core.plugins import STEPS, TRAIN_STEPS, find, names
from skerry.core.recipe import Choices, ParamValue, Recipe, Space, Span, StepSpec

SKIP = "none"
"""The choice of a slot that is left empty."""

Choose = Callable[[str, Choices | Span], ParamValue]
"""Chooses the value of a name from its range."""

Point = dict[str, ParamValue]
"""What was chosen on a walk, by name."""

FIRST = (("prune_layers",), ("prune",), ("distil",))
LAST = ("qat", "quantize", "half", "codebook")
"""Steps in the order in which they make sense: what changes the net, then what changes
its numbers, of which one is enough."""

APART = ("resize", "sparsify")
"""Steps that only a search file names: one changes what samples must look like, the
other nothing that a trial measures unless the runtime skips zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpace:
    """A step and the ranges of its parameters.

    Attributes:
        name: As it is registered.
        fixed: Parameters that are not searched.
        searched: Ranges of those that are.
    """

    name: str
    fixed: Mapping[str, ParamValue] = field(default_factory=dict)
    searched: Space = field(default_factory=dict)

    def known(self) -> dict[str, ParamValue]:
        """Its parameters as they are unless told otherwise."""
        return {**step_defaults(self.name), **self.fixed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place in the recipe.

    Attributes:
        steps: What may stand there.
        may_skip: Whether it may be left empty.
    """

    steps: tuple[StepSpace, ...]
    may_skip: bool = True

    @property
    def choices(self) -> Choices:
        """The names of what may stand there."""
        known = tuple(step.name for step in self.steps)
        return Choices(values=(*known, SKIP) if self.may_skip else known)

    def find(self, name: ParamValue) -> StepSpace | None:
        """The step of a name; None for the empty place."""
        return next((step for step in self.steps if step.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """All recipes that a search may propose.

    Attributes:
        slots: In the order of the recipe.

    Example:
        >>> dtypes = {"dtype": Choices(values=("float16", "bfloat16"))}
        >>> half = StepSpace(name="half", searched=dtypes)
        >>> space = SearchSpace(slots=(Slot(steps=(half,), may_skip=False),))
        >>> space.recipe(lambda name, choices: choices.values[-1]).steps[0].params
        {'dtype': 'bfloat16'}
    """

    slots: tuple[Slot, ...]

    def recipe(self, choose: Choose) -> Recipe:
        """Walk the space; what has one value only is not asked for."""
        steps = []
        for number, slot in enumerate(self.slots):
            step = slot.find(_chosen(f"{number}", slot.choices, choose))
            if step is None:
                continue
            params = dict(step.fixed)
            for key, one in step.searched.items():
                params[key] = _chosen(_name(number, step, key), one, choose)
            steps.append(StepSpec(name=step.name, params=params))
        return Recipe(steps=tuple(steps))

    def point(self, recipe: Recipe) -> Point | None:
        """What a walk chose, or would choose, to make a recipe; None where none does.

        Parameters that the recipe does not name are as the step has them by default.
        """
        point: Point = {}
        left = list(recipe.steps)
        for number, slot in enumerate(self.slots):
            step = slot.find(left[0].name) if left else None
            if step is None:
                if not slot.may_skip:
                    return None
                point[f"{number}"] = SKIP
                continue
            given = {**step_defaults(step.name), **left.pop(0).params}
            if any(
                given.get(key) != value
                for key, value in step.known().items()
                if key not in step.searched
            ):
                return None
            point[f"{number}"] = step.name
            for key, one in step.searched.items():
                if not _is_in(given.get(key), one):
                    return None
                point[_name(number, step, key)] = given[key]
        return None if left else point

    def own(self, recipes: Iterable[Recipe]) -> tuple[Recipe, ...]:
        """Those of some recipes that the space holds, each in its own words."""
        points = [self.point(recipe) for recipe in recipes]
        return tuple(self.recipe(_follow(one)) for one in points if one is not None)


def draw(rng: np.random.Generator, one: Choices | Span) -> ParamValue:
    """Draw a value of a range at random."""
    if isinstance(one, Choices):
        return one.values[int(rng.integers(len(one.values)))]
    low, high = np.log([one.low, one.high]) if one.is_log else (one.low, one.high)
    value = float(rng.uniform(low, high))
    value = float(np.exp(value)) if one.is_log else value
    value = min(max(value, one.low), one.high)
    return round(value) if one.is_integer else value


def near(
    space: SearchSpace, recipe: Recipe, count: int, rng: np.random.Generator
) -> Recipe:
    """A recipe with so many of its choices drawn anew, and what follows from them."""
    point = space.point(recipe) or {}
    known = list(point)
    redrawn = set(rng.choice(known, min(count, len(known)), replace=False))

    def choose(name: str, one: Choices | Span) -> ParamValue:
        is_kept = name in point and name not in redrawn
        return point[name] if is_kept else draw(rng, one)

    return space.recipe(choose)


def default_space(
    *, with_training: bool = False, ranges: Mapping[str, Space] | None = None
) -> SearchSpace:
    """The space of all registered steps that say what they may be tuned over.

    Args:
        with_training: Whether steps that train are among them.
        ranges: Further ranges by name of step, such as which operators stay in float;
            they replace those of the step.
    """
    groups = (TRAIN_STEPS, STEPS) if with_training else (STEPS,)
    spaces = {
        name: {**space, **(ranges or {}).get(name, {})}
        for group in groups
        for name in names(group)
        if (space := declared_space(name))
    }
    ours = {*APART, *LAST, *(name for slot in FIRST for name in slot)}
    others = tuple((name,) for name in sorted(spaces) if name not in ours)
    wanted = [
        tuple(StepSpace(name=name, searched=spaces[name]) for name in slot)
        for slot in (
            tuple(name for name in slot if name in spaces)
            for slot in (*FIRST, *others, LAST)
        )
    ]
    return SearchSpace(slots=tuple(Slot(steps=steps) for steps in wanted if steps))


def declared_space(name: str) -> Space:
    """What a step says it may be tuned over; nothing where it says nothing.

    Raises:
        The errors of `step_defaults`.
    """
    part: Any = find(step_group(name), name)
    space: Space = getattr(part, "SPACE", {})
    return space


@cache
def step_group(name: str) -> str:
    """The group that a step is registered in: of those that train, or of the others."""
    return TRAIN_STEPS if name in names(TRAIN_STEPS) else STEPS


@cache
def step_defaults(name: str) -> Mapping[str, ParamValue]:
    """The parameters of a step as they are unless told otherwise.

    Raises:
        UsageError: There is no such step.
        StateError, MissingExtraError: It cannot be imported.
    """
    given = signature(find(step_group(name), name)).parameters.values()
    return MappingProxyType(
        {
            one.name: list(one.default)
            if isinstance(one.default, tuple)
            else one.default
            for one in given
            if one.default is not Parameter.empty
        }
    )


def describe(recipe: Recipe) -> str:
    """A recipe in one line: each step with what differs from its defaults."""
    return " → ".join(map(_describe, recipe.steps)) or "the source as it is"


def _describe(step: StepSpec) -> str:
    try:
        usual = step_defaults(step.name)
    except SkerryError:
        usual = MappingProxyType({})
    said = [
        _say(key, value)
        for key, value in step.params.items()
        if value != usual.get(key)
    ]
    return f"{step.name} ({', '.join(said)})" if said else step.name


def _say(key: str, value: ParamValue) -> str:
    if isinstance(value, bool):
        return key if value else f"not {key}"
    if isinstance(value, list):
        return f"{key} {len(value)}"
    return f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"


def _follow(point: Point) -> Choose:
    return lambda name, _: point[name]


def _name(number: int, step: StepSpace, key: str) -> str:
    return f"{number}.{step.name}.{key}"


def _chosen(name: str, one: Choices | Span, choose: Choose) -> ParamValue:
    if isinstance(one, Choices) and len(one.values) == 1:
        return one.values[0]
    return choose(name, one)


def _is_in(value: ParamValue | None, one: Choices | Span) -> bool:
    if isinstance(one, Choices):
        return value in one.values
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and one.low <= value <= one.high  # type: ignore[operator]

"""How the model of a recipe sees samples: as its source does, unless it was resized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skerry.compress.recipe_files import make_step
from skerry.core.model import TensorSpec
from skerry.core.recipe import Recipe
from skerry.tasks.sample import SampleSource

if TYPE_CHECKING:
    from skerry.compress.resize import ResizeInput
    from skerry.tasks.task import Task

RESIZE = "resize"
"""The step that changes what samples look like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Samples and task of a source, as a model made of it takes them.

    Attributes:
        steps: What changed them, each with the inputs of the model before.
    """

    steps: tuple[tuple[ResizeInput, tuple[TensorSpec, ...]], ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether they are other than the source's."""
        return bool(self.steps)

    def samples(self, source: SampleSource) -> SampleSource:
        """The samples, for the model.

        Raises:
            DataError: They are no pictures, but inputs made already.
        """
        for step, inputs in self.steps:
            source = step.change_samples(source, inputs)
        return source

    def task(self, task: Task) -> Task:
        """The task, of the model.

        Raises:
            UsageError: It is not the source's.
        """
        for step, inputs in self.steps:
            task = step.change_task(task, inputs)
        return task


SAME = View()
"""What a model takes that reads what its source does."""


def view_of(recipe: Recipe, inputs: tuple[TensorSpec, ...]) -> View:
    """How the model of a recipe sees samples.

    Args:
        recipe: What makes it.
        inputs: Of the source.

    Raises:
        UsageError: A parameter is wrong.
        ModelError: The model takes no picture, or more than one.
    """
    steps = []
    for spec in recipe.steps:
        if spec.name != RESIZE:
            continue
        step: ResizeInput = make_step(spec)
        after = step.change_inputs(inputs)
        if after != inputs:
            steps.append((step, inputs))
            inputs = after
    return View(steps=tuple(steps))

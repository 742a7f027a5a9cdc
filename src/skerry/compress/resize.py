"""The recipe step `resize`: pictures of another size.

The dearest number of a model that reads pictures is how many pixels it reads. The
graph is brought to another size as it is, with its weights; what is made of pictures
before it and of its answers behind it must change with it, so the step also changes the
task and the samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from skerry.compress.ptq.quantize import StepContext
from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.recipe import Choices, ParamValue, Space, StepSpec
from skerry.graph import Graph
from skerry.graph.resolution import change_resolution, find_picture
from skerry.tasks.heads import BoxesScores, Fastestdet, Yolox
from skerry.tasks.sample import SampleSource
from skerry.tasks.samples import FolderSource
from skerry.tasks.steps import Crop, Letterbox, Resize
from skerry.tasks.task import Task

SCALES = (0.5, 0.625, 0.75, 0.875)
"""What a search may scale both sides by."""

_SIZED = Crop | Letterbox | Resize


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeInput:
    """Let a model take pictures of another size.

    Attributes:
        height: Rows of the picture; 0 leaves it to `scale`.
        width: Columns of the picture; 0 leaves it to `scale`.
        scale: What the sides are multiplied by where they are not given.
        multiple: What scaled sides are rounded to a multiple of: the largest stride of
            the model.

    Raises:
        UsageError: Only one side is given, or a number is out of range.
    """

    SPACE: ClassVar[Space] = {"scale": Choices(values=SCALES)}

    height: int = 0
    width: int = 0
    scale: float = 1.0
    multiple: int = 32

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 0 or bool(self.height) != bool(self.width):
            raise UsageError(
                f"the resolution is {self.height} × {self.width}, expected both sides",
                hint="Give height and width, or scale alone.",
            )
        if not 0 < self.scale <= 4 or self.multiple < 1:
            raise UsageError(
                f"scale is {self.scale!r} and multiple {self.multiple!r}, expected "
                "above 0 to 4, and 1 or more",
                hint="Use scale = 0.75 and multiple = 32.",
            )

    def sides(self, inputs: tuple[TensorSpec, ...]) -> tuple[int, int]:
        """Rows and columns of the picture that a model of these inputs is to take.

        Raises:
            ModelError: The model takes no picture, or more than one.
            UsageError: `scale` is to scale a side that the model leaves open.
        """
        if self.height:
            return self.height, self.width
        before = _sides(inputs)
        if before is None:
            raise UsageError(
                "the model takes pictures of any size: there is nothing to scale",
                hint="Give height and width.",
            )
        rows, columns = (
            max(1, round(side * self.scale / self.multiple)) * self.multiple
            for side in before
        )
        return (rows, columns) if self.scale != 1 else before

    def apply(self, graph: Graph, context: StepContext) -> Graph:  # noqa: ARG002 (what every step takes)
        """Return the graph at the other size; the one given stays as it was.

        Raises:
            ModelError: It cannot be told how something in the graph depends on the
                size; see `change_resolution`.
            UsageError: `scale` is to scale a side that the model leaves open.
        """
        sides = self.sides(graph.inputs)
        if sides == _sides(graph.inputs):
            return graph.copy()
        return change_resolution(graph, *sides)

    def change_inputs(self, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        """Return the inputs of the model that `apply` makes.

        Raises:
            ModelError: The model takes no picture, or more than one.
            UsageError: `scale` is to scale a side that the model leaves open.
        """
        picture, rows = find_picture(inputs)
        shape = list(picture.shape)
        shape[rows : rows + 2] = self.sides(inputs)
        resized = replace(picture, shape=tuple(shape))
        return tuple(resized if one is picture else one for one in inputs)

    def change_task(self, task: Task, inputs: tuple[TensorSpec, ...]) -> Task:
        """Return the task of the model that `apply` makes.

        Args:
            task: Of the model before.
            inputs: Of the model before.

        Raises:
            ModelError: The model takes no picture, or more than one.
            UsageError: `scale` is to scale a side that the model leaves open, or a
                step's size is not that of the model's input.
        """
        before, after = _sides(inputs), self.sides(inputs)
        sized = [place for place, one in enumerate(task.pre) if isinstance(one, _SIZED)]
        pre = list(task.pre)
        for place in sized:
            pre[place] = _scaled(pre[place], pre[sized[-1]], after)
        last = task.pre[sized[-1]] if sized else None
        if before and isinstance(last, _SIZED) and (last.height, last.width) != before:
            raise UsageError(
                f"the task makes pictures of {last.height} × {last.width}, the model "
                f"takes {before[0]} × {before[1]}",
                hint="Give the task of this model.",
            )
        post = tuple(_head(one, after) for one in task.post)
        return replace(task, pre=tuple(pre), post=post)

    def change_samples(
        self, source: SampleSource, inputs: tuple[TensorSpec, ...]
    ) -> SampleSource:
        """Return the same samples for the model that `apply` makes.

        Args:
            source: Pictures in a folder.
            inputs: Of the model before.

        Raises:
            DataError: The samples are no pictures, but inputs made already.
            ModelError: The model takes no picture, or more than one.
        """
        if not isinstance(source, FolderSource):
            raise DataError(
                "the samples are inputs made for one resolution, and cannot be resized",
                hint="Give a folder of pictures, and a task with pre steps.",
            )
        picture, _ = find_picture(self.change_inputs(inputs))
        return replace(
            source,
            spec=replace(source.spec, shape=picture.shape),
            task=self.change_task(source.task, inputs),
        )

    def spec(self) -> StepSpec:
        """This step as a recipe holds it."""
        params: Mapping[str, ParamValue] = {
            "height": self.height,
            "width": self.width,
            "scale": self.scale,
            "multiple": self.multiple,
        }
        return StepSpec(name="resize", params=params)


def _sides(inputs: tuple[TensorSpec, ...]) -> tuple[int, int] | None:
    """Rows and columns of the picture; None where one is open."""
    picture, rows = find_picture(inputs)
    height, width = picture.shape[rows : rows + 2]
    is_fixed = isinstance(height, int) and isinstance(width, int)
    return (height, width) if is_fixed else None  # type: ignore[return-value]


def _scaled(step: Any, last: Any, after: tuple[int, int]) -> Any:
    """A step of the size that leads to the model's; the last one makes just that."""
    height = round(step.height * after[0] / last.height)
    width = round(step.width * after[1] / last.width)
    return replace(step, height=max(1, height), width=max(1, width))


def _head(step: Any, after: tuple[int, int]) -> Any:
    """A head that reads the other size; one that reads fractions in pixels stays."""
    is_sized = isinstance(step, Fastestdet | Yolox) or (
        isinstance(step, BoxesScores) and (step.height, step.width) != (1, 1)
    )
    return replace(step, height=after[0], width=after[1]) if is_sized else step

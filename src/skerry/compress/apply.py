"""Apply the steps of a recipe to a graph, one after the other."""

from __future__ import annotations

from dataclasses import replace

from skerry.compress.ptq.quantize import StepContext
from skerry.compress.recipe_files import make_step
from skerry.compress.view import view_of
from skerry.core.recipe import Recipe
from skerry.graph import Graph


def apply_steps(graph: Graph, recipe: Recipe, context: StepContext) -> Graph:
    """Return what a recipe makes of a graph; the one given stays as it was.

    Args:
        graph: The model.
        recipe: Steps that do not train.
        context: What they may use; its samples are those of the graph given, and
            change with it.

    Raises:
        UsageError: There is no such step or parameter.
        SkerryError: As the steps do.
    """
    for spec in recipe.steps:
        view = view_of(Recipe(steps=(spec,)), graph.inputs)
        graph = make_step(spec).apply(graph, context)
        context = replace(context, calibration=view.samples(context.calibration))
    return graph

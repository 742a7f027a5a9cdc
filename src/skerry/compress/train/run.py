"""Apply a recipe that trains: steps on the module, then steps on its graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skerry.compress.apply import apply_steps
from skerry.compress.ptq.quantize import StepContext
from skerry.compress.recipe_files import make_step, split_steps
from skerry.compress.train.export import export_graph
from skerry.compress.train.training import LatencyOf, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.plugins import TRAIN_STEPS
from skerry.core.recipe import Recipe, StepSpec
from skerry.core.seams import Runtime
from skerry.graph import Graph, write_graph
from skerry.runtimes.torch import nn
from skerry.tasks.evaluate import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLog:
    """What one step that trains made of a module.

    Attributes:
        step: The step.
        score: The metric on the selection samples afterwards.
        parameters: How many numbers the module then has to train.
    """

    step: StepSpec
    score: float
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a recipe made.

    Attributes:
        module: The module after all steps that train.
        graph: Its graph after all steps.
        log: One entry a step that trains.
    """

    module: nn.Module
    graph: Graph
    log: tuple[StepLog, ...]


def train_recipe(
    training: Training,
    recipe: Recipe,
    *,
    runtime: Runtime,
    budget: Budget | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
    out: Path | None = None,
    latency_ms: LatencyOf | None = None,
) -> Trained:
    """Apply the steps that train, export the module, and apply the other steps.

    Args:
        training: The module, which stays as it was, and what trains it.
        recipe: The steps; those that train come first.
        runtime: What runs the graph while it is calibrated, and times it.
        budget: What must hold; steps may stop where it breaks.
        seed: Makes training repeatable.
        threads: CPU threads of the runtime.
        progress: Told of what is under way.
        out: Where the model is put, after each step that trains and at the end: an
            interrupted run leaves what stood before the step that it was in.
        latency_ms: What times models, for steps with a latency to reach; None does so
            on this machine.

    Raises:
        StorageError: The disk refused.
        UsageError: There is no such step or parameter, or a step that trains comes
            after one that does not.
        ModelError: The module cannot be exported, or training diverged.
        SkerryError: As the recipe's steps do.
    """
    first, second = split_steps(recipe)
    made = [(spec, make_step(spec, TRAIN_STEPS)) for spec in first]
    for spec in second:
        # What is wrong is told before anything is trained.
        make_step(spec)
    context = TrainContext(
        training=training,
        budget=budget or Budget(),
        seed=seed,
        progress=progress,
        runtime=runtime,
        latency_ms=latency_ms,
    )
    module, log = training.module, []
    graph = None
    for spec, step in made:
        module = step.apply(module, context)
        graph = _written(module, training, out)
        log.append(
            StepLog(
                step=spec,
                score=context.evaluate(module).value,
                parameters=sum(one.numel() for one in module.parameters()),
            )
        )
    if graph is None:
        graph = _written(module, training, None)
    graph_context = StepContext(
        calibration=training.calibration,
        runtime=runtime,
        threads=threads,
        progress=progress,
    )
    graph = apply_steps(graph, Recipe(steps=second), graph_context)
    if out is not None:
        write_graph(graph, out)
    return Trained(module=module, graph=graph, log=tuple(log))


def _written(module: nn.Module, training: Training, out: Path | None) -> Graph:
    graph = export_graph(
        module, training.example, inputs=training.inputs, outputs=training.outputs
    )
    if out is not None:
        write_graph(graph, out)
    return graph

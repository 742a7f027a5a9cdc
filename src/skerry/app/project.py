"""The project file `skerry.toml`: the model, its data and its task, written once.

Commands that run in its folder take from it what the command line leaves out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.core.budget import Budget
from skerry.core.config import from_table, read_toml
from skerry.core.durable import write_file
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from skerry.tasks.task import Task

PROJECT_FILE = "skerry.toml"
PROJECT_SCHEMA = "skerry.project/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a project is about.

    Attributes:
        model: The model's file.
        samples: Labelled samples.
        task: What the model is for.
        budget: What a compressed model must keep.
    """

    model: Path
    samples: Path
    task: Task
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProjectTable:
    model: str
    samples: str
    task: dict[str, Any]
    budget: Budget = field(default_factory=Budget)


def read_project(path: Path) -> Project:
    """Read a project file; its paths are relative to its folder.

    Raises:
        UsageError: It cannot be read or is not a project.
    """
    from skerry.tasks.task import task_from_table

    table = read_toml(path)
    schema = table.pop("schema", None)
    if schema != PROJECT_SCHEMA:
        raise UsageError(
            f"{path} has the schema {schema!r}, expected {PROJECT_SCHEMA!r}",
            hint="skerry init writes one; a newer one needs a newer Skerry.",
        )
    read = from_table(_ProjectTable, table, name=str(path))
    return Project(
        model=path.parent / read.model,
        samples=path.parent / read.samples,
        task=task_from_table(read.task, name=f"{path}: task"),
        budget=read.budget,
    )


def write_project(project: Project, path: Path) -> None:
    """Put a project file in place.

    Raises:
        StorageError: The disk refused.
    """
    import tomli_w

    from skerry.tasks.task import task_to_table

    table: dict[str, Any] = {
        "schema": PROJECT_SCHEMA,
        "model": _relative(project.model, path.parent),
        "samples": _relative(project.samples, path.parent),
        "task": task_to_table(project.task),
    }
    if limits := _budget_table(project.budget):
        table["budget"] = limits
    write_file(path, tomli_w.dumps(table).encode())


def _budget_table(budget: Budget) -> dict[str, Any]:
    table: dict[str, Any] = {
        name: limit for name, limit in budget.limits.items() if "." not in name
    }
    if budget.conditions:
        table["conditions"] = dict(budget.conditions)
    return table


def _relative(path: Path, folder: Path) -> str:
    """A path that still holds when the project's folder is moved with all in it."""
    full, home = path.resolve(), folder.resolve()
    return str(full.relative_to(home)) if full.is_relative_to(home) else str(full)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Model, samples and task, as far as they are known; None where they are not.

    `budget` is the project's; it demands nothing without one.
    """

    model: Path | None
    samples: Path | None
    task: Task | None
    budget: Budget = field(default_factory=Budget)


def complete(
    model: Path | None, samples: Path | None, task: Path | None, *, folder: Path
) -> Given:
    """Complete what was typed from the project file in a folder, if there is one.

    Args:
        model: The model's file, if it was given.
        samples: The samples, if they were given.
        task: A task file, if it was given.
        folder: Where the project file may be.

    Raises:
        UsageError: The task file or the project file cannot be read.
    """
    from skerry.tasks.task import load_task

    path = folder / PROJECT_FILE
    project = read_project(path) if os.path.lexists(path) else None
    own_task = load_task(task) if task else None
    if project is None:
        return Given(model=model, samples=samples, task=own_task)
    return Given(
        model=model or project.model,
        samples=samples or project.samples,
        task=own_task or project.task,
        budget=project.budget,
    )


def require(given: Given) -> Project:
    """Insist that nothing is missing.

    Raises:
        UsageError: Something is neither given nor in a project file.
    """
    if given.model and given.samples and given.task:
        return Project(
            model=given.model,
            samples=given.samples,
            task=given.task,
            budget=given.budget,
        )
    wanted = {"model": given.model, "samples": given.samples, "task": given.task}
    missing = " and ".join(name for name, value in wanted.items() if value is None)
    raise UsageError(
        f"no {missing} given, and no {PROJECT_FILE} here says it",
        hint=f"Give it, or write a {PROJECT_FILE}: skerry init MODEL SAMPLES",
    )


def require_model(model: Path | None, *, folder: Path) -> Path:
    """Insist on a model, given or in the project file.

    Raises:
        UsageError: Neither names one, or the project file cannot be read.
    """
    if model or (model := complete(None, None, None, folder=folder).model):
        return model
    raise UsageError(
        f"no model given, and no {PROJECT_FILE} here says it",
        hint="Give the path of an ONNX file.",
    )

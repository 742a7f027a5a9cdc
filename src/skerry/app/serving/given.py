"""What was typed for `skerry serve`: which models, and what belongs to which."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from skerry.app.budgets import join_budgets
from skerry.app.project import complete, require_model
from skerry.app.serving.sources import (
    COMPRESSED,
    ModelSource,
    Source,
    find_releases,
    name_of,
)
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.names import check_name, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was typed beside the models.

    Attributes:
        options: What is for one model or for all of them, `NAME=VALUE` or `VALUE`, by
            option: `task`, `runtime`, `gallery`, `golden`.
        shapes: Of the inputs of a single model.
        budget: Of each model that is no release.
    """

    options: Mapping[str, Sequence[str]]
    shapes: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)


def find_sources(models: Sequence[str], given: Given) -> list[Source]:
    """Find out what is to be served.

    Args:
        models: `PATH` or `NAME=PATH`; none at all stands for the model of skerry.toml.
        given: What was typed beside them.

    Raises:
        UsageError: Two have one name, a folder holds no release, an option is for a
            model that is none of them, or there is nothing to serve.
    """
    releases: list[Source] = []
    files: dict[str, Path] = {}
    for text in models or [str(require_model(None, folder=Path()))]:
        name, path = _split(text)
        if path.is_dir() and not (path / COMPRESSED).is_file():
            releases += find_releases(path)
            continue
        path = path / COMPRESSED if path.is_dir() else path
        name = name or name_of(path)
        if name in files:
            raise UsageError(
                f"two models are to be served as {name!r}",
                hint="Name them: skerry serve one=a.onnx two=b.onnx",
            )
        files[name] = path
    if given.shapes and len(files) != 1:
        raise UsageError(
            f"--shape is for a single model, got {len(files)}",
            hint="Serve it alone, or save it with its shapes.",
        )
    sources = _of_files(files, given)
    return [*releases, *(sources if models else map(_as_project, sources))]


def _of_files(files: Mapping[str, Path], given: Given) -> list[ModelSource]:
    chosen = {
        option: _choose(option, texts, files) for option, texts in given.options.items()
    }
    sources = []
    for name, path in files.items():
        of = {option: found.get(name) for option, found in chosen.items()}
        task, gallery, golden = (
            Path(text) if (text := of.get(option)) else None
            for option in ("task", "gallery", "golden")
        )
        sources.append(
            ModelSource(
                name=name,
                path=path,
                runtime=of.get("runtime") or "",
                task=task,
                gallery=gallery,
                golden=golden,
                shapes=given.shapes,
                budget=given.budget,
            )
        )
    return sources


def _as_project(source: ModelSource) -> ModelSource:
    """Complete what was typed from the project file."""
    project = complete(None, None, None, folder=Path())
    return replace(
        source,
        task=source.task or project.task,
        budget=join_budgets(source.budget, project.budget),
    )


def _split(text: str) -> tuple[str, Path]:
    """Read `NAME=PATH` or `PATH`; a file that has such a name is one."""
    name, sign, path = text.partition("=")
    if not sign or Path(text).exists():
        return "", Path(text)
    return check_name(name, kind="model"), Path(path)


def _choose(
    option: str, texts: Sequence[str], names: Collection[str]
) -> dict[str, str]:
    """What is said for each name; what names none is for all of them."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if sign and name in names:
            found[name] = value
        elif not sign or Path(text).exists():
            found |= {each: text for each in names if each not in found}
        else:
            raise UsageError(
                f"--{option} names {name[:80]!r}, which is not served",
                hint=did_you_mean(name, names),
            )
    return found
